"""Help is plain sentences about flags, not Python's docstrings."""

import re

import pytest

from innerloop.cli import options
from innerloop.cli.main import main
from innerloop.cli.options import own, readable


def test_markup_and_none_are_put_in_words():
    assert readable("inner steps; None: ``inner_steps``.") == "inner steps; left out: inner_steps."
    assert readable("None is fine") == "None is fine"


@pytest.mark.parametrize(
    "line", ["train maml glyphs", "train maml sinusoid", "train mamlpp omniglot", "train maml quadratics", "adapt"]
)
def test_no_help_has_markup_or_none(line, capsys):
    if line.split()[-1] == "quadratics":
        from innerloop.tasks import TASKS

        line = f"train maml {next(name for name in TASKS if name.startswith('quad'))}"
    assert main([*line.split(), "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "``" not in said
    assert "None:" not in said


@pytest.mark.parametrize(
    "line",
    ["adapt", "predict", "export", "serve", "report", "evaluate", "train --resume run", "doctor", "run", "compare"],
)
def test_every_flag_has_its_sentence(line, capsys):
    assert main([*line.split(), "--help"]) == 0
    said = [*capsys.readouterr().out.splitlines(), ""]
    flags = [i for i, shown in enumerate(said) if re.match("  --", shown)]
    assert flags
    for i in flags:
        beside = said[i][23:25].strip() and said[i][23] == " "  # a long flag's sentence is on the next line
        assert beside or said[i + 1].startswith(" " * 24), said[i]


def test_settings_described_together_have_their_own_sentences():
    from innerloop.methods import ALGORITHMS
    from innerloop.registry import load
    from innerloop.tasks import TASKS

    for kind, registry, names in (
        ("task", TASKS, ("sinusoid", "glyphs", "omniglot")),
        ("algorithm", ALGORITHMS, ("maml", "reptile")),
    ):
        for name in names:
            found = options.options_of(load(kind, registry, name), leave_out=("model",))
            said = [option.help for option in found if option.help]
            assert len(set(said)) == len(said), name


def test_own_sentences():
    text = "rows of the support and of the query set."
    assert own("shots", text) == "rows of the support set."
    assert own("queries", text) == "rows of the query set."
    assert own("noise", text) == text
    factory = """Make it.

    Args:
        shots, queries: points of the support and of
            the query set.
    """
    assert options.described(factory) == {"shots": "points of the support set.", "queries": "points of the query set."}
    assert own("spread", "mean and standard deviation of a column.") == "standard deviation of a column."
