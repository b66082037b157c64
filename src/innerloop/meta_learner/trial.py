"""The first task of a new shape is tried out once: does the model take it, can the loss judge it, what does the engine need?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import BaseLearner, Meta, Objective, Task, length
from innerloop.errors import ConfigError, InnerloopError, ShapeError, first_line
from innerloop.functional import PureModel, observed, probe
from innerloop.functional.outputs import expect_tensor
from innerloop.functional.state import Traces
from innerloop.objectives import losses

_FEW = 3


class Trial(NamedTuple):
    """What one forward pass has shown.

    Attributes:
        needs_loop: what of the model vmap gets wrong or refuses.
        attention: it has fused attention, whose second derivative does not exist.
        random: it draws random numbers by itself.
        mixes_examples: one example's output depends on the others.
        shape: of a prediction for the support set.
    """

    needs_loop: tuple[str, ...]
    attention: bool
    random: bool
    mixes_examples: bool
    shape: tuple[int, ...]


def try_out(pure: PureModel, learner: BaseLearner, meta: Meta, batch: Task, *, training: bool) -> Trial:
    """A forward pass on one task, and one in training: the output's shape, and what the model needs of the engine.

    Args:
        training: whether it will be run in training too.

    Raises:
        ShapeError: the model cannot take the inputs.
    """
    x = pytree.tree_map(lambda v: v[0], batch.support.x)

    def forward(x: Any, training: bool = False) -> Tensor:
        with explained(x, " in training" * training):
            return expect_tensor(pure.apply(meta.params, meta.buffers, x, training=training)[0])

    with explained(x):
        try:
            pure.look_into(some_rows(x))
        except InnerloopError:
            raise
        except Exception:  # it may want all of them
            pure.look_into(x)
    found = probe(forward, x, pure.module)
    if training:
        output, trained = observed(lambda: forward(x, training=True), pure.module)
        inside, outside = tuple(output.shape), found.output_shape
        if inside != outside:
            raise ShapeError(
                f"the model expected to return one shape, got {inside} in training and {outside} outside; "
                "leave what training adds out of its output, or choose the output: output=function"
            )
        found = dataclasses.replace(
            found,
            needs_loop=tuple(sorted({*found.needs_loop, *trained.needs_loop})),
            random=found.random or trained.random,
        )
    if (found.mixes_examples and not pure.mixes_by_norm) and batch.support.mask is not None:
        raise ConfigError("the model mixes examples and the tasks are padded with masks; group tasks by size instead")
    shape = learner.prediction_shape(batch, found.output_shape)
    return Trial(found.needs_loop, found.attention, found.random, found.mixes_examples, shape)


def needs_of(found: Trial, pure: PureModel) -> tuple[tuple[str, ...], list[str]]:
    """(why tasks are looped, sentences on what is done about it) after a trial on one task."""
    traces = pure.traces or Traces()
    loops = (*(["buffers written in place"] if traces.in_place else []), *found.needs_loop)
    notes = []
    if traces.buffers:
        notes.append(
            f"the model writes {', '.join(traces.buffers)}: each task has its own, meta-training keeps their mean over the "
            f"tasks, evaluation uses that and changes nothing (batch_norm={pure.batch_norm!r} is for torch's own layers)"
        )
    if traces.attributes:
        notes.append(f"what a pass leaves in {', '.join(traces.attributes)} is put back after it")
    if found.needs_loop:
        notes.append(f"{', '.join(found.needs_loop)}: vmap gets it wrong or refuses it; tasks run one after the other")
    if found.attention:
        notes.append("fused attention has no second derivative here; its plain kernel is used")
    return loops, notes


def try_objective(pure: PureModel, meta: Meta, objective: Objective, task: Task) -> Trial:
    """The objective's loss on both sides of one task, whose data it alone knows.

    Raises:
        ShapeError: the model cannot take what the objective gives it, or the loss is no scalar.
        ConfigError: `measure` gives something else than the objective's metrics.
    """

    def apply(*x: Any, mask: Tensor | None = None) -> Any:
        with explained(x):
            pure.look_into(*x)
            with suppress(Exception):  # it may call other functions in training; what fails there alone is said there
                pure.apply(meta.params, meta.buffers, *x, mask=mask, training=True)
            return pure.apply(meta.params, meta.buffers, *x, mask=mask, training=False)[0]

    def judge() -> None:
        for side in (task.support, task.query):
            data = objective.data(side, task.shared)
            expect_scalar(objective.loss(apply, data, task.noise), f"{objective.name}.loss")
        found = objective.measure(apply, objective.data(task.query, task.shared), task.noise)
        if not losses.is_labelled(objective) and set(found) != set(objective.metrics):
            raise ConfigError(f"{objective.name}.measure expected {sorted(objective.metrics)}, got {sorted(found)}")
        for name, value in found.items():
            expect_scalar(value, f"{objective.name}.measure[{name!r}]")

    seen = observed(judge, pure.module)[1]
    return Trial(seen.needs_loop, seen.attention, seen.random, False, ())


def some_rows(side: Any) -> Any:
    """Some examples from all over a side, which tell as much as all of them."""
    number = length(side)
    if number <= _FEW:
        return side
    rows = torch.linspace(0, number - 1, _FEW).long()
    return pytree.tree_map(lambda v: v[rows.to(v.device)], side)


@contextmanager
def explained(x: Any, when: str = "") -> Iterator[None]:
    """What a model says of inputs that it cannot take, as our own error."""
    try:
        yield
    except InnerloopError:
        raise
    except Exception as error:  # a stranger's model may fail in any way
        shapes = [tuple(leaf.shape) for leaf in pytree.tree_leaves(x) if isinstance(leaf, Tensor)]
        shown = ", ".join(map(str, shapes))
        raise ShapeError(
            f"the model cannot take inputs of shape {shown} (examples, ...){when}: {first_line(error)}"
        ) from error


def expect_scalar(value: Any, what: str, fix: str = "average over the examples") -> None:
    """Raise ShapeError for anything but a scalar tensor."""
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(f"{what} expected to return a scalar tensor, got {got}; {fix}")


def try_loss(loss: losses.Loss, output: Tensor, y: Tensor) -> None:
    """Raise ShapeError where a loss cannot compare a prediction of this shape with the targets of one task."""
    shape = tuple(output.shape)
    losses.check_shapes(loss, output, y)
    in_range = y if y.is_floating_point() else y.clamp(max=max((shape[-1] if len(shape) > 1 else 1) - 1, 1))
    try:
        value = loss(output, in_range)
    except InnerloopError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ShapeError(
            f"the loss cannot compare a prediction {shape} with targets {tuple(y.shape)}: {first_line(error)}"
        ) from error
    expect_scalar(value, "the loss", "average over the examples (reduction='mean')")
