"""One-task code over many tasks."""

from innerloop.engine.engine import Engine, take
from innerloop.engine.gradient import gradient
from innerloop.engine.plan import STRATEGIES, Plan

__all__ = ["STRATEGIES", "Engine", "Plan", "gradient", "take"]
