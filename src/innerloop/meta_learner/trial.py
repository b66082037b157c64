"""The first task of a new shape is tried out once: does the model take it, can the loss judge it, what does the engine need?"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from innerloop import losses
from innerloop.core import BaseLearner, Meta, Task
from innerloop.errors import ConfigError, InnerloopError, ShapeError
from innerloop.functional import PureModel, probe


class Trial(NamedTuple):
    """What one forward pass has shown.

    Attributes:
        needs_loop: what of the model vmap gets wrong or refuses.
        attention: it has fused attention, whose second derivative does not exist.
        random: what draws random numbers by itself.
        mixes_examples: one example's output depends on the others.
        shape: of a prediction for the support set.
    """

    needs_loop: tuple[str, ...]
    attention: bool
    random: tuple[str, ...]
    mixes_examples: bool
    shape: tuple[int, ...]


def try_out(pure: PureModel, learner: BaseLearner, meta: Meta, batch: Task) -> Trial:
    """One forward pass on one task: the output's shape, and what the model needs of the engine.

    Raises:
        ShapeError: the model cannot take the inputs.
    """
    x = batch.support.x[0]

    def forward(x: Tensor) -> Tensor:
        try:
            return pure.apply(meta.params, meta.buffers, x, training=False)[0]
        except InnerloopError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ShapeError(
                f"the model cannot take inputs of shape {tuple(x.shape)} (examples, ...): {first}"
            ) from error

    found = probe(forward, x)
    if (found.mixes_examples and not pure.mixes_by_norm) and batch.support.mask is not None:
        raise ConfigError("the model mixes examples and the tasks are padded with masks; group tasks by size instead")
    shape = learner.prediction_shape(batch, found.output_shape)
    return Trial(found.needs_loop, found.attention, found.random, found.mixes_examples, shape)


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
            f"the loss cannot compare a prediction {shape} with targets {tuple(y.shape)}: {str(error).splitlines()[0]}"
        ) from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ShapeError(
            f"the loss expected to return a scalar tensor, got {got}; average over the examples (reduction='mean')"
        )
