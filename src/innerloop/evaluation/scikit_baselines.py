"""Logistic regression and a random forest of scikit-learn beside the baselines in torch, for rows of numbers.

Fitted one task after another: a forest takes a third of a second for 25 rows, three and a half minutes for the 600 tasks of an
evaluation, so they are judged on somebody's own examples alone. scikit-learn is no requirement: where it is not installed
there are none.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.core import Task

NAMES = ("logistic", "forest")
_TREES = 100


def names(batch: Task) -> tuple[str, ...]:
    """Those that suit such tasks, whose inputs are rows of numbers; none where scikit-learn is not installed."""
    if importlib.util.find_spec("sklearn") is None or batch.support.x.ndim != 3 or not batch.support.x.shape[2]:
        return ()
    if batch.support.y.is_floating_point():
        return () if bool(batch.support.y.isnan().any()) else NAMES[1:]  # they take no missing targets
    return NAMES


def predictions(name: str, batch: Task, ways: int) -> Float[Tensor, "tasks queries outputs"]:
    """What one of `names` says of the queries: probabilities of the classes, or values; arguments as `baselines.predictions`."""
    support, query = batch.support, batch.query
    found = []
    for i in range(len(support.y)):
        shown = slice(None) if support.mask is None else support.mask[i].cpu()
        x, y = support.x[i].cpu()[shown].double().numpy(), support.y[i].cpu()[shown].numpy()
        z = query.x[i].cpu().double().numpy()
        found.append(torch.from_numpy(_values(x, y, z) if ways == 0 else _chances(name, x, y, z, ways)))
    return torch.stack(found)


def _chances(name: str, x: np.ndarray, y: np.ndarray, z: np.ndarray, ways: int) -> np.ndarray:
    """A class that has no example gets 0."""
    if name == "logistic":
        made: Any = importlib.import_module("sklearn.linear_model").LogisticRegression(max_iter=500)
    else:
        made = importlib.import_module("sklearn.ensemble").RandomForestClassifier(_TREES, random_state=0)
    chances = np.zeros((len(z), ways))
    fitted = made.fit(x, y)
    chances[:, fitted.classes_] = fitted.predict_proba(z)
    return chances


def _values(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    made = importlib.import_module("sklearn.ensemble").RandomForestRegressor(_TREES, random_state=0)
    flat = y.reshape(len(y), -1)
    return made.fit(x, flat if flat.shape[1] > 1 else flat[:, 0]).predict(z).reshape(len(z), *y.shape[1:])
