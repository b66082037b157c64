"""What test_distributed.py compares, computed by one process or by each of several: several_processes.py FOLDER CONTRACT.

Writes FOLDER/SIZE-RANK.pt: for each case what it came to, tensors and plain values.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import innerloop as il
from innerloop import methods
from innerloop.training import launch
from innerloop.training.distributed import joined

RANK, SIZE = launch.rank(), launch.size()
STEPS = 20
METHOD_STEPS = 10  # of each method; there are many


def state(learner: il.MetaLearner) -> dict[str, torch.Tensor]:
    return {**learner.state_dict(), **{f"carry {name}": value for name, value in learner.carry.items()}}


def fitted(learner: il.MetaLearner, family: il.TaskFamily, **settings: Any) -> dict[str, Any]:
    """The run's last weights and its result."""
    options = {
        "steps": STEPS,
        "num_tasks": 5,
        "validate_every": 0,
        "precision": "float64",
        "quiet": True,
        **settings,
    }
    result = dataclasses.asdict(il.fit(learner, family, **options))
    del result["wall_seconds"]
    return {**result, "state": state(learner), "outer_step": learner.outer_step}


def of_method(name: str, case: str) -> dict[str, Any]:
    from contract_table import declared, family, small

    if case == "plain":
        case = "regression" if declared(name).regression else "classification"
    return fitted(small(name, case), family(case), steps=METHOD_STEPS, outer_lr=0.01)


def mlp(seed: int = 1, **options: Any) -> il.MetaLearner:
    torch.manual_seed(seed)
    return il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_lr=0.01, **options)


def sine(**options: Any) -> il.TaskFamily:
    return il.tasks.sinusoid(shots=3, queries=3, **options)


def fewer_tasks_than_processes() -> dict[str, Any]:
    from contract_table import family, small

    return fitted(small("mamlpp", "batch_norm"), family("batch_norm"), num_tasks=1)


def other_weights_on_each() -> dict[str, Any]:
    return fitted(mlp(seed=1 + RANK), sine())


def validated() -> dict[str, Any]:
    """More validation tasks than are evaluated at once, and a rate that goes wrong, so that it stops early."""
    return fitted(mlp(), sine(), validate_every=2, valid_tasks=111, patience=2, outer_lr=0.3)


class Random(nn.Module):
    """Draws numbers from torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x + (0.1 * torch.randn_like(x) if self.training else 0.0))


def random_model() -> dict[str, Any]:
    torch.manual_seed(1)
    learner = il.maml(Random(), inner_lr=0.01)
    torch.manual_seed(2 + RANK)
    return fitted(learner, sine())


def dropout_without_keys(**settings: Any) -> dict[str, Any]:
    """Tasks of somebody's own that carry no key of their own."""

    class Keyless(type(sine().train)):
        def from_keys(self, keys: torch.Tensor) -> il.Task:
            return dataclasses.replace(super().from_keys(keys), noise=None)

    family = sine()
    family.train.__class__ = Keyless
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 1))
    return fitted(il.maml(net, inner_lr=0.01), family, **settings)


def several_passes() -> dict[str, Any]:
    """Over the same tasks, with the same keys; and an optimizer other than the method's."""
    return dropout_without_keys(outer_passes=3, outer_optimizer="adamw", clip_norm=0.1)


def own_loop(counts: tuple[int, int], say: bool) -> dict[str, Any]:
    """The mean gradient of tasks 0 to 5, these many of them on each process."""
    from contract_table import family, small

    learner = small("mamlpp", "batch_norm").to(torch.float64)
    with joined():
        first, count = (0, sum(counts)) if SIZE == 1 else (sum(counts[:RANK]), counts[RANK])
        if count:
            learner.backward(family("batch_norm").train.at(0, 0, count, first))
        il.sync_gradients(learner, *([count] if say else []))
    buffers = learner.meta().buffers
    return {**{n: p.grad for n, p in learner.named_parameters()}, **({} if 0 in counts else buffers)}


def message(work: Any) -> tuple[str, str]:
    try:
        work()
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def diverging_on_the_last() -> dict[str, Any]:
    learner = mlp()
    backward = learner.backward

    def exploding(batch: il.Task, **options: Any) -> Any:
        if options["outer_step"] == 3 and RANK == SIZE - 1:
            raise il.DivergedError("the outer loss is inf")
        return backward(batch, **options)

    learner.backward = exploding  # type: ignore[method-assign]
    said = message(lambda: fitted(learner, sine()))
    return {"said": said, "state": state(learner), "outer_step": learner.outer_step}


def failing_to_draw_on_the_last() -> dict[str, Any]:
    family = sine()
    at = family.train.from_keys

    def failing(keys: torch.Tensor) -> il.Task:
        if RANK == SIZE - 1 and len(keys) > 1:
            raise OSError("the disk is gone")
        return at(keys)

    family.train.from_keys = failing  # type: ignore[method-assign]
    return {"said": message(lambda: fitted(mlp(), family))}


def interrupted_on_the_last(folder: Path) -> dict[str, Any]:
    learner = mlp()
    backward = learner.backward

    def interrupting(batch: il.Task, **options: Any) -> Any:
        if options["outer_step"] == 3 and RANK == SIZE - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return backward(batch, **options)

    learner.backward = interrupting  # type: ignore[method-assign]
    first = fitted(learner, sine(), out=folder)
    return {"first": first, "again": fitted(mlp(seed=5 + RANK), sine(), out=folder, resume=True)}


def occupied(folder: Path) -> dict[str, Any]:
    if RANK == 0:
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    return {"said": message(lambda: fitted(mlp(), sine(), out=folder))}


def other_settings() -> dict[str, Any]:
    return {"said": message(lambda: fitted(mlp(), sine(), steps=STEPS + RANK))}


def other_model() -> dict[str, Any]:
    torch.manual_seed(1)
    learner = il.maml(nn.Linear(1, 1, bias=RANK == 0))
    return {"said": message(lambda: fitted(learner, sine()))}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cases: dict[str, Any] = {
        f"{name} {case}": lambda name=name, case=case: of_method(name, case)
        for name in methods.ALGORITHMS
        for case in ("plain", "batch_norm")
    }
    cases |= {
        work.__name__: work
        for work in (
            fewer_tasks_than_processes, other_weights_on_each, validated, random_model, dropout_without_keys,
            several_passes, diverging_on_the_last, failing_to_draw_on_the_last, other_settings, other_model,
        )
    }  # fmt: skip
    cases["interrupted_on_the_last"] = lambda: interrupted_on_the_last(folder / f"interrupted-{SIZE}")
    cases["occupied"] = lambda: occupied(folder / f"occupied-{SIZE}")
    cases["weighted"] = lambda: own_loop((3, 2), True)
    cases["unweighted"] = lambda: own_loop((2, 2), False)
    cases["one without tasks"] = lambda: own_loop((4, 0), True)
    found = {name: work() for name, work in cases.items()}
    found["left"] = dist.is_initialized()
    torch.save(found, folder / f"{SIZE}-{RANK}.pt")


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[2])
    main(Path(sys.argv[1]))
    os._exit(0)  # as the command does: torch.distributed's threads can outlive its group
