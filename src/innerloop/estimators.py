"""scikit-learn estimators around a trained learner: fit is adapting to one new task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from innerloop.errors import ConfigError, ShapeError
from innerloop.meta_learner.fitted import Fitted
from innerloop.meta_learner.meta_learner import MetaLearner

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise ConfigError(
        "expected scikit-learn for these estimators, got none; install it: pip install 'innerloop[sklearn]'"
    ) from None


class _FewShot(BaseEstimator):
    """What both estimators share.

    Args:
        learner: a trained `MetaLearner`, or the run directory that holds one.
        steps: inner steps in ``fit``; None: the method's.
    """

    def __init__(self, learner: MetaLearner | str | Path | None = None, *, steps: int | None = None) -> None:
        self.learner = learner
        self.steps = steps

    def _adapt(self, X: Any, y: Any) -> None:
        learner = self.learner
        if isinstance(learner, (str, Path)):
            from innerloop.training.load import load

            learner = load(learner)
        if not isinstance(learner, MetaLearner):
            raise ConfigError(
                f"learner expected a trained MetaLearner or a run directory, got {type(learner).__name__}; "
                "train one with il.fit or `innerloop train`"
            )
        self._shape = learner.input_shape
        X = self._inputs(X)
        self.n_features_in_ = int(np.prod(X.shape[1:]))
        self.fitted_: Fitted = learner.adapt(X, y, steps=self.steps)

    def _inputs(self, X: Any) -> np.ndarray:
        """Rows as scikit-learn has them, back in the shape that the learner was trained on."""
        X = np.asarray(X)
        if X.ndim == 0:
            raise ShapeError("X expected (examples, features), got a single number; give one row an example")
        if X.dtype.kind in "iub":
            X = X.astype(np.float32)
        if (
            self._shape is not None
            and X.ndim == 2
            and X.shape[1:] != self._shape
            and X.shape[1] == np.prod(self._shape)
        ):
            X = X.reshape(len(X), *self._shape)
        return X

    def predict(self, X: Any) -> np.ndarray:
        """Class names, or values, of each row."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.predict(self._inputs(X))


class FewShotClassifier(ClassifierMixin, _FewShot):
    """A trained learner as a scikit-learn classifier: ``fit(X, y)`` adapts to the task that X and y are.

    Works with `clone`, pipelines and cross-validation. Rows (examples, features) are brought back into the learner's own
    input shape, such as pictures.

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
        y = np.asarray(y)
        if y.dtype.kind == "f":
            raise ConfigError("y expected class labels, got floating-point values; use FewShotRegressor for those")
        self._adapt(X, y)
        names = self.fitted_.classes_
        assert names is not None
        found = np.asarray(names)
        self._order = np.argsort(found, kind="stable")
        self.classes_ = found[self._order]
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (examples, classes), columns as ``classes_``."""
        check_is_fitted(self, "fitted_")
        return self.fitted_.predict_proba(self._inputs(X))[:, self._order]


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
        y = np.asarray(y, dtype=np.float64)
        self._flat = y.ndim == 1
        self._adapt(X, y[:, None] if self._flat else y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Values, in the shape that ``y`` had in ``fit``."""
        found = super().predict(X)
        return found[:, 0] if self._flat else found
