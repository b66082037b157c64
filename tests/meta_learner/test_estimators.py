"""A trained learner among scikit-learn's tools."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop as il

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def blobs(per_class: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = {"owl": (0, 0), "ant": (4, 0), "cat": (0, 4)}
    X = np.concatenate([rng.normal(c, 0.3, (per_class, 2)) for c in centres.values()]).astype(np.float32)
    return X, np.repeat(list(centres), per_class)


def protonet():
    torch.manual_seed(0)
    return il.protonet(il.models.mlp(2, None, hidden=(16,)))


def test_columns_follow_sorted_classes_as_everywhere_in_scikit_learn():
    X, y = blobs()
    few = il.FewShotClassifier(protonet()).fit(X, y)
    assert few.classes_.tolist() == ["ant", "cat", "owl"] and few.n_features_in_ == 2
    p = few.predict_proba(X)
    assert (few.classes_[p.argmax(1)] == few.predict(X)).all()
    assert few.score(X, y) == 1.0


def test_clone_pipeline_and_cross_validation():
    X, y = blobs()
    few = il.FewShotClassifier(protonet(), steps=1)
    few.fit(X, y)
    fresh = clone(few)
    assert fresh.get_params()["steps"] == 1
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    assert fresh.fit(X, y).predict(X).tolist() == few.predict(X).tolist()
    scores = cross_val_score(make_pipeline(StandardScaler(), few), X, y, cv=3)
    assert scores.min() == 1.0


def test_rows_of_pixels_are_pictures_again():
    torch.manual_seed(0)
    learner = il.protonet(il.models.conv4((1, 16, 16), None, filters=3, downsample="max_pool"))
    learner.input_shape = (1, 16, 16)
    X = np.random.default_rng(1).random((6, 256), dtype=np.float32)
    few = il.FewShotClassifier(learner).fit(X, [0, 0, 1, 1, 2, 2])
    direct = learner.adapt(X.reshape(6, 1, 16, 16), [0, 0, 1, 1, 2, 2])
    assert np.allclose(few.predict_proba(X), direct.predict_proba(X.reshape(6, 1, 16, 16)))


def test_regression_from_a_run_directory(tmp_path):
    learner = il.maml(il.models.mlp(1, 1), inner_steps=5)
    il.fit(learner, il.tasks.sinusoid(), steps=2, num_tasks=2, valid_tasks=2, quiet=True, out=tmp_path / "run")
    X = np.linspace(-5, 5, 10)[:, None]
    few = il.FewShotRegressor(str(tmp_path / "run"), steps=50).fit(X, np.sin(X[:, 0]))
    assert few.predict(X).shape == (10,) and few.score(X, np.sin(X[:, 0])) > il.FewShotRegressor(learner, steps=0).fit(
        X, np.sin(X[:, 0])
    ).score(X, np.sin(X[:, 0]))
    assert few.fit(X, np.stack([np.sin(X[:, 0])], 1)).predict(X).shape == (10, 1)


def test_what_does_not_fit_is_said():
    X, y = blobs()
    with pytest.raises(il.ConfigError, match="trained MetaLearner or a run directory, got NoneType"):
        il.FewShotClassifier().fit(X, y)
    with pytest.raises(il.ConfigError, match="class labels, got floating-point"):
        il.FewShotClassifier(protonet()).fit(X, np.zeros(len(X)))
    with pytest.raises(il.ShapeError, match="expected shape"):
        il.FewShotClassifier(protonet()).fit(X, y).predict(X[:, :1])
