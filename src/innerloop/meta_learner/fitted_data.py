"""A MetaLearner adapted to one task whose data its objective alone knows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import Examples, Meta, Objective, Task
from innerloop.data.support_files import is_path
from innerloop.data.tables import is_tabular
from innerloop.engine import take
from innerloop.errors import ConfigError, DivergedError, InnerloopError, InputError, ShapeError, first_line
from innerloop.meta_learner.boundary import as_tensor, check_finite, expect_steps, moved
from innerloop.meta_learner.fitted import Fitted, Owner, fast_of
from innerloop.meta_learner.query_predictions import measured
from innerloop.meta_learner.worlds import as_world, is_environment, objective_in
from innerloop.objectives import losses

_POLICY = "policy"  # how a file names what its own problem alone says more of


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FittedData(Fitted):
    """What `MetaLearner.adapt` returns for a task that is not labelled examples.

    Attributes:
        support: the support side, without a tasks axis.
        objective: the task's.
        shared: what the tasks share, beside which it was adapted; None: nothing.
    """

    shared: Any = None

    def __repr__(self) -> str:
        return f"Fitted({self.owner.name}, objective {self.objective}; {self.num_examples} support examples)"

    def predict(self, *inputs: Any) -> Any:  # type: ignore[override]
        """What the adapted model gives for inputs as its ``forward`` takes them: tensors, arrays, or dictionaries of such.

        Raises:
            DivergedError: outputs that are not finite.
        """
        given = moved(as_side(inputs, "the inputs"), self.owner.dtype, self.owner.device)
        for leaf in pytree.tree_leaves(given):
            check_finite(leaf, "the inputs")
        with torch.no_grad():
            out = self.learner.as_model(self.meta, self.fast)(*given)
        if not all(bool(torch.isfinite(v).all()) for v in pytree.tree_leaves(out) if isinstance(v, Tensor)):
            raise DivergedError("the prediction is not finite; adapt with fewer steps, or with a lower inner rate")
        if any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(inputs)):
            return out
        return pytree.tree_map(lambda v: v.cpu().numpy() if isinstance(v, Tensor) else v, out)

    def outputs(self, *inputs: Any) -> Any:  # type: ignore[override]
        """As `predict`."""
        return self.predict(*inputs)

    def score(self, data: Any) -> float:  # type: ignore[override]
        """The objective's first metric on one side of this task, without a tasks axis."""
        side = as_side(data, "score's data")
        kept, side = (pytree.tree_map(lambda v: v[None], one) for one in (self.support, side))
        task = take(self.owner.fitting(Task(kept, side, self.objective, noise=_key(), shared=self.shared)), 0)
        with torch.no_grad():
            found = measured(self.learner, self.meta, self.fast, task)
        return float(found[next(iter(self.objective.metrics))])

    def learn(self, data: Any, y: None = None, steps: int | None = None) -> FittedData:
        """This task with more data: adapted again to both sides, joined along the first axis of each tensor, the examples'.

        Raises:
            ShapeError: sides that cannot be joined so.
        """
        _expect_no_targets(y, self.objective)
        expect_steps(steps)
        side = moved(as_side(data, "learn's data"), self.owner.dtype, self.owner.device)
        (one, tree), (two, other) = (pytree.tree_flatten(given) for given in (self.support, side))
        alike = tree == other and all(
            a.ndim and b.ndim and a.shape[1:] == b.shape[1:] for a, b in zip(one, two, strict=False)
        )
        if not alike or any(len({len(v) for v in leaves}) > 1 for leaves in (one, two)):
            raise ShapeError(
                "learn expected a side that can be joined to the support side, with the same parts and one length each, got "
                f"{[tuple(v.shape) for v in two]} beside {[tuple(v.shape) for v in one]}; adapt to all data at once"
            )
        joined = pytree.tree_unflatten([torch.cat([a, b.to(a.dtype)]) for a, b in zip(one, two, strict=True)], tree)
        return adapted_data(self.owner, joined, self.meta, self.objective, self._steps(steps), self.shared)

    def save(self, path: str | Path, support: bool = False) -> NoReturn:
        """Refused: a task file holds labelled examples.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"save expected a task of labelled examples, got one of the objective {self.objective}; keep its learner's run and "
            "adapt again"
        )

    def predict_std(self, *inputs: Any) -> NoReturn:  # type: ignore[override]
        """Refused, as `predict_proba`.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"expected a task of labelled examples, got one of the objective {self.objective}; use predict"
        )

    predict_proba = predict_std  # type: ignore[assignment]


