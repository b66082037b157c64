"""`innerloop push` and `innerloop pull`: a trained learner to and from the Hugging Face hub, or a folder in its place."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from innerloop.cli import output, program


def push(argv: Sequence[str]) -> int:
    return program.run("push", _push, argv)


def pull(argv: Sequence[str]) -> int:
    return program.run("pull", _pull, argv)


def _push(run: Path, repo: str, /, *, private: bool = False) -> int:
    """Put a trained learner on the Hugging Face hub: its configuration, best weights, evaluation, and a card as README.md.

    Args:
        run: a run directory of `innerloop train`, or builtin:NAME.
        repo: user/name on the hub, or a folder (./learner, say).
        private: a new repository is for its owner alone.
    """
    from innerloop.sharing import as_folder
    from innerloop.sharing import push as put

    folder = as_folder(repo)
    if folder is not None:
        output.folder(folder, "REPO")
    print(f"pushed: {put(run, repo, private=private)}")
    print(f"next: innerloop pull {shlex.quote(repo)} --out learner    (anywhere)")
    return 0


def _pull(repo: str, /, *, out: Path, revision: str | None = None, force: bool = False) -> int:
    """Fetch a trained learner that `innerloop push` put somewhere. Nothing in it is executed.

    Args:
        repo: user/name on the hub, or a folder.
        out: the run directory to make.
        revision: a branch, tag or commit on the hub; left out: the newest.
        force: overwrite the run that is there.
    """
    from innerloop.cli.train import used
    from innerloop.sharing import pull as fetch

    output.folder(out)
    print(f"run directory: {fetch(repo, out, revision=revision, force=force)}")
    print(f"next: {used(out)}")
    return 0
