"""A MetaLearner adapted to one task."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys
from innerloop.core import BaseLearner, Examples, Meta, Task
from innerloop.data.counts import as_packed, is_sparse, kinds_of, wider
from innerloop.data.support_files import is_path, picture_shape, read_inputs
from innerloop.data.table_preprocessing import table_record
from innerloop.data.table_support import encoded, items_of, named, ratings_of, warn
from innerloop.data.tables import Table, as_table
from innerloop.data.texts import are_texts
from innerloop.engine import Engine, take
from innerloop.errors import ConfigError, DivergedError, InputError, ShapeError
from innerloop.meta_learner import labels
from innerloop.meta_learner.boundary import as_tensor, check_finite, expect_adapted, expect_steps, inputs_like
from innerloop.meta_learner.files import write_task
from innerloop.meta_learner.molecules import asked_molecules, in_units, shown_molecules, takes_molecules
from innerloop.meta_learner.own_examples import Judged
from innerloop.meta_learner.query_predictions import predict_alone
from innerloop.meta_learner.ranking import ranked
from innerloop.meta_learner.support_set import (
    Shown,
    Taker,
    both,
    features_of_texts,
    joined,
    more_examples,
    more_rows,
    names_table,
    support_set,
    targets_in,
    wanted_by,
)
from innerloop.meta_learner.trial import explained
from innerloop.meta_learner.unknown_inputs import Threshold, cannot_tell, class_probabilities
from innerloop.models.embeddings import embedded
from innerloop.objectives import losses
from innerloop.objectives.metrics import mse
from innerloop.registry import writable

_NAMED = 5  # classes in a representation


class Owner(Taker, Protocol):
    """What a `Fitted` asks of the `MetaLearner` that it came from."""

    name: str
    learner: BaseLearner
    model_spec: dict[str, Any] | None
    model_record: dict[str, Any]
    meta_gradient_spec: dict[str, Any] | None
    engine: Engine
    output_size: int | None

    @property
    def problem(self) -> dict[str, Any] | None: ...
    @property
    def eval_steps(self) -> int: ...
    @property
    def method_spec(self) -> dict[str, Any]: ...
    @property
    def mixes_examples(self) -> bool: ...
    def to(self, device: torch.device | str) -> Any: ...
    def snapshot(self) -> Meta: ...
    def fitting(self, batch: Task) -> Task: ...
    def adapt(self, x: Any, y: Any = None, steps: int | None = None, *, target: str | None = None) -> Fitted: ...


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
        threshold: how sure a prediction has to be for the input to be of one of the classes; None: not known
            (`innerloop.calibrate` measures it).
        steps: how many it was adapted with; None: ``eval_steps``.
        holds_support: whether ``support`` holds the examples, and not their shapes alone, as from a file without them.
        num_examples: in the support set; None: as many as ``support`` holds.
        table: that the support set comes from, for `learn`; None: it comes from none, or from a file.
        judged: how good it is on its own examples, beside the simplest predictors; None: not known (`innerloop.judge`
            measures it).
        seen: the item of each example in the support set, where one column names items; None: not known.
    """

    owner: Owner
    learner: BaseLearner
    meta: Meta
    fast: Any
    support: Any
    classes_: list[Any] | None
    objective: Any = None
    preprocessing: dict[str, Any] | None = None
    threshold: Threshold | None = None
    steps: int | None = None
    holds_support: bool = True
    num_examples: int | None = None
    table: Table | None = None
    judged: Judged | None = None
    seen: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_examples is None:
            object.__setattr__(self, "num_examples", len(self.support.y))

    def __repr__(self) -> str:
        if self.classes_ is None:
            outputs = self.support.y.shape[1:].numel()
            kind = f"regression, {outputs} output{'' if outputs == 1 else 's'}"
        else:
            names = ", ".join(map(repr, self.classes_[:_NAMED])) + (", ..." if len(self.classes_) > _NAMED else "")
            kind = f"{len(self.classes_)} classes: {names}"
        return f"Fitted({self.owner.name}, {kind}; {self.num_examples} support examples)"

    def to(self, device: torch.device | str) -> Self:
        """This task on a device, with a learner of its own; this one stays where it is."""
        made = copy.deepcopy(self)
        made.owner.to(device)
        for name in ("meta", "fast", "support", *(["shared"] if hasattr(made, "shared") else [])):
            there = pytree.tree_map(lambda v: v.to(device) if isinstance(v, Tensor) else v, getattr(made, name))
            object.__setattr__(made, name, there)
        return made

    def learn(self, x: Any, y: Any = None, steps: int | None = None) -> Fitted:
        """This task with more data, of new classes too: what adapting to all its data at once would have given.

        A method that absorbs data (`BaseLearner.absorbs`) takes the new examples alone, at a cost that does not depend on what
        came before; every other one, new class names, and a rating in place of an earlier one, adapt again to the support set
        with the new examples after it, from the outer parameters that this task was adapted from.

        Args:
            x, y: as in `MetaLearner.adapt`, of a table with the target column or ``y``; new names go into ``classes_`` where
                sorting puts them.
            steps: inner steps where it adapts again; None: as many as before.

        Returns:
            A new `Fitted` without a threshold for unknown inputs and without ``judged``, which were measured for less data; this
            one stays as it is.

        Raises:
            InputError, ShapeError: examples unlike the support set's, more classes than the model has outputs, or a task file
                without the support set where it is needed.
        """
        expect_steps(steps)
        asked = self._steps(steps)
        if are_texts(self.preprocessing):
            x, y = features_of_texts(self.preprocessing, x, y)
        own = self.preprocessing
        if takes_molecules(x, own):
            x, y, own = shown_molecules(own, x, y)
        x = self._named(x)
        shape = tuple(self.support.x.shape[1:]) if isinstance(self.support.x, Tensor) else None
        wanted = dataclasses.replace(wanted_by(self.owner), input_shape=shape, preprocessing=own)
        whole, scaled = None, False
        items: tuple[str, ...] | None = None
        if names_table(x, self.preprocessing, wanted.picture_shape):
            record = table_record(self.preprocessing)
            x, y, notes = ratings_of(x, y, record)
            warn(notes)
            items = items_of(as_table(x), record)
            x, y, whole, scaled = more_rows(wanted, self.table, self.classes_, x, y)
        x, y, preprocessing = more_examples(wanted, self.support, self.classes_, x, y)
        # A rating that was changed takes the place of the one before, which what was absorbed still holds.
        changed = set(self.seen or ()) & set(items or ()) - {""} if self._rates else set()
        absorbs = (
            self.learner.absorbs and not self.owner.mixes_examples and asked > 0 and self.steps != 0 and not scaled
        ) and not changed
        known = None if items is None or self.seen is None else (*self.seen, *items)
        new = [] if self.classes_ is None else labels.unknown(y, self.classes_)
        if absorbs and not new:
            return dataclasses.replace(self._absorbed(x, y), preprocessing=preprocessing, table=whole, seen=known)
        if whole is not None:
            assert self.preprocessing is not None
            targets = self.preprocessing["targets"]
            plain = self.preprocessing["scaling"] == "none"  # such a record names no targets before a table has come
            target = ",".join(targets) if plain or len(targets) == 1 else None
            shown = support_set(wanted_by(self.owner), whole, target=target)
            return adapted(self.owner, shown, self.meta, self.objective, asked)
        if not self.holds_support:
            why = f"the new class {new[0]!r} needs" if absorbs else f"{self.owner.name} learns from"
            why = f"a new rating of {min(changed)!r} in place of another needs" if changed else why
            raise InputError(
                f"{why} the support set, which this task's file does not hold; save it with fitted.save(path, support=True) "
                "(on the command line: adapt --with-examples), or adapt again to all examples"
            )
        kept = self.support
        if changed and self.seen is not None and known is not None:
            stay = torch.tensor([i for i, name in enumerate(self.seen) if name not in changed], dtype=torch.int64)
            kept = Examples(kept.x[stay.to(kept.y.device)], kept.y[stay.to(kept.y.device)])
            known = (*(self.seen[i] for i in stay.tolist()), *known[len(self.seen) :])
        side, classes = joined(wanted, kept, self.classes_, x, y)
        made = adapted(self.owner, Shown(side, classes, preprocessing, None), self.meta, self.objective, asked)
        return dataclasses.replace(made, seen=known)

    def rank(self, items: Any = None, k: int = 10, exclude_seen: bool = True) -> list[Any]:
        """The items that this task would rate best, best first: recommendations for a user.

        Args:
            items: to choose from: their names, or a table with the column of items (and every other input); None: all that the
                learner knows, by training or from its item table.
            k: how many at most.
            exclude_seen: leave out the items of the support set, which the user has rated.

        Returns:
            Names as they were given; integers for ``items=None`` where all names are whole numbers. Equal predictions stay in
            the order of ``items``. What they are expected to be rated is ``predict`` of them.

        Raises:
            ConfigError: no task of one column of items and one number to predict, a ``k`` below 1, inputs beside the items that
                no table says, or items that were seen and are not known (a task from a tensor).
            InputError: no items, or none that the user has not rated.
        """
        return [name for name, _ in ranked(self, items, k, exclude_seen)]

    @property
    def _rates(self) -> bool:
        """Whether rows are ratings, one of each item."""
        record = table_record(self.preprocessing)
        return record is not None and bool(record.scale)

    def _steps(self, steps: int | None) -> int:
        """How many to adapt again with."""
        return next(n for n in (steps, self.steps, self.owner.eval_steps) if n is not None)

    def _absorbed(self, x: Any, y: Any) -> Fitted:
        """This task after more examples of its classes, ``x`` as the support set's inputs are."""
        if self.classes_ is not None:
            y = labels.number(y, self.classes_).to(self.support.y.device)
        with torch.no_grad():
            fast = self.learner.absorb(self.meta, self.fast, Examples(x, y))
        expect_adapted(fast, "the new examples gave values that are not finite; scale them as the first ones were")
        support = self.support
        if self.holds_support:
            support = Examples(
                both(support.x, x, self.preprocessing), torch.cat([support.y, y.to(support.y)]), support.mask
            )
        number = (self.num_examples or 0) + len(y)
        return dataclasses.replace(self, fast=fast, support=support, num_examples=number, threshold=None, judged=None)

    def outputs(self, x: Any, transductive: bool = False) -> Tensor:
        """The model's raw outputs, (examples, outputs)."""
        return self._asked(self.learner.predict, x, transductive)

    def _asked(self, question: Callable[..., Tensor], x: Any, transductive: bool) -> Tensor:
        """The answer of `BaseLearner.predict` or `BaseLearner.predict_std` for inputs that were checked."""
        notes: list[str] = []
        x = self._named(x)
        if names_table(x, self.preprocessing):
            x, notes = encoded(x, self.preprocessing)
        elif is_path(x) and isinstance(self.support.x, Tensor):
            x = read_inputs(x, picture_shape(self.support.x.shape[1:], self.preprocessing), self.preprocessing)[0]
            x = embedded(x, self.preprocessing)
        owner = self.owner
        support = self.support
        if kinds_of(self.preprocessing) is not None:
            support = Examples(wider(support.x, x.shape[-1]), support.y, support.mask)
        tx = inputs_like(x, support.x, owner.device)
        with torch.no_grad(), explained(tx):
            if owner.mixes_examples and not transductive:
                out = predict_alone(question, self.meta, self.fast, support, tx, not owner.engine.needs_loop)
            else:
                out = question(self.meta, self.fast, tx)
        if not bool(torch.isfinite(out).all()):
            raise DivergedError("the prediction is not finite; adapt with fewer steps, or with a lower inner rate")
        warn(notes)
        return out

    def _named(self, x: Any) -> Any:
        """Rows of an array as a table, for a task of tables; texts and pictures in memory as their features."""
        if are_texts(self.preprocessing):
            return features_of_texts(self.preprocessing, x, labelled=False)[0]
        if takes_molecules(x, self.preprocessing):
            x = asked_molecules(self.preprocessing, x)
        if not is_path(x):
            x = embedded(x, self.preprocessing)
        if is_sparse(x) or kinds_of(self.preprocessing) is not None:
            return as_packed(x, self.preprocessing, self.support.x.shape[-1])
        given = is_path(x) or names_table(x, self.preprocessing)
        return x if given else named(x, table_record(self.preprocessing))

    def predict(self, x: Any, transductive: bool = False, unknown: str | int | None = None) -> Any:
        """Class names, or regression values (examples, outputs). Arrays (or paths) in, arrays out; a tensor in, a tensor out.

        Args:
            x: inputs as the support set's were; or paths of pictures; or a table as `MetaLearner.adapt` takes it, whose columns
                are found by name (values are then in the table's units).
            transductive: as the method's published protocol, see above.
            unknown: what to call inputs that are probably of none of the classes, such as "unknown" or -1; a text where the
                classes are texts, an integer where they are integers. None: each input gets one of the classes. A warning says
                where the task cannot tell (`Threshold.works`).

        Raises:
            ConfigError: ``unknown`` for regression, of another kind than the classes or the name of one, or where no threshold
                is known.
        """
        if unknown is not None:
            self._check_unknown(unknown)
        x = self._named(x)
        out = self.outputs(x, transductive)
        if self.classes_ is None:
            return self.in_units(out, x)
        chosen = self.probabilities(out).argmax(-1).cpu()
        known = [True] * len(chosen) if unknown is None else self.knows(out).tolist()
        names = [self.classes_[i] if sure else unknown for i, sure in zip(chosen.tolist(), known, strict=True)]
        if any(isinstance(v, Tensor) for v in pytree.tree_leaves(x)) and not isinstance(names[0], str):
            return torch.tensor(names)
        return np.asarray(names)

    def predict_std(self, x: Any, transductive: bool = False) -> Any:
        """Standard deviations of the predicted distributions, (examples, outputs), in the units of the targets.

        Raises:
            ConfigError: a method that predicts values alone, or a classification task.
        """
        x = self._named(x)
        return self.in_units(self._asked(self.learner.predict_std, x, transductive), x, spread=True)

    @property
    def change_probability(self) -> float:
        """How likely it is that the task changed within the last examples that it learned.

        Raises:
            ConfigError: a learner that looks for no changes.
        """
        found = getattr(self.fast, "change_probability", None)
        if found is None:
            raise ConfigError(
                f"change_probability expected a learner that looks for changes, got {self.owner.name} without; make it with "
                "changepoints=True, which its method has to have"
            )
        return float(found)

    def predict_proba(self, x: Any, transductive: bool = False) -> Any:
        """Class probabilities (examples, classes); columns follow ``classes_``."""
        if self.classes_ is None:
            raise ConfigError("predict_proba expected a classification task, got regression; use predict")
        return self._as_given(self.probabilities(self.outputs(x, transductive)), x)

    def score(self, x: Any, y: Any = None, transductive: bool = False) -> float:
        """Accuracy (a fraction), or mean squared error for regression; of a table in its units, and ``y`` may be its target."""
        if are_texts(self.preprocessing):
            x, y = features_of_texts(self.preprocessing, x, y)
        if takes_molecules(x, self.preprocessing):
            x, y, _ = shown_molecules(self.preprocessing, x, y)
            if self.classes_ is None:
                found, y = (in_units(self.preprocessing, v, False) for v in (self.outputs(x).cpu().numpy(), y))
                return float(np.square(found - y).mean())
        x = self._named(x)
        if names_table(x, self.preprocessing):
            x = as_table(x)
            if self.classes_ is None:
                found = as_tensor(self.predict(x, transductive), "x")
                given = targets_in(x, self.preprocessing, None) if y is None else None
                target = as_tensor(y if given is None else self.in_units(torch.as_tensor(given), x), "y").to(found)
                target = target[:, None] if target.ndim == 1 and found.shape[1:] == (1,) else target
                losses.check_shapes(losses.mse, found, target)
                return float(mse(found, target))
            y = targets_in(x, self.preprocessing, self.classes_) if y is None else y
        if y is None:
            raise InputError("score expected targets y with x, got none; give them")
        out = self.outputs(x, transductive)
        if self.classes_ is None:
            target = as_tensor(y, "y").to(out)
            if not losses.takes_missing(self.owner.loss or self.objective, target):
                check_finite(target, "y")
            losses.check_shapes(losses.mse, out, target)
            return float(mse(out, target))
        known = labels.number(y, self.classes_).to(out.device)
        if known.shape[0] != out.shape[0]:
            raise ShapeError(f"x and y expected equally many examples, got {out.shape[0]} and {known.shape[0]}")
        return float((self.probabilities(out).argmax(-1) == known).to(torch.float64).mean())

    def save(self, path: str | Path, support: bool = False) -> Path:
        """Write one self-contained file (safetensors and JSON, no pickle); `il.load` opens it.

        Args:
            path: where.
            support: keep the support set too, so that `learn` works after loading; otherwise somebody's data travel with the
                file only where predictions are made beside them.

        Raises:
            InputError: ``support`` for a task that was opened from a file without it.
            ConfigError: inputs that are several tensors.
        """
        if support and not self.holds_support:
            raise InputError("save expected a task with its support set, got one from a file without; adapt again")
        if not isinstance(self.support.x, Tensor):
            raise ConfigError(
                "save expected a task whose inputs are one tensor, got several; keep its learner's run and adapt again"
            )
        owner, path = self.owner, Path(path)
        header = {
            "algorithm": owner.method_spec,
            **({"meta_gradient": owner.meta_gradient_spec} if owner.meta_gradient_spec else {}),
            "model": owner.model_record,
            # A model without a name may be the default one of the problem that was trained on.
            **({"tasks": owner.problem} if owner.model_spec is None and writable(owner.problem) else {}),
            "objective": losses.name_of(owner.task_objective),
            "classes": self.classes_,
            "task_objective": self.objective if isinstance(self.objective, str) else None,
            "preprocessing": self.preprocessing,
            **({} if self.threshold is None else {"threshold": self.threshold.to_dict()}),
            **({} if self.judged is None else {"judged": self.judged.to_dict()}),
            **({} if self.seen is None else {"seen": list(self.seen)}),  # to recommend others
            "mixes_examples": owner.mixes_examples,
            "needs_loop": list(owner.engine.needs_loop),
            "written": list(owner.pure.written),
            **({"draws": True} if owner.pure.draws_itself else {}),
            "dtype": str(owner.dtype),
        }
        write_task(
            path,
            fast=self.fast,
            meta=self.meta,
            module=owner.model,
            support=self.support,
            num_examples=self.num_examples or 0,
            keeps_inputs=support or owner.mixes_examples,  # predictions are made beside them
            keeps_targets=support,
            header=header,
        )
        return path

    def probabilities(self, out: Tensor) -> Tensor:
        """Over the classes that the support set had; a model may have more outputs than that."""
        assert self.classes_ is not None
        found = class_probabilities(out, len(self.classes_))
        return found if found.shape[-1] == len(self.classes_) else torch.ones_like(found[..., :1])

    def knows(self, out: Tensor) -> Bool[Tensor, " examples"]:
        """Which inputs are probably of one of the classes, by the raw outputs for them (`outputs`).

        Raises:
            ConfigError: a regression task, or no threshold is known.
        """
        if self.classes_ is None:
            raise ConfigError("unknown inputs expected a classification task, got regression; leave them out")
        if self.threshold is None:
            raise ConfigError(
                "expected a task with a threshold for unknown inputs, got none; measure it: il.calibrate(fitted, tasks.valid), "
                "or innerloop adapt again"
            )
        return self.threshold.knows(out, len(self.classes_)).cpu()

    def _check_unknown(self, name: str | int) -> None:
        self.knows(torch.zeros(0, 2))
        assert self.classes_ is not None
        if self.threshold is not None and not self.threshold.works:
            warn([cannot_tell(self.threshold)])
        if name in self.classes_:
            raise ConfigError(
                f"unknown expected a label that is no class, got {name!r}; give another or rename the class"
            )
        if isinstance(name, str) != isinstance(self.classes_[0], str):
            kind = "a text" if isinstance(self.classes_[0], str) else "an integer"
            raise ConfigError(f"unknown expected {kind} as the classes are, got {name!r}; give another")

    def in_units(self, value: Tensor, x: Any, spread: bool = False) -> Any:
        """Regression values, or their spread, as the targets were given: for a table in its units."""
        found = self._as_given(value, x)
        record = table_record(self.preprocessing)
        if record is None and not isinstance(x, Tensor):
            return in_units(self.preprocessing, found, spread)
        if record is None or not names_table(x, self.preprocessing):
            return found
        found = found.reshape(len(found), -1)
        return record.original(found) - (record.original(0 * found) if spread else 0)

    def _as_given(self, value: Tensor, x: Any) -> Any:
        return value if any(isinstance(v, Tensor) for v in pytree.tree_leaves(x)) else value.cpu().numpy()


