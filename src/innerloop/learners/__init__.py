"""Learners of one task."""

from innerloop.learners.gradient import GradientLearner
from innerloop.learners.metric import MetricLearner, PrototypeLearner
from innerloop.learners.multi_step import MultiStepLearner
from innerloop.learners.pooled import PooledLearner
from innerloop.learners.prototype_head import PrototypeHeadLearner
from innerloop.learners.ridge import RidgeLearner

__all__ = [
    "GradientLearner",
    "MetricLearner",
    "MultiStepLearner",
    "PooledLearner",
    "PrototypeHeadLearner",
    "PrototypeLearner",
    "RidgeLearner",
]
