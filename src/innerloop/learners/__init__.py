"""Learners of one task that several methods share; the others stand in their method's file."""

from innerloop.learners.gradient import GradientLearner
from innerloop.learners.metric import MetricLearner
from innerloop.learners.proximal import ProximalLearner

__all__ = [
    "GradientLearner",
    "MetricLearner",
    "ProximalLearner",
]
