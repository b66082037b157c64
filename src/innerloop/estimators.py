"""scikit-learn estimators around a trained learner: fit is adapting to one new task."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from innerloop.data.arrays import as_tensor, label_names
from innerloop.data.table_preprocessing import TablePreprocessing, is_record_of_tables
from innerloop.errors import ConfigError, InputError, first_few
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.labels import encode
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.support_set import wanted_by
from innerloop.objectives import losses

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data
except ImportError:
    raise ConfigError(
        "expected scikit-learn 1.6 or newer for these estimators, got none; install it: pip install 'innerloop[sklearn]'"
    ) from None


class _TypeRefused(InputError, TypeError):
    """Where scikit-learn has a TypeError."""


@contextlib.contextmanager
def _as_ours(X: Any = None) -> Iterator[None]:
    """scikit-learn's refusals in its own words, as errors of ours too, with the column of a data frame."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind, text = InputError if isinstance(error, ValueError) else _TypeRefused, str(error)
        if not text.startswith("The feature names"):  # a list, one name a line
            text = " ".join(text.partition("\nFewShot")[0].split())
        if any(said in text for said in (" NaN", "infinity", " to float", "float()")):
            text = f"{text} ({_column(X)}encode texts and fill in what is missing before it)"
        raise kind(text) from None


def _column(X: Any) -> str:
    """Which column of a data frame holds something else than finite numbers."""
    for name in X.columns if hasattr(X, "iloc") else ():
        try:
            if np.isfinite(np.asarray(X[name], dtype=np.float64)).all():
                continue
        except (TypeError, ValueError):
            pass
        return f"column {name!r}: "
    return ""


class _FewShot(BaseEstimator):
    """What both estimators share.

    Args:
        learner: a trained `MetaLearner`, or the run directory that holds one.
        steps: inner steps in ``fit``; None: the method's.
    """

    def __init__(self, learner: MetaLearner | str | Path | None = None, *, steps: int | None = None) -> None:
        self.learner = learner
        self.steps = steps

    def _trained(self) -> MetaLearner:
        learner = self.learner
        if isinstance(learner, (str, Path)):
            from innerloop.training.load import load

            learner = load(learner)
        if not isinstance(learner, MetaLearner):
            raise ConfigError(
                f"learner expected a trained MetaLearner or a run directory, got {type(learner).__name__}; "
                "train one with il.fit or `innerloop train`"
            )
        return learner

    def _checked(self, X: Any, y: Any, learner: MetaLearner, **of_y: Any) -> tuple[Any, np.ndarray]:
        """A support set as scikit-learn checks it; ``of_y`` as `check_X_y` takes it."""
        self._shape = learner.input_shape
        self._dtype = "numeric" if wanted_by(learner).integers else (np.float64, np.float32)
        self._record = learner.preprocessing if is_record_of_tables(learner.preprocessing) else None
        with _as_ours(X):
            if self._record is None:
                X, shape = _rows(X)
                X, y = validate_data(self, X, y, dtype=self._dtype, **of_y)
                self._shape = shape or self._shape
            else:
                X, y = validate_data(self, X, y, **_of_table(X))
                y = check_X_y(np.zeros((len(X), 1)), y, **of_y)[1]
        return self._taken(X), y

    def _inputs(self, X: Any) -> Any:
        """Later rows, by the support set's columns."""
        check_is_fitted(self)
        with _as_ours(X):
            if self._record is None:
                X = validate_data(self, _rows(X)[0], dtype=self._dtype, reset=False)
            else:
                X = validate_data(self, X, reset=False, **_of_table(X))
        return self._taken(X)

    def _taken(self, X: Any) -> Any:
        """Rows as the learner takes them: in the shape that it was trained on; a table by its columns."""
        if self._record is not None:
            if hasattr(X, "columns"):
                return X
            columns = TablePreprocessing.from_dict(self._record).columns
            if columns is not None:
                names = first_few([column.name for column in columns])
                raise InputError(
                    f"X expected a data frame with the columns that the run was trained on ({names}), which it scales itself, "
                    f"got {type(X).__name__}; give the frame, without a scaler before it"
                )
            return {f"x{i}": X[:, i] for i in range(X.shape[1])}
        return X.reshape(len(X), *self._shape) if self._shape and X.shape[1] == np.prod(self._shape) else X


def _of_table(X: Any) -> dict[str, Any]:
    """How scikit-learn checks rows of a run of tables: a frame's cells are the run's matter, an array's only have to be rows."""
    return {"skip_check_array": True} if hasattr(X, "columns") else {"dtype": None, "ensure_all_finite": False}


