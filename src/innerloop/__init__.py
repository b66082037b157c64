"""innerloop: meta-learning in PyTorch. Give it a family of tasks and it learns how to learn.

Names are imported when they are first used, so ``import innerloop`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from innerloop.errors import CheckpointError as CheckpointError
from innerloop.errors import ConfigError as ConfigError
from innerloop.errors import DivergedError as DivergedError
from innerloop.errors import InnerloopError as InnerloopError
from innerloop.errors import InnerloopWarning as InnerloopWarning
from innerloop.errors import InputError as InputError
from innerloop.errors import OutOfMemory as OutOfMemory
from innerloop.errors import ShapeError as ShapeError
from innerloop.methods import NAMED as _METHODS
from innerloop.registry import load as load_part

__version__ = "0.1.0"

_NAMES = {
    "Architecture": "innerloop.models.architecture",
    "Counts": "innerloop.data.counts",
    "BaseLearner": "innerloop.core",
    "Examples": "innerloop.core",
    "Meta": "innerloop.core",
    "Objective": "innerloop.core",
    "MetaGradient": "innerloop.core",
    "Report": "innerloop.core",
    "StreamReport": "innerloop.lifelong.stream_report",
    "Task": "innerloop.core",
    "TaskDistribution": "innerloop.core",
    "TaskFamily": "innerloop.core",
    "UpdateRule": "innerloop.core",
    "FewShotClassifier": "innerloop.estimators",
    "FewShotRegressor": "innerloop.estimators",
    "Fitted": "innerloop.meta_learner.fitted",
    "MetaLearner": "innerloop.meta_learner.meta_learner",
    "calibrate": "innerloop.evaluation.calibration",
    "check_meta_gradient": "innerloop.doctor",
    "compare": "innerloop.evaluation.compare",
    "darts": "innerloop.training.darts",
    "evaluate": "innerloop.evaluation.evaluate",
    "evaluate_online": "innerloop.evaluation.online",
    "evaluate_stream": "innerloop.evaluation.streams",
    "fit": "innerloop.training.fit",
    "hypergradients": "innerloop.training.hypergradients",
    "judge": "innerloop.evaluation.own_examples",
    "keep_freed_memory": "innerloop.allocation",
    "la_maml": "innerloop.lifelong.methods.la_maml",
    "learn_stream": "innerloop.lifelong.learn",
    "load": "innerloop.training.load",
    "pull": "innerloop.sharing",
    "push": "innerloop.sharing",
    "random_architecture": "innerloop.models.architecture",
    "OnlineLearner": "innerloop.lifelong.learner",
    "Optimizer": "innerloop.training.torch_optimizer",
    "which_optimizer": "innerloop.evaluation.optimizer_sweep",
    "screen": "innerloop.meta_learner.molecules",
    "sync_gradients": "innerloop.training.distributed",
    "with_meta_gradient": "innerloop.methods.other_meta_gradient",
}
_MODULES = {
    "hpo": "innerloop.hpo",
    "learners": "innerloop.learners",
    "lifelong": "innerloop.lifelong",
    "losses": "innerloop.objectives.losses",
    "meta_gradients": "innerloop.meta_gradients",
    "models": "innerloop.models",
    "recipes": "innerloop.recipes",
    "report": "innerloop.report",
    "rules": "innerloop.rules",
    "tasks": "innerloop.tasks",
    "worlds": "innerloop.worlds",
}

if TYPE_CHECKING:
    from innerloop import hpo as hpo
    from innerloop import learners as learners
    from innerloop import lifelong as lifelong
    from innerloop import meta_gradients as meta_gradients
    from innerloop import models as models
    from innerloop import recipes as recipes
    from innerloop import report as report
    from innerloop import rules as rules
    from innerloop import tasks as tasks
    from innerloop import worlds as worlds
    from innerloop.allocation import keep_freed_memory as keep_freed_memory
    from innerloop.core import BaseLearner as BaseLearner
    from innerloop.core import Examples as Examples
    from innerloop.core import Meta as Meta
    from innerloop.core import MetaGradient as MetaGradient
    from innerloop.core import Objective as Objective
    from innerloop.core import Report as Report
    from innerloop.core import Task as Task
    from innerloop.core import TaskDistribution as TaskDistribution
    from innerloop.core import TaskFamily as TaskFamily
    from innerloop.core import UpdateRule as UpdateRule
    from innerloop.data.counts import Counts as Counts
    from innerloop.doctor import check_meta_gradient as check_meta_gradient
    from innerloop.estimators import FewShotClassifier as FewShotClassifier
    from innerloop.estimators import FewShotRegressor as FewShotRegressor
    from innerloop.evaluation.calibration import calibrate as calibrate
    from innerloop.evaluation.compare import compare as compare
    from innerloop.evaluation.evaluate import evaluate as evaluate
    from innerloop.evaluation.online import evaluate_online as evaluate_online
    from innerloop.evaluation.optimizer_sweep import which_optimizer as which_optimizer
    from innerloop.evaluation.own_examples import judge as judge
    from innerloop.evaluation.streams import evaluate_stream as evaluate_stream
    from innerloop.lifelong.learn import learn_stream as learn_stream
    from innerloop.lifelong.learner import OnlineLearner as OnlineLearner
    from innerloop.lifelong.methods.la_maml import la_maml as la_maml
    from innerloop.lifelong.stream_report import StreamReport as StreamReport
    from innerloop.meta_learner.fitted import Fitted as Fitted
    from innerloop.meta_learner.meta_learner import MetaLearner as MetaLearner
    from innerloop.meta_learner.molecules import screen as screen
    from innerloop.methods.alpaca import alpaca as alpaca
    from innerloop.methods.anp import anp as anp
    from innerloop.methods.cnp import cnp as cnp
    from innerloop.methods.column_evidence import column_evidence as column_evidence
    from innerloop.methods.dkt import dkt as dkt
    from innerloop.methods.gp_mixture import gp_mixture as gp_mixture
    from innerloop.methods.imaml import imaml as imaml
    from innerloop.methods.learned_optimizer import learned_optimizer as learned_optimizer
    from innerloop.methods.learned_schedule import learned_schedule as learned_schedule
    from innerloop.methods.lstm_metalearner import lstm_metalearner as lstm_metalearner
    from innerloop.methods.maml import anil as anil
    from innerloop.methods.maml import boil as boil
    from innerloop.methods.maml import fomaml as fomaml
    from innerloop.methods.maml import maml as maml
    from innerloop.methods.maml import meta_sgd as meta_sgd
    from innerloop.methods.maml_rl import maml_rl as maml_rl
    from innerloop.methods.mamlpp import mamlpp as mamlpp
    from innerloop.methods.mann import mann as mann
    from innerloop.methods.matching import matching as matching
    from innerloop.methods.melu import melu as melu
    from innerloop.methods.metanet import metanet as metanet
    from innerloop.methods.multitask_average import multitask_average as multitask_average
    from innerloop.methods.oml import anml as anml
    from innerloop.methods.oml import oml as oml
    from innerloop.methods.other_meta_gradient import with_meta_gradient as with_meta_gradient
    from innerloop.methods.pfn import pfn as pfn
    from innerloop.methods.pretrained import pretrained as pretrained
    from innerloop.methods.proto_maml import proto_maml as proto_maml
    from innerloop.methods.protonet import protonet as protonet
    from innerloop.methods.r2d2 import r2d2 as r2d2
    from innerloop.methods.relation import relation as relation
    from innerloop.methods.reptile import reptile as reptile
    from innerloop.methods.rl2 import rl2 as rl2
    from innerloop.methods.score_model import score_model as score_model
    from innerloop.methods.scratch import scratch as scratch
    from innerloop.methods.siamese import siamese as siamese
    from innerloop.methods.snail import snail as snail
    from innerloop.models.architecture import Architecture as Architecture
    from innerloop.models.architecture import random_architecture as random_architecture
    from innerloop.objectives import losses as losses
    from innerloop.sharing import pull as pull
    from innerloop.sharing import push as push
    from innerloop.training.darts import darts as darts
    from innerloop.training.distributed import sync_gradients as sync_gradients
    from innerloop.training.fit import fit as fit
    from innerloop.training.hypergradients import hypergradients as hypergradients
    from innerloop.training.load import load as load
    from innerloop.training.torch_optimizer import Optimizer as Optimizer


def __getattr__(name: str) -> Any:
    if name in _METHODS:
        return load_part("algorithm", _METHODS, name)
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'innerloop' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_METHODS, *_NAMES, *_MODULES])
