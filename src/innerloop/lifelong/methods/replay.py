"""Plain gradient steps on a stream, with and without examples kept from before: the baselines of lifelong learning."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from innerloop.errors import ConfigError, expect_whole
from innerloop.lifelong.learner import OnlineLearner, expect_rates


class Replay(OnlineLearner):
    """SGD on each batch as it comes, together with some of the memory; see `replay`."""

    lr: float
    replayed: int

    def __init__(
        self,
        name: str,
        model: nn.Module,
        options: dict[str, Any],
        *,
        lr: float,
        replayed: int,
        memory: int,
        glances: int,
        seed: int,
    ) -> None:
        expect_rates(lr=lr)
        super().__init__(name, model, options, memory=memory, glances=glances, seed=seed)
        self.lr, self.replayed = lr, replayed
        self.has_memory: bool = memory > 0

    def _learn(self, x: Tensor, y: Tensor) -> None:
        for _ in range(self.glances):
            kept = self.memory.draw(self.replayed)
            both = (x, y) if kept is None else (torch.cat([x, kept[0]]), torch.cat([y, kept[1]]))
            grads = self.gradient(*both)
            self.params: dict[str, Tensor] = {n: p - self.lr * grads[n] for n, p in self.params.items()}


def online(model: nn.Module, *, lr: float = 0.03, glances: int = 1, seed: int = 0) -> OnlineLearner:
    """SGD on each batch as it comes, and nothing against forgetting.

    Give it a model that was trained before for the baseline "pretrained, then online".

    Args:
        model: any nn.Module; copied.
        lr: rate of the steps.
        glances: steps on each batch.
        seed: there is nothing to draw; as the other methods.

    Raises:
        ConfigError: a number out of range, a model with batch norm.
    """
    options = {"lr": lr, "glances": glances}
    return Replay("online", model, options, lr=lr, replayed=0, memory=0, glances=glances, seed=seed)


def replay(
    model: nn.Module,
    *,
    lr: float = 0.03,
    memory: int = 200,
    replayed: int = 10,
    glances: int = 1,
    seed: int = 0,
) -> OnlineLearner:
    """Experience replay: SGD on each batch together with examples that were kept from all that was seen, at random.

    Args:
        model: any nn.Module; copied.
        lr: rate of the steps.
        memory: how many examples are kept, each seen one with the same probability (a reservoir).
        replayed: how many of them join each step.
        glances: steps on each batch.
        seed: of what is kept and drawn.

    Raises:
        ConfigError: a number out of range, a model with batch norm.

    Reference: Chaudhry et al. 2019, "On tiny episodic memories in continual learning", arXiv:1902.10486.
    """
    expect_whole("replayed", replayed)
    if memory == 0:
        raise ConfigError("memory expected at least 1 for replay, got 0; for no memory use il.lifelong.online")
    options = {"lr": lr, "memory": memory, "replayed": replayed, "glances": glances}
    return Replay("replay", model, options, lr=lr, replayed=replayed, memory=memory, glances=glances, seed=seed)
