"""Several processes as one run: who they are, what they agree on, and gradients averaged over all of them.

torch.distributed does the communicating and torchrun the launching. Of a step only one flat sum crosses between processes.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import Tensor

from innerloop import errors
from innerloop.errors import ConfigError, InnerloopError, expect_whole, first_line
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training import launch
from innerloop.training.launch import ProcessLost


class Part(NamedTuple):
    """Tasks ``first`` to ``first + count`` of ``total``: what one process takes of a batch."""

    first: int
    count: int
    total: int


@dataclasses.dataclass(frozen=True)
class Group:
    """The processes of a run, seen from one of them. With one process nothing is communicated.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def part(self, total: int) -> Part:
        """This process's part of ``total`` tasks; the first ones take one more where they cannot be equal."""
        each, more = divmod(total, self.size)
        return Part(self.rank * each + min(self.rank, more), each + (self.rank < more), total)

    def same(self, value: Any) -> Any:
        """Process 0's value, on every process."""
        if self.size == 1:
            return value
        box = [value]
        with _reaching():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on every process."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with _reaching():
            dist.all_gather_object(found, value)
        return found

    def add(self, values: Tensor) -> Tensor:
        """Sum ``values`` over the processes, in place; returns it."""
        if self.size > 1:
            with _reaching():
                dist.all_reduce(values)
        return values

    def columns(self, own: Float64[Tensor, "rows part"], part: Part) -> Float64[Tensor, "rows total"]:
        """The columns of all processes side by side, in order of tasks."""
        if self.size == 1:
            return own
        whole = own.new_zeros(own.shape[0], part.total)
        whole[:, part.first : part.first + part.count] = own
        return self.add(whole)  # zeros elsewhere, so the sum is exact

    @contextmanager
    def together(self) -> Iterator[None]:
        """What goes wrong inside on one process is raised on all of them, so that none waits for another."""
        error: Exception | None = None
        try:
            yield
        except ProcessLost:
            raise
        except Exception as raised:
            if self.size == 1:
                raise
            error = raised
        self.agree(error)

    def agree(self, error: Exception | None) -> None:
        """Raise the same error on all processes where one or more of them give one: that of the lowest rank."""
        if self.size == 1:
            if error is not None:
                raise error
            return
        found = self.gathered(None if error is None else (type(error).__name__, str(error)))
        rank = next((r for r, said in enumerate(found) if said is not None), None)
        if rank is None:
            return
        told = error if rank == self.rank and error is not None else _remade(rank, *found[rank])
        launch.everywhere(told)
        raise told

    def expect_equal(self, settings: dict[str, Any]) -> None:
        """Raise ConfigError where processes were given different settings, which would leave one waiting for another."""
        own = dict(_leaves(settings))
        for rank, other in enumerate(self.gathered(own)):
            for key in [*own, *other]:
                if own.get(key) != other.get(key):
                    raise ConfigError(
                        f"expected the same {key} on every process of the run, got {own.get(key)!r} on process {self.rank} "
                        f"and {other.get(key)!r} on process {rank}; start them all alike"
                    )


def _remade(rank: int, name: str, text: str) -> InnerloopError:
    """Another process's error; of its class, where that is one of ours."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, InnerloopError):
        return kind(text)
    return InnerloopError(f"process {rank} of this run failed with {name}: {text}")


def _leaves(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, each by its full name, such as training.steps."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


@contextmanager
def joined() -> Iterator[Group]:
    """The processes that torchrun started, or that torch.distributed already joins; one process without either.

    The process group is made here where nobody has made it, and is then taken down again.

    Raises:
        ConfigError: torchrun started several processes, and this torch has no torch.distributed.
        ProcessLost: the others cannot be reached.
    """
    made = launch.size() > 1 and not (dist.is_available() and dist.is_initialized())
    if made:
        if not dist.is_available():
            raise ConfigError("expected a torch with torch.distributed, got one without; train in one process")
        gpus = torch.cuda.is_available() and dist.is_nccl_available()
        with _reaching():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=_meeting_place(),
                rank=launch.rank(),
                world_size=launch.size(),
            )
    try:
        yield Group(dist.get_rank(), dist.get_world_size()) if processes() > 1 else Group()
    finally:
        if made:
            dist.destroy_process_group()


_joins = itertools.count()


@functools.cache
def _store() -> Any:
    """The store that torchrun keeps, through which processes find each other."""
    from torch.distributed.rendezvous import rendezvous

    return next(rendezvous("env://"))[0]


def _meeting_place() -> Any:
    """A new part of the store for each group: the addresses of an earlier one would lead nowhere."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # documented, though not in its __all__

    return PrefixStore(f"innerloop/{launch.restarts()}/{next(_joins)}", _store())


@contextmanager
def _reaching() -> Iterator[None]:
    """torch.distributed says by a RuntimeError of many lines that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLost(
            f"expected an answer from the other processes of this run, got none ({first_line(error)}); one of them has ended: "
            "see what it says, or let torchrun start all again from the last checkpoint (--max-restarts)"
        ) from error


def processes() -> int:
    """How many processes torch.distributed joins; 1 without it."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sync_gradients(learner: MetaLearner, num_tasks: int | None = None) -> None:
    """Average ``.grad`` and running statistics over all processes, in one flat all_reduce; nothing with one process.

    Call it on every process, after `MetaLearner.backward`. Wrappers such as DistributedDataParallel do not see functional
    inner loops. `fit` needs no call of it.

    Args:
        learner: the same on every process; a gradient that is None counts as zero and is zero or more afterwards.
        num_tasks: how many tasks this process's gradient is the mean of, 0 where it had none; either all processes say it
            or none does. None: all count alike.

    Raises:
        ConfigError: ``num_tasks`` is negative, or no process had any task.
        ProcessLost: another process has ended.
    """
    weight = 1 if num_tasks is None else num_tasks
    expect_whole("num_tasks", weight, 0)
    if processes() == 1:
        return
    parameters = [p for p in learner.parameters() if p.requires_grad]
    buffers = list(learner.meta().buffers.values())
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    shared = [*(p.grad for p in parameters if p.grad is not None), *buffers]
    flat = flattened([value * weight for value in shared], [float(weight)])
    Group(dist.get_rank(), dist.get_world_size()).add(flat)
    total = float(flat[-1])
    if total == 0:
        raise ConfigError("expected at least one process with tasks, got num_tasks=0 on all; give one of them tasks")
    flat /= total
    for own, value in zip(shared, unflattened(flat, shared), strict=True):
        own.copy_(value)


def flattened(tensors: Sequence[Tensor], numbers: Sequence[float]) -> Tensor:
    """All values one after the other, (values,), in the widest of their types and at least float32; ``numbers`` at the end."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    last = torch.tensor(numbers, dtype=dtype, device=tensors[0].device if tensors else None)
    return torch.cat([*(t.detach().reshape(-1) for t in tensors), last])


def unflattened(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that `flattened` began with."""
    pieces = flat[: sum(t.numel() for t in like)].split([t.numel() for t in like])
    return [piece.view_as(t) for piece, t in zip(pieces, like, strict=True)]
