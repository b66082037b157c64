"""What arguments mean that many methods take is said once, and shown by all of them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import innerloop as il
from innerloop.cli.options import described
from innerloop.methods import NAMED
from innerloop.methods.shared_arguments import completed


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_argument_has_its_sentence(name: str) -> None:
    factory = getattr(il, name)
    said = described(factory.__doc__)
    assert set(said) == set(inspect.signature(factory).parameters)
    assert all(said.values())


def test_a_factory_says_what_differs_and_the_rest_is_added_in_order() -> None:
    def factory(model, *, rate=0.1, loss=None, batch_norm="running", inductive=False):
        """Make it.

        Args:
            rate: of its
                own kind.
            batch_norm: there is none.

        Returns:
            Nothing.
        """

    shown = completed(factory.__doc__ or "", inspect.signature(factory).parameters)
    said = described(shown)
    assert list(said) == ["model", "rate", "loss", "batch_norm", "inductive"]
    assert (said["rate"], said["batch_norm"]) == ("of its own kind.", "there is none.")
    assert said["inductive"].startswith("with ``batch_norm=")  # as statistics are running ones
    assert shown.startswith("Make it.") and shown.endswith("Returns:\n    Nothing.")
    assert completed("Make it.", inspect.signature(factory).parameters) == "Make it."


def test_what_type_checkers_are_told_is_so() -> None:
    """They see no registry: a method without a line here works, but an editor does not know its arguments."""
    assert il.__file__ is not None
    code = ast.parse(Path(il.__file__).read_text(encoding="utf-8"))
    (block,) = [n for n in code.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    told = {a.name: n.module for n in ast.walk(block) if isinstance(n, ast.ImportFrom) for a in n.names}
    known = {name: module for name, module in told.items() if name in NAMED}
    assert known == {name: NAMED[name].target.split(":")[0] for name in known}
    assert {"maml", "protonet", "cnp", "rl2", "score_model", "learned_optimizer"} <= set(known)