def _rows(X: Any) -> tuple[Any, tuple[int, ...]]:
    """Examples of several axes, such as pictures, as the rows that scikit-learn knows, and the shape of one; () for rows."""
    if isinstance(X, Tensor):
        X = X.detach().cpu().numpy()
    shape = np.shape(X) if isinstance(X, list | tuple) else getattr(X, "shape", ())
    return (np.reshape(X, (len(X), -1)), shape[1:]) if len(shape) > 2 else (X, ())


class FewShotClassifier(ClassifierMixin, _FewShot):
    """A trained learner as a scikit-learn classifier: ``fit(X, y)`` adapts to the task that X and y are.

    Works with `clone`, pipelines and cross-validation; X and y are checked by scikit-learn itself. Rows (examples, features) are
    brought back into the learner's own input shape, such as pictures. A run that was trained on tables takes data frames, whose
    columns it finds by name and scales itself.

    Args:
        learner: a trained `MetaLearner`, or the run directory that holds one.
        steps: inner steps in ``fit``; None: the method's.

    Attributes:
        classes_: the labels, sorted as scikit-learn has them, in the order of ``predict_proba``'s columns.
        fitted_: the `Fitted` behind it.

    Example:
        >>> import innerloop as il
        >>> learner = il.protonet(il.models.mlp(2, None, hidden=(8,)))
        >>> few = il.FewShotClassifier(learner).fit([[0.0, 0.0], [1.0, 1.0]], ["a", "b"])
        >>> few.predict([[0.0, 0.1]]).tolist()
        ['a']
    """

    def fit(self, X: Any, y: Any) -> FewShotClassifier:
        """Adapt to the support set (X, y); earlier ones are forgotten."""
        learner = self._trained()
        if losses.predicts_values(wanted_by(learner).loss):
            raise ConfigError(
                "learner expected one of classes, got one whose loss compares values; use FewShotRegressor"
            )
        dtype = getattr(y, "dtype", None)
        if y is not None and getattr(dtype, "kind", "") != "c":
            names = label_names(y)  # before a list is cast to one kind
            own = isinstance(y, list | tuple) or not isinstance(dtype, np.dtype | None)
            own = own or (getattr(dtype, "kind", "") == "O" and not all(isinstance(name, str) for name in names))
            y = np.asarray(names) if own else y
        X, y = self._checked(X, y, learner)
        with _as_ours():
            check_classification_targets(y)
        names, numbers = encode(y)
        fitted = learner.adapt(X, numbers, steps=self.steps)
        if fitted.classes_ is None:
            raise ConfigError(
                "learner expected one of classes, got one whose loss compares values; use FewShotRegressor"
            )
        self.fitted_: Fitted = dataclasses.replace(fitted, classes_=names)
        self.classes_: np.ndarray = np.asarray(names, dtype=y.dtype)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Class names of each row, as ``y`` had them in ``fit``."""
        X = self._inputs(X)
        return self.fitted_.predict(X).astype(self.classes_.dtype)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (examples, classes), columns as ``classes_``."""
        X = self._inputs(X)
        return self.fitted_.predict_proba(X)


class FewShotRegressor(RegressorMixin, _FewShot):
    """A trained learner as a scikit-learn regressor; ``score`` is R^2, as scikit-learn has it.

    Args:
        learner: a trained `MetaLearner`, or the run directory that holds one.
        steps: inner steps in ``fit``; None: the method's.

    Attributes:
        fitted_: the `Fitted` behind it.
    """

    def fit(self, X: Any, y: Any) -> FewShotRegressor:
        """Adapt to the support set (X, y); y is (examples,) or (examples, outputs)."""
        learner = self._trained()
        told = getattr(getattr(y, "dtype", None), "kind", "O") not in "OMmUS" and not np.ma.isMaskedArray(y)
        if y is not None and not told:
            y = as_tensor(y, "y").numpy(force=True)  # what scikit-learn would take for numbers
        X, y = self._checked(X, y, learner, multi_output=True, y_numeric=True)
        y = y.astype(np.float64)
        self._column = y.ndim == 1
        self.fitted_: Fitted = learner.adapt(X, y[:, None] if self._column else y, steps=self.steps)
        if self.fitted_.classes_ is not None:
            raise ConfigError("learner expected one of values, got one that tells classes apart; use FewShotClassifier")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values, in the shape that ``y`` had in ``fit``."""
        X = self._inputs(X)
        found = self.fitted_.predict(X)
        return found[:, 0] if self._column else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
