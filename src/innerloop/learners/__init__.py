"""Learners of one task."""

from innerloop.learners.attentive_process import AttentiveLearner
from innerloop.learners.column_evidence import ColumnEvidenceLearner
from innerloop.learners.gradient import GradientLearner
from innerloop.learners.memory import MemoryLearner
from innerloop.learners.meta_networks import MetaNetLearner
from innerloop.learners.metric import MetricLearner
from innerloop.learners.neural_process import ConditionalLearner
from innerloop.learners.prior_fitted import PriorFittedLearner
from innerloop.learners.proximal import ProximalLearner
from innerloop.learners.sequence import SequenceLearner

__all__ = [
    "AttentiveLearner",
    "ColumnEvidenceLearner",
    "ConditionalLearner",
    "GradientLearner",
    "MemoryLearner",
    "MetaNetLearner",
    "MetricLearner",
    "PriorFittedLearner",
    "ProximalLearner",
    "SequenceLearner",
]
