"""The first task of a new shape is tried out once: does the model take it, can the loss judge it, what does the engine need?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from innerloop import losses
from innerloop.core import Task
from innerloop.errors import ConfigError, InnerloopError, ShapeError
from innerloop.functional import probe

if TYPE_CHECKING:
    from innerloop.meta_learner import MetaLearner


def try_out(learner: MetaLearner, batch: Task) -> None:
    """One forward pass on one task: output shape, loss, and what the model needs of the engine."""
    x, y = batch.support.x[0], batch.support.y[0]
    meta = learner.meta()

    def forward(x: Tensor) -> Tensor:
        try:
            return learner.pure.apply(meta.params, meta.buffers, x, training=False)[0]
        except InnerloopError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ShapeError(
                f"the model cannot take inputs of shape {tuple(x.shape)} (examples, ...): {first}"
            ) from error

    found = probe(forward, x)
    if found.needs_loop:
        learner.engine.needs_loop = found.needs_loop
        learner.note(f"{', '.join(found.needs_loop)}: vmap gets it wrong or refuses it; tasks run one after the other")
    if found.attention and not learner.pure.plain_attention:
        learner.pure.plain_attention = True
        learner.note("fused attention has no second derivative here; its plain kernel is used")
    if found.random:
        learner.engine.needs_loop = tuple(dict.fromkeys((*learner.engine.needs_loop, *found.random)))
        learner.pure.follow_training = True
        learner.note(
            f"the model draws random numbers itself ({', '.join(found.random)}): results depend on torch's global generator"
        )
    learner.assume_mixing(learner.mixes_examples or found.mixes_examples)
    if learner.mixes_examples and not learner.pure.mixes_by_norm and batch.support.mask is not None:
        raise ConfigError("the model mixes examples and the tasks are padded with masks; group tasks by size instead")
    shape = learner.learner.prediction_shape(batch, found.output_shape)
    if not learner.learner.any_ways:
        learner.output_size = shape[-1] if len(shape) > 1 else 1
    output = torch.zeros(shape, dtype=learner.dtype, device=learner.device)
    loss = losses.resolve(learner.loss or batch.objective, y)
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
