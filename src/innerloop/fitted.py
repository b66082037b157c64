"""A MetaLearner adapted to one task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from innerloop import labels, losses
from innerloop.boundary import as_tensor, check_finite
from innerloop.core import BaseLearner, Examples, Meta
from innerloop.data.support_files import is_path, read_inputs
from innerloop.errors import ConfigError, DivergedError, InputError, ShapeError

if TYPE_CHECKING:
    from innerloop.meta_learner import MetaLearner


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """What `MetaLearner.adapt` returns; a snapshot that later training does not change.

    A prediction here never depends on the other inputs given with it: where the model mixes examples (batch statistics),
    each input is put beside the support set, one at a time. `evaluate` follows the method's published protocol instead,
    and says so (``transductive``); ``predict(x, transductive=True)`` does the same here.

    Attributes:
        owner: the learner that was adapted.
        preprocessing: how files become this task's inputs, as the learner's training data did; None: they are plain numbers.
        classes_: class names in the order of ``predict_proba``'s columns; None for regression.
    """

    owner: MetaLearner
    learner: BaseLearner
    meta: Meta
    fast: Any
    support: Examples
    classes_: list[Any] | None
    objective: str | None = None
    preprocessing: dict[str, Any] | None = None

    def outputs(self, x: Any, transductive: bool = False) -> Tensor:
        """The model's raw outputs, (examples, outputs)."""
        return self._asked(self.learner.predict, x, transductive)

    def _asked(self, question: Callable[..., Tensor], x: Any, transductive: bool) -> Tensor:
        """The answer of `BaseLearner.predict` or `BaseLearner.predict_std` for inputs that were checked."""
        if is_path(x):
            x = read_inputs(x, self.support.x.shape[1:])
        tx = as_tensor(x, "x").to(self.owner.device)
        expected = self.support.x.shape[1:]
        if tx.ndim == 0 or tx.shape[1:] != expected:
            raise ShapeError(
                f"x expected shape (examples, {', '.join(map(str, expected))}) as the support set had, got {tuple(tx.shape)}"
            )
        if tx.shape[0] == 0:
            raise InputError("x is empty; give at least one input")
        if tx.is_floating_point() != self.support.x.is_floating_point():
            raise InputError(f"x expected the support set's kind of numbers ({self.support.x.dtype}), got {tx.dtype}")
        check_finite(tx, "x")
        tx = tx.to(self.support.x.dtype)
        owner = self.owner
        with torch.no_grad():
            if owner.mixes_examples and not transductive:
                out = predict_alone(question, self.meta, self.fast, self.support, tx, not owner.engine.needs_loop)
            else:
                out = question(self.meta, self.fast, tx)
        if not bool(torch.isfinite(out).all()):
            raise DivergedError("the prediction is not finite; adapt with fewer steps, or with a lower inner rate")
        return out

    def predict(self, x: Any, transductive: bool = False) -> Any:
        """Class names, or regression values (examples, outputs). Arrays (or paths of pictures) in, arrays out; a tensor in,
        a tensor out."""
        out = self.outputs(x, transductive)
        if self.classes_ is None:
            return self._as_given(out, x)
        chosen = self.probabilities(out).argmax(-1).cpu()
        names = [self.classes_[i] for i in chosen.tolist()]
        if isinstance(x, Tensor) and not isinstance(names[0], str):
            return torch.tensor(names)
        import numpy as np

        return np.asarray(names)

    def predict_std(self, x: Any, transductive: bool = False) -> Any:
        """Standard deviations of the predicted distributions, (examples, outputs), in the units of the targets.

        Raises:
            ConfigError: a method that predicts values alone, or a classification task.
        """
        return self._as_given(self._asked(self.learner.predict_std, x, transductive), x)

    def predict_proba(self, x: Any, transductive: bool = False) -> Any:
        """Class probabilities (examples, classes); columns follow ``classes_``."""
        if self.classes_ is None:
            raise ConfigError("predict_proba expected a classification task, got regression; use predict")
        return self._as_given(self.probabilities(self.outputs(x, transductive)), x)

    def score(self, x: Any, y: Any, transductive: bool = False) -> float:
        """Accuracy (a fraction), or mean squared error for regression."""
        out = self.outputs(x, transductive)
        if self.classes_ is None:
            target = as_tensor(y, "y").to(out)
            losses.check_shapes(losses.mse, out, target)
            return float(losses.mean_squared_error(out, target))
        known = labels.number(y, self.classes_).to(out.device)
        if known.shape[0] != out.shape[0]:
            raise ShapeError(f"x and y expected equally many examples, got {out.shape[0]} and {known.shape[0]}")
        return float((self.probabilities(out).argmax(-1) == known).to(torch.float64).mean())

    def save(self, path: str | Path) -> Path:
        """Write one self-contained file (safetensors and JSON, no pickle); `il.load` opens it."""
        from innerloop.bundle import save_fitted

        return save_fitted(self, Path(path))

    def probabilities(self, out: Tensor) -> Tensor:
        """Over the classes that the support set had; a model may have more outputs than that."""
        assert self.classes_ is not None
        if out.ndim == 1 or out.shape[-1] == 1:
            positive = torch.sigmoid(out.reshape(-1))
            both = torch.stack([1 - positive, positive], -1)
            return both[:, : len(self.classes_)] if len(self.classes_) == 2 else torch.ones_like(both[:, :1])
        return torch.softmax(out[:, : len(self.classes_)], -1)

    def _as_given(self, value: Tensor, x: Any) -> Any:
        return value if isinstance(x, Tensor) else value.cpu().numpy()


def predict_alone(
    question: Callable[..., Tensor], meta: Meta, fast: Any, support: Examples, x: Tensor, vmapped: bool
) -> Tensor:
    """Answers of a learner's ``predict`` (queries, outputs), each query in a batch with the support set alone (Reptile's
    inductive protocol)."""

    def one(query: Tensor) -> Tensor:
        mask = None
        if support.mask is not None:
            mask = torch.cat([support.mask, torch.ones_like(support.mask[:1])])
        return question(meta, fast, torch.cat([support.x, query[None]]), mask)[-1]

    return torch.vmap(one)(x) if vmapped else torch.stack([one(query) for query in x])
