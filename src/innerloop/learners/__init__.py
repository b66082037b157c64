"""Learners of one task."""

from innerloop.learners.gradient import GradientLearner
from innerloop.learners.metric import MetricLearner, PrototypeLearner
from innerloop.learners.multi_step import MultiStepLearner
from innerloop.learners.pooled import PooledLearner
from innerloop.learners.proximal import ProximalLearner

__all__ = [
    "GradientLearner",
    "MetricLearner",
    "MultiStepLearner",
    "PooledLearner",
    "PrototypeLearner",
    "ProximalLearner",
]
