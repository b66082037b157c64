"""The outer optimizer, and the meta-gradient's largest norm."""

from __future__ import annotations

import torch

from innerloop.meta_learner.meta_learner import MetaLearner


def make_optimizer(name: str, learner: MetaLearner, lr: float, rule_lr: float | None = None) -> torch.optim.Optimizer:
    """The outer optimizer; one object for the whole run, never shared with the inner loop.

    Each group keeps the top of its schedule as ``peak_lr``.
    """
    rule = {id(p) for p in learner.rule.values()}
    trained = [p for p in learner.parameters() if p.requires_grad]
    peak = lr if rule_lr is None else rule_lr
    groups = [
        {"params": [p for p in trained if id(p) not in rule], "lr": lr, "peak_lr": lr},
        {"params": [p for p in trained if id(p) in rule], "lr": peak, "peak_lr": peak},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.SGD(groups, lr=lr) if name == "sgd" else torch.optim.Adam(groups, lr=lr, fused=True)


def clip(parameters: list[torch.nn.Parameter], largest: float | None) -> None:
    """Clip the meta-gradient's norm; `MetaLearner.backward` has seen to it that it is finite."""
    if largest is not None:
        torch.nn.utils.clip_grad_norm_(parameters, largest)
