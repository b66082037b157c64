"""Learners as plain modules, whose forward is nothing but tensor operations: what exporters take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Meta, Task
from innerloop.data.counts import kinds_of
from innerloop.data.table_preprocessing import TablePreprocessing, table_record
from innerloop.meta_learner.fitted import Fitted, predict_alone
from innerloop.meta_learner.meta_learner import MetaLearner


class Holding(nn.Module):
    """A module with pytrees of tensors as its own buffers, so that an exported file holds them.

    They belong to the root module: torch.export loses buffers of a submodule that is not called.
    """

    def __init__(self) -> None:
        super().__init__()
        self._specs: dict[str, Any] = {}

    def hold(self, name: str, tree: Any) -> None:
        leaves, self._specs[name] = pytree.tree_flatten(tree)
        for i, leaf in enumerate(leaves):
            self.register_buffer(f"{name}_{i}", leaf.detach().clone())

    def held(self, name: str) -> Any:
        spec = self._specs[name]
        return pytree.tree_unflatten([self.get_buffer(f"{name}_{i}") for i in range(spec.num_leaves)], spec)


class Predictor(Holding):
    """An adapted learner: inputs to class probabilities in the order of ``classes_``, or to values.

    Of a table the inputs are numbers as they stand in it, in float64, in the order of `TablePreprocessing.features`, NaN where
    one is missing, and values are in the targets' own units: the scales are a part of the graph.

    Where the learner's model mixes examples (batch statistics), every input is put beside the support set, alone, as
    `Fitted.predict` does; then it takes one input.

    Args:
        fitted: what `MetaLearner.adapt` gave.
    """

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.hold("meta", tuple(fitted.meta))
        self.hold("fast", fitted.fast)
        self.alone: bool = fitted.owner.mixes_examples
        if self.alone:
            self.hold("support", fitted.support)
        self._record = table_record(fitted.preprocessing)
        if self._record is not None:
            self.hold("units", _units(self._record, fitted))
        self._fitted = [fitted]  # in a list: its module is not a part of this one

    def as_given(self, x: Shaped[Tensor, "*examples"]) -> Shaped[Tensor, "*examples"]:
        """Inputs of the model, from 0 to 1, as this graph is given them."""
        if (kinds := kinds_of(self._fitted[0].preprocessing)) is not None:  # at [:, 0] are the numbers of entries
            return torch.stack([(kinds * x[:, 0]).floor(), x[:, 1]], 1)
        if self._record is None:
            return x
        units = self.held("units")
        return x[:, : len(units["mean"])] * units["std"] + units["mean"]

    def forward(self, x: Shaped[Tensor, "*examples"]) -> Float[Tensor, "examples outputs"]:
        fitted, meta, fast = self._fitted[0], Meta(*self.held("meta")), self.held("fast")
        if self._record is not None:
            x = self._encoded(x, self._record)
        if self.alone:
            out = predict_alone(fitted.learner.predict, meta, fast, self.held("support"), x, False)
        else:
            out = fitted.learner.predict(meta, fast, x)
        if fitted.classes_ is not None:
            return fitted.probabilities(out)
        if self._record is None:
            return out
        units = self.held("units")
        return out.flatten(1) * units["target_std"] + units["target_mean"]

    def _encoded(self, x: Float64[Tensor, "rows features"], record: TablePreprocessing) -> Float[Tensor, "rows width"]:
        """Rows as `TablePreprocessing.encode` makes them."""
        units, like = self.held("units"), self._fitted[0].support.x
        if record.scaling == "none":
            return x.to(like)
        x = (x - units["mean"]) / units["std"]
        x = torch.where(torch.isnan(x), 0.0, x).clamp(-record.limit, record.limit)
        return nn.functional.pad(x, (0, record.width - x.shape[1])).to(like.dtype)


def _units(record: TablePreprocessing, fitted: Fitted) -> dict[str, Tensor]:
    """The scales of a table's numbers and, for regression, of its targets."""
    x, y = fitted.support.x, fitted.support.y
    found = {
        name: torch.tensor([getattr(f, name) for f in record.features()], dtype=torch.float64, device=x.device)
        for name in ("mean", "std")
    }
    if fitted.classes_ is None:
        zero, one = (record.original(np.full((1, y.shape[1:].numel()), value))[0] for value in (0.0, 1.0))
        found |= {"target_mean": torch.from_numpy(zero).to(y), "target_std": torch.from_numpy(one - zero).to(y)}
    return found


class OneLook(Holding):
    """A learner that adapts by looking at the support set once: (support x, support y, query x) to class probabilities.

    Args:
        learner: a trained learner of a metric method.
        ways: classes of a task; labels are 0 to ``ways - 1``.
    """

    def __init__(self, learner: MetaLearner, ways: int) -> None:
        super().__init__()
        self.hold("meta", tuple(learner.meta()))
        self.register_buffer("class_ids", torch.arange(ways))
        self._learner = [learner.learner.in_evaluation()]

    def forward(
        self,
        support_x: Shaped[Tensor, "*support"],
        support_y: Int64[Tensor, " support"],
        query_x: Shaped[Tensor, "*queries"],
    ) -> Float[Tensor, "queries ways"]:
        learner, meta = self._learner[0], Meta(*self.held("meta"))
        side = Examples(support_x, support_y)
        task = Task(side, side, class_ids=self.get_buffer("class_ids"))
        fast = learner.step(meta, learner.init(meta, task), side, 0)
        return torch.softmax(learner.predict(meta, fast, query_x), -1)


def as_state(fast: Any) -> Float[Tensor, " numbers"]:
    """What was adapted to a task as one vector."""
    return torch.cat([leaf.flatten() for leaf in pytree.tree_leaves(fast)])


class Going(Holding):
    """A learner that goes on learning a task, whose state is a vector (`as_state`).

    Args:
        fitted: adapted by a method that absorbs examples.
    """

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        self.hold("meta", tuple(fitted.meta))
        leaves, self._spec = pytree.tree_flatten(fitted.fast)
        self._shapes = [leaf.shape for leaf in leaves]
        self._learner = [fitted.learner]

    def parts(self, state: Float[Tensor, " numbers"]) -> tuple[Tensor, ...]:
        """The numbers of a state by what they are."""
        return state.split([shape.numel() for shape in self._shapes])

    def fast(self, state: Float[Tensor, " numbers"]) -> Any:
        """What was adapted, from its vector."""
        leaves = [part.reshape(shape) for part, shape in zip(self.parts(state), self._shapes, strict=True)]
        return pytree.tree_unflatten(leaves, self._spec)


class Updated(Going):
    """(state, x of one example, its y) to the state after it."""

    def forward(
        self, state: Float[Tensor, " numbers"], x: Shaped[Tensor, "*shape"], y: Float[Tensor, "*outputs"]
    ) -> Float[Tensor, " numbers"]:
        meta = Meta(*self.held("meta"))
        return as_state(self._learner[0].absorb(meta, self.fast(state), Examples(x[None], y[None])))


class Asked(Going):
    """(state, x of some examples) to means and standard deviations."""

    def forward(
        self, state: Float[Tensor, " numbers"], x: Shaped[Tensor, "*examples"]
    ) -> tuple[Float[Tensor, "examples outputs"], Float[Tensor, "examples outputs"]]:
        meta, fast, learner = Meta(*self.held("meta")), self.fast(state), self._learner[0]
        return learner.predict(meta, fast, x), learner.predict_std(meta, fast, x)
