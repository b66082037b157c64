"""Hyperparameter search that remembers: `fit` learns from past searches, `TransferSampler` begins new ones where they ended.

    hpo = il.hpo.fit(past, task="task", metric="error", direction="minimize", out="runs/hpo")
    study = optuna.create_study(sampler=il.hpo.TransferSampler("runs/hpo", seed=0))

Names are imported when they are first used; optuna is needed for studies alone (the extra ``hpo``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_NAMES = {
    "KINDS": "innerloop.hpo.search",
    "Transfer": "innerloop.hpo.transfer",
    "TransferSampler": "innerloop.hpo.sampler",
    "fit": "innerloop.hpo.fitting",
    "load": "innerloop.hpo.transfer",
}

if TYPE_CHECKING:
    from innerloop.hpo.fitting import fit as fit
    from innerloop.hpo.sampler import TransferSampler as TransferSampler
    from innerloop.hpo.search import KINDS as KINDS
    from innerloop.hpo.transfer import Transfer as Transfer
    from innerloop.hpo.transfer import load as load


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
