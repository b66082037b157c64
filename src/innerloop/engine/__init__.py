"""One-task code over many tasks."""

from innerloop.engine.engine import Engine, take
from innerloop.engine.gradient import gradient

__all__ = ["Engine", "gradient", "take"]
