"""Flags from signatures; text and file values to typed settings."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from innerloop.cli import options, parts
from innerloop.cli.listing import registry_of
from innerloop.cli.main import main
from innerloop.cli.program import dashed, run, split
from innerloop.errors import ConfigError


def factory(model, *, inner_lr: float = 0.01, seed: int = 3, adapt: bool = True):
    """Make it.

    Args:
        inner_lr: rate of
            the inner loop.
        seed, adapt: both of these.
    """
    return model, inner_lr, seed, adapt


def test_keyword_only_parameters_become_options_with_their_sentences():
    found = {option.name: option for option in options.options_of(factory)}
    assert list(found) == ["inner_lr", "seed", "adapt"]
    assert found["inner_lr"].help == "rate of the inner loop."
    assert found["seed"].help == found["adapt"].help == "both of these."
    assert found["seed"].default == 3


def test_a_name_in_several_parts_belongs_to_the_first():
    listed = options.options_of(factory)
    made = options.sections([("algorithm", "", listed), ("tasks", "", listed), ("model", "", listed)], ["--adapt"])
    algorithm, tasks, model = made
    assert algorithm.flags == {"inner_lr": "--inner-lr", "seed": "--seed", "adapt": "--algorithm-adapt"}
    assert tasks.flags["seed"] == "--tasks-seed"
    assert model.flags["inner_lr"] == "--model-inner-lr"


def test_a_clash_that_the_rule_cannot_settle_is_not_silent():
    listed = options.options_of(factory)
    with pytest.raises(AssertionError, match="--tasks-seed"):
        options.sections([("algorithm", "", listed), ("tasks", "", listed)], ["--tasks-seed"])


@pytest.mark.parametrize("algorithm", registry_of("algorithms"))
@pytest.mark.parametrize("tasks", registry_of("tasks"))
def test_every_pair_has_flags_without_a_clash(algorithm, tasks):
    from innerloop.cli.train import _train

    made = parts.parts(
        {"training": None, "algorithm": algorithm, "tasks": tasks, "model": "mlp"}, options.own_flags(_train)
    )
    flags = [flag for section in made.sections for flag in section.flags.values()]
    assert len(set(flags)) == len(flags)
    assert {"--steps", "--seed", "--num-tasks"} <= set(flags)
    assert {s.key: len(s.flags) for s in made.sections} == {s.key: len(s.options) for s in made.sections}


def test_flags_left_out_stay_so_where_pydantic_is_imported(tmp_path):
    """cyclopts has pydantic check what it made as soon as anything imported it, and pydantic knows no unset flag."""
    pytest.importorskip("pydantic")
    line = (
        "train protonet glyphs --steps 1 --train-ways 5 --valid-tasks 2 --model conv4 --model-filters 2 --quiet --out"
    )
    assert main([*line.split(), str(tmp_path / "run")]) == 0


def test_underscores_in_flags_are_dashes_but_not_in_values():
    assert dashed(["--inner_lr=a_b", "c_d", "--x_y"]) == ["--inner-lr=a_b", "c_d", "--x-y"]
    assert dashed(["--", "--x_y"]) == ["--", "--x_y"]


@pytest.mark.parametrize(
    "words",
    [
        "maml sinusoid --steps 5 --amplitude 0.1 5",
        "--steps 5 maml sinusoid --amplitude 0.1 5",
        "--amplitude 0.1 5 maml --steps 5 sinusoid",
        "--flag maml sinusoid --phase -1 5",
        "--steps=5 maml --list a b sinusoid",
    ],
)
def test_positional_words_are_found_among_flags(words):
    arity = {"--steps": 1, "--amplitude": 2, "--flag": 0, "--phase": 2, "--list": None}
    found, rest = split(words.split(), arity, 2, ["maml", "sinusoid"])
    assert found == ["maml", "sinusoid"]
    assert sorted([*found, *rest]) == sorted(words.split())


def test_a_command_has_the_flags_of_its_signature_beside_those_of_the_parts(capsys):
    made = parts.parts({"tasks": "sinusoid"}, [])
    seen = []

    def work(fixed, records, /, *, num_tasks: int = 3, quiet: bool = False) -> int:
        """Do it.

        Args:
            num_tasks: How many.
            quiet: No word.
        """
        seen.append((fixed, made.merged(records)["tasks"], num_tasks, quiet))
        return 0

    assert options.own_flags(work) == {"--num-tasks": 1, "--quiet": 0, "--no-quiet": 0, "--help": 0}
    command = made.command(work, "fixed")
    assert run("work", command, ["--quiet", "--shots", "7"]) == 0
    assert seen == [("fixed", {"shots": 7}, 3, True)]
    assert run("work", command, ["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Do it." in said and "--num-tasks INT How many. [default: 3]" in said and "--shots INT" in said


PATTERNS = Sequence[str] | None


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["-3"], -3),
        (float, ["1e-3"], 1e-3),
        (int | None, ["none"], None),
        (float | str, ["0.5"], 0.5),
        (float | str, ["learned"], "learned"),
        (bool, ["no"], False),
        (Literal["a", "b"], ["b"], "b"),
        (tuple[float, float], ["0.1", "5"], (0.1, 5.0)),
        (Sequence[int], ["8"], (8,)),
        (int | Sequence[int], ["8"], 8),
        (int | Sequence[int], ["8", "9"], (8, 9)),
        (PATTERNS, ["head.*", "body"], ("head.*", "body")),
    ],
)
def test_words_become_values(annotation, words, value):
    parsed = options.parse(options.settable(annotation), words)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "words", "said"),
    [
        (float, ["nan"], "expected a finite number, got 'nan'"),
        (float, ["-inf"], "expected a finite number, got '-inf'"),
        (float | None, ["1e999"], "expected a finite number or none, got '1e999'"),
        (int, ["1.5"], "expected an integer, got '1.5'"),
        (int, ["1_000"], "expected an integer, got '1_000'"),
        (tuple[float, float], ["1"], "expected 2 finite numbers, got '1'"),
        (tuple[float, float], ["1", "nan"], "got '1' 'nan'"),
        (Literal["adam", "sgd"], ["adm"], "did you mean 'adam'?"),
    ],
)
def test_words_that_are_no_value_are_refused(annotation, words, said):
    with pytest.raises(ConfigError) as refused:
        options.parse(options.settable(annotation), words)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "given", "value"),
    [
        (float, 1, 1.0),
        (float, "1e-3", 1e-3),
        (int | None, None, None),
        (tuple[float, float], [0, 5], (0.0, 5.0)),
        (PATTERNS, ["a"], ("a",)),
        (bool, True, True),
    ],
)
def test_file_values_are_converted(annotation, given, value):
    found = options.check(options.settable(annotation), given)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("annotation", "given"),
    [(int, True), (int, 1.5), (int, "3"), (float, float("nan")), (float, True), (str, 3), (bool, 1), (PATTERNS, [3])],
)
def test_file_values_of_another_type_are_refused(annotation, given):
    with pytest.raises(ConfigError, match=r"expected .* got"):
        options.check(options.settable(annotation), given)


def test_functions_and_tables_are_no_flags():
    assert options.settable(Callable[[int], int] | None) is None
    assert options.settable(dict[str, Any]) is None
    assert options.settable(str | Callable[[int], int]) is str
