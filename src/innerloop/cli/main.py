"""`innerloop` and `python -m innerloop`: pick the command, run it, turn what went wrong into one line and an
exit code.

Exit codes: 0; 2 for anything the user can mend; 130 after Ctrl-C; 1 only for a defect of innerloop.
Help and listings answer without torch, and without the command-line library, which takes longer to load than
they take.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from innerloop.allocation import keep_freed_memory
from innerloop.builtin import located_words
from innerloop.cli.boundary import GIVES_BACK, INTERRUPTED, MENDABLE, Stop, guarded, say
from innerloop.cli.program import closest
from innerloop.errors import ConfigError
from innerloop.registry import Entry, load
from innerloop.training import launch
from innerloop.waiting import telling, waiting

COMMANDS: dict[str, Entry] = {
    "demo": Entry("innerloop.cli.report:demo", "the main job on built-in data: train, adapt to unseen tasks, report"),
    "try": Entry(
        "innerloop.cli.try_data:try_data", "what can be done with my data? compares, reports, says what to use"
    ),
    "list": Entry(
        "innerloop.cli.listing:listing", "the algorithms, tasks, models, recipes and built-in learners there are"
    ),
    "train": Entry("innerloop.cli.train:train", "meta-train: innerloop train ALGORITHM TASKS; or --resume RUN"),
    "run": Entry("innerloop.cli.report:run", "a published setting by name, its published number beside ours"),
    "evaluate": Entry("innerloop.cli.evaluate:evaluate", "a run's result on tasks it never saw"),
    "stream": Entry(
        "innerloop.cli.stream:stream", "a run on long streams of new classes: what is left of them at the end"
    ),
    "compare": Entry("innerloop.cli.compare:compare", "several methods on the same tasks, with paired intervals"),
    "adapt": Entry("innerloop.cli.adapt:adapt", "adapt a run to one new task: a folder of pictures or a table"),
    "play": Entry("innerloop.cli.play:play", "an adapted policy in its world, as a moving picture"),
    "predict": Entry("innerloop.cli.adapt:predict", "an adapted task's predictions for new inputs, as CSV"),
    "recommend": Entry(
        "innerloop.cli.recommend:recommend", "the items that a user would rate best, from a few ratings"
    ),
    "sample": Entry("innerloop.cli.sample:sample", "new examples from a score model that was adapted to a few"),
    "export": Entry("innerloop.cli.export:export", "an adapted task as ONNX or torch.export, without innerloop"),
    "serve": Entry("innerloop.cli.serve:serve", "a page: show it a few examples, see it recognise new ones; and HTTP"),
    "report": Entry("innerloop.cli.report:report", "one HTML file about one or more runs, with plots"),
    "hpo": Entry(
        "innerloop.cli.hpo:hpo", "hyperparameter search that begins where past studies ended: hpo fit, hpo suggest"
    ),
    "push": Entry("innerloop.cli.sharing:push", "put a trained learner on the Hugging Face hub, with a card"),
    "pull": Entry("innerloop.cli.sharing:pull", "fetch a trained learner from there"),
    "doctor": Entry("innerloop.cli.doctor:doctor", "is the meta-gradient right, on this very model?"),
    "data": Entry("innerloop.cli.data:data", "data fetch NAME downloads a data set; data check PATH looks at one"),
}

_COMPUTING = (
    "demo",
    "try",
    "train",
    "run",
    "evaluate",
    "stream",
    "compare",
)  # what takes large tensors, again and again


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items()]
    return "\n".join(
        [
            "innerloop: meta-learning; give it a family of tasks and it learns how to learn.",
            "",
            "Usage: innerloop COMMAND [...]      innerloop COMMAND --help      innerloop --version",
            "",
            "Commands:",
            *lines,
            "",
            f"Commands that train or evaluate keep the memory that they free, for the next step (Linux); with {GIVES_BACK}",
            "they give it back at once.",
            "",
            "To begin with: innerloop demo",
        ]
    )


def version() -> str:
    """The installed version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("innerloop")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def dispatch(argv: Sequence[str]) -> int:
    """Run one command line; errors are raised."""
    name, rest = (argv[0], list(argv[1:])) if argv else ("--help", [])
    if name in ("--help", "-h", "help"):
        print(_help())
        return 0
    if name == "--version":
        print(version())
        return 0
    if name.startswith("-"):
        raise ConfigError(f"unknown flag {name!r} before a command; see innerloop --help")
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}: {closest(name, COMMANDS, 'see innerloop --help')}")
    if name != "train" and launch.size() > 1:
        raise ConfigError(
            f"expected one process for {name}, got {launch.size()}; only train is for several: leave torchrun out"
        )
    # Without a terminal nobody looks on while torch is loaded; what takes long after that is told there too.
    begins = (
        waiting(f"{name} is at work; loading torch takes some seconds")
        if sys.stderr.isatty()
        else contextlib.nullcontext()
    )
    quiet = {"--json", "--quiet"} & set(rest)
    if name in _COMPUTING:
        if GIVES_BACK not in rest:
            keep_freed_memory()
        rest = [word for word in rest if word != GIVES_BACK]
    with telling(None if quiet or launch.rank() > 0 else lambda what: say(f"{what} ...")), begins:
        return load("command", COMMANDS, name)(located_words(rest))


# torchrun ends the others within a second after one has failed; whoever still lives then has to speak for itself.
_TURN = 5.0


def in_turn(work: Callable[[], int]) -> int:
    """``work()``, its error held back while another process may be the one to tell it.

    torchrun ends all processes when one fails, so the one to speak has to be the first to end. An error that is its own
    is told at once by process 0 and a turn later by another. That others are gone is told last: they know why.
    """
    if launch.size() == 1:
        return work()
    try:
        return work()
    except KeyboardInterrupt:
        if launch.rank() == 0:
            raise
        raise Stop(INTERRUPTED) from None
    except BaseException as error:
        lost = isinstance(error, launch.ProcessLost)
        if lost or launch.rank() > 0:
            time.sleep(2 * _TURN if lost else _TURN)
        if launch.rank() > 0 and launch.is_everywhere(error):
            raise Stop(MENDABLE) from None
        raise


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: in_turn(lambda: dispatch(arguments)))


def run() -> NoReturn:
    """`main` as a process of its own, which ends with its exit code."""
    code = main()
    if launch.size() > 1:
        # torch.distributed's threads can outlive its process group, and the interpreter then aborts on its way out, with
        # everything done and written (seen once in some hundred runs on a busy machine).
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