def adapted_data(
    owner: Owner, side: Any, meta: Meta | None, objective: Objective, steps: int, shared: Any = None
) -> FittedData:
    """A learner adapted to the support side of one task, a pytree of tensors without a tasks axis, beside what tasks share.

    Raises:
        InputError, ShapeError, ConfigError: data, objective or method that do not fit.
        DivergedError: what was adapted is not finite.
    """
    batch = pytree.tree_map(lambda v: v[None], as_side(side, "adapt's data"))
    shared = None if shared is None else as_side(shared, "shared")
    task = Task(batch, batch, objective, noise=_key(), shared=shared)
    try:
        learner, one, meta, fast = fast_of(owner, task, meta, steps)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InnerloopError):
            raise
        beside = "; where tasks share data, give them too: adapt(data, shared=...)" if shared is None else ""
        said = first_line(error, kind=True)
        raise InputError(
            f"the objective {objective} expected one side of a task, got what it fails on ({said}){beside}"
        ) from error
    number = objective.examples(one.support)
    return FittedData(
        owner,
        learner,
        meta,
        fast,
        one.support,
        None,
        objective,
        steps=steps,
        holds_support=True,
        num_examples=number,
        shared=one.shared,
    )


def expect_shared(shared: Any, others_did: bool) -> None:
    """Raise InputError where tasks seen before shared data and this one comes without; which, only the caller knows."""
    if shared is None and others_did:
        raise InputError(
            "adapt expected the data that this task shares with others, as the tasks seen before did, got none; give "
            "them: adapt(data, shared=table)"
        )


def rows_of(shared: Any, rows: Any, y: Any) -> tuple[Tensor, Tensor]:
    """(x, y) of these rows of shared labelled examples.

    Raises:
        InputError: targets too, other shared data, or rows that are not there.
    """
    if y is not None or not isinstance(shared, Examples):
        got = "targets y too" if y is not None else f"{type(shared).__name__} as shared"
        raise InputError(f"adapt expected row numbers and shared=il.Examples(x, y), got {got}; or give x and y alone")
    found, last = as_tensor(rows, "the row numbers"), len(shared.y) - 1
    if found.ndim != 1 or not len(found) or found.is_floating_point() or found.dtype == torch.bool:
        raise InputError(f"adapt expected row numbers (examples,), got {found.dtype} of shape {tuple(found.shape)}")
    if int(found.min()) < 0 or int(found.max()) > last:
        raise InputError(f"adapt expected rows 0 to {last} of shared, got {int(found.min())} to {int(found.max())}")
    return shared.x[found], shared.y[found]


def data_objective(given: Any, trained: Any, loss: Any, x: Any, y: Any) -> Objective | None:
    """The objective by which ``x`` is adapted to as data that it alone knows; None: x and y are labelled examples.

    Args:
        given: by the caller; None: not.
        trained: of the tasks the learner was trained on, or its name, as far as known.
        loss: the learner's own.
        x, y: as in `MetaLearner.adapt`.

    Raises:
        ConfigError: something else than an objective, or one whose name alone a file holds.
        InputError: targets, which such data have none of.
    """
    if given is not None and not isinstance(given, Objective):
        raise ConfigError(f"objective expected an il.Objective, got {type(given).__name__}; labels take loss=...")
    found = trained if given is None else given
    if (found is None or found == _POLICY) and is_environment(x):
        return objective_in(as_world(x))
    if losses.is_labelled(found):
        unnamed = isinstance(found, str) and found not in losses.OBJECTIVES and loss is None
        if unnamed and y is None and not is_path(x) and not is_tabular(x):
            raise ConfigError(
                f"expected the objective {found} itself, which no file holds; give it: adapt(data, objective={found}()), or "
                "its problem: il.load(run, tasks='package.module:function')"
            )
        return None
    objective: Any = found
    _expect_no_targets(y, objective)
    return objective


def _expect_no_targets(y: Any, objective: Any) -> None:
    if y is not None:
        raise InputError(f"expected one side of a task alone for the objective {objective}, got y too; leave it out")


def as_side(data: Any, name: str) -> Any:
    """A pytree of tensors, from tensors and arrays; InputError for anything else in it."""

    def leaf(value: Any) -> Tensor:
        if isinstance(value, Tensor | np.ndarray):
            return as_tensor(value, name)
        raise InputError(f"{name} expected tensors or arrays of numbers, got {type(value).__name__} among them")

    return pytree.tree_map(leaf, data)


def _key() -> Tensor:
    return keys.task_keys(0, "adapt", 0, 0, 1)
