"""Estimators of the outer gradient. META_GRADIENTS are those that a learner may be given instead of its own."""

from __future__ import annotations
from innerloop.registry import Entry
from typing import Any, TYPE_CHECKING

__all__ = ["Any", "Entry", "TYPE_CHECKING", "annotations"]
