"""Learners of one task that several methods share; the others stand in their method's file."""

from innerloop.learners.gradient import GradientLearner
from innerloop.learners.matching import MatchingLearner
from innerloop.learners.metric import MetricLearner
from innerloop.learners.multi_step import MultiStepLearner
from innerloop.learners.pooled import PooledLearner
from innerloop.learners.prototype_head import PrototypeHeadLearner
from innerloop.learners.prototypes import PrototypeLearner
from innerloop.learners.proximal import ProximalLearner
from innerloop.learners.relation import RelationLearner
from innerloop.learners.ridge import RidgeLearner
from innerloop.learners.siamese import SiameseLearner

__all__ = [
    "GradientLearner",
    "MatchingLearner",
    "MetricLearner",
    "MultiStepLearner",
    "PooledLearner",
    "PrototypeHeadLearner",
    "PrototypeLearner",
    "ProximalLearner",
    "RelationLearner",
    "RidgeLearner",
    "SiameseLearner",
]
