"""A training run in a process of its own, to be interrupted: killed_run.py FOLDER STEPS KILL [resume] [saving]."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def learner_and_tasks():
    import torch

    import innerloop as il

    torch.set_num_threads(1)
    torch.manual_seed(1)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01), il.tasks.sinusoid(shots=3, queries=3)


def settings(steps: int) -> dict:
    return {
        "steps": steps, "num_tasks": 2, "checkpoint_every": 3, "validate_every": 5, "valid_tasks": 3, "log_every": 2,
        "quiet": True, "strategy": "vmapped",
    }  # fmt: skip


def main(folder: str, steps: str, kill: str, *flags: str) -> None:
    import innerloop as il

    learner, tasks = learner_and_tasks()
    backward = learner.backward

    def dying(batch, **options):
        if options["outer_step"] == int(kill):
            if "saving" not in flags:
                os.kill(os.getpid(), signal.SIGKILL)
            # Instead of moving the next whole file into place: die with the new one half written beside it.
            os.replace = lambda source, target: (
                Path(source).write_bytes(b"half"),
                os.kill(os.getpid(), signal.SIGKILL),
            )
        return backward(batch, **options)

    learner.backward = dying  # type: ignore[method-assign]
    result = il.fit(learner, tasks, out=folder, resume="resume" in flags, **settings(int(steps)))
    print(result.stopped, result.steps)


if __name__ == "__main__":
    main(*sys.argv[1:])
