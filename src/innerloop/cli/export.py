"""`innerloop export`: an adapted learner, or a metric method with its adapting, for places without innerloop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from innerloop.cli import given_again, output, program
from innerloop.errors import ConfigError, InputError, first_few

if TYPE_CHECKING:
    from innerloop.meta_learner.fitted import Fitted


def export(argv: Sequence[str]) -> int:
    return program.run("export", _export, argv)


def _export(
    task: Path,
    /,
    *,
    out: Path,
    format: Literal["onnx", "torch-export"] = "onnx",
    ways: int | None = None,
    online: bool = False,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    force: bool = False,
) -> int:
    """Write an adapted learner as a file that runs without innerloop, checked against PyTorch on random inputs.

    Args:
        task: a task file of `innerloop adapt`; or the run directory of a metric method, whose adapting is exported
            with it: (support_x, support_y, query_x) to class probabilities.
        out: the file to write, such as task.onnx or task.pt2.
        format: onnx, or torch-export, whose archive holds pickled parts by torch's design: open it only where you
            trust its source.
        ways: classes of a task, for a run directory; left out: 5.
        online: write what goes on learning, for a task of values of a method such as alpaca: --out is a folder, which gets
            update, (state, x, y) to state; predict, (state, x) to mean and standard deviation; and state.npy, the state as it is.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        force: overwrite an existing file.
    """
    if not task.exists():
        raise InputError(f"expected a task file or a run directory, got nothing at {str(task)!r}; check the path")
    if online:
        output.new_folder(out, force)
    else:
        output.new_file(out, force)
    if ways is not None and (task.is_file() or ways < 1):
        raise ConfigError(
            f"--ways expected a run directory and at least 1, got {ways} with {str(task)!r}; leave it out"
        )
    from innerloop import load
    from innerloop.meta_learner.fitted import Fitted
    from innerloop.serving.export import export_fitted, export_learner, export_online

    found = load(task, **given_again.checked(task, algorithm=algorithm, tasks=tasks, model=model))
    if online:
        if not isinstance(found, Fitted):
            raise InputError(
                f"--online expected a task file of `innerloop adapt`, got the run directory {str(task)!r}; adapt it"
            )
        with output.writing(out):
            wrote = export_online(found, out, format)
        print(f"{format}: {wrote.update}, {wrote.predict} and {wrote.state}")
        print(f"the state is {wrote.numbers} numbers, {wrote.size / 1_000:.1f} kB")
        print(f"agrees with PyTorch on random inputs to {wrote.off:.1g} of the largest value")
        return 0
    with output.writing(out):
        if isinstance(found, Fitted):
            off = export_fitted(found, out, format)
            text = _told(found)
        else:
            off = export_learner(found, out, format, ways or 5)
            text = f"support_x, support_y and query_x, any numbers of them; gives {ways or 5} probabilities a query"
    print(f"{format}: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    print(f"takes {text}")
    print(f"agrees with PyTorch on random inputs to {off:.1g} of the largest value")
    return 0


def _told(fitted: Fitted) -> str:
    """What an adapted learner's file takes and gives."""
    from innerloop.serving.metadata import of_fitted

    about = {name: json.loads(text) for name, text in of_fitted(fitted).items() if text[:1] in "[{"}
    alone = fitted.owner.mixes_examples  # beside the support set
    shape = ", ".join(["1" if alone else "examples", *map(str, about["input_shape"])])
    ends = {"number": "", "level": " = {level}"}
    parts = [f["column"] + ends.get(f["part"], " {part}").format(**f) for f in about.get("inputs", [])]
    gives = about.get("classes") or [target["name"] for target in about["targets"]]
    return f"x ({shape}{': ' * bool(parts)}{first_few(parts)}); gives {first_few([str(name) for name in gives])}"