def adapted(
    owner: Owner,
    shown: Shown,
    meta: Meta | None,
    objective: Any,
    steps: int,
) -> Fitted:
    """A learner adapted to one task.

    Args:
        owner: the learner.
        shown: the support set.
        meta: the outer parameters to adapt from; None: the owner's, as they are now.
        objective: the task's; None where the learner has a loss of its own.
        steps: inner steps.

    Raises:
        InputError: more classes than the model has outputs.
        DivergedError: what was adapted is not finite.
    """
    side, classes, preprocessing, table, notes = shown
    task = Task(side, side, objective, noise=keys.task_keys(0, "adapt", 0, 0, 1))
    learner, one, meta, fast = fast_of(owner, task, meta, steps, classes)
    warn(notes)
    seen = items_of(table, table_record(preprocessing))
    return Fitted(
        owner, learner, meta, fast, one.support, classes, objective, preprocessing, steps=steps, table=table, seen=seen
    )


def fast_of(
    owner: Owner,
    task: Task,
    meta: Meta | None,
    steps: int,
    classes: list[Any] | None = None,
    learner: BaseLearner | None = None,
) -> tuple[BaseLearner, Task, Meta, Any]:
    """(the learner in evaluation, the one task of this batch as it takes it, the outer parameters, what is adapted); errors
    as `adapted`."""
    task = owner.fitting(task)  # from now on it is known which buffers a pass writes
    meta = owner.snapshot() if meta is None else meta
    if classes is not None and owner.output_size is not None and len(classes) > max(owner.output_size, 2):
        raise InputError(
            f"the model has {owner.output_size} outputs, got {len(classes)} classes; train with ways={len(classes)}"
        )
    learner = (learner or owner.learner).in_evaluation()
    with torch.no_grad():
        one = take(task, 0)
        fast = learner.adapt(meta, one, steps)
    expect_adapted(
        fast,
        f"adapting for {steps} steps gave values that are not finite; use fewer steps, or a learner with a lower inner rate",
    )
    return learner, one, meta, fast
