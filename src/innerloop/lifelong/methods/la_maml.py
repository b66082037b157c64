"""La-MAML: look ahead along the stream and learn a rate for every parameter, so that new examples do not undo old ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.errors import ConfigError, expect_whole
from innerloop.lifelong.learner import OnlineLearner, expect_rates

_RATE = "rate."


class LookAhead(OnlineLearner):
    """La-MAML, Sync and C-MAML; see `la_maml`."""

    rate_lr: float
    outer_lr: float
    learn_rates: bool
    sync: bool
    replayed: int
    clip: float | None
    inner_clip: float | None
    first_order: bool

    def __init__(
        self,
        model: nn.Module,
        options: dict[str, Any],
        *,
        inner_lr: float,
        rate_lr: float,
        outer_lr: float,
        learn_rates: bool,
        sync: bool,
        replayed: int,
        clip: float | None,
        inner_clip: float | None,
        first_order: bool,
        memory: int,
        glances: int,
        seed: int,
    ) -> None:
        super().__init__("la_maml", model, options, memory=memory, glances=glances, seed=seed)
        self.rate_lr, self.outer_lr, self.learn_rates, self.sync = rate_lr, outer_lr, learn_rates, sync
        self.replayed, self.clip, self.inner_clip, self.first_order = replayed, clip, inner_clip, first_order
        self.rates: dict[str, Tensor] = {n: torch.full_like(p, inner_lr) for n, p in self.params.items()}

    def _own_copy(self) -> None:
        self.rates = {n: v.clone() for n, v in self.rates.items()}

    def _learn(self, x: Tensor, y: Tensor) -> None:
        for _ in range(self.glances):
            order = torch.randperm(len(x), generator=self.generator).to(x.device)
            grads, by_rate = self.look_ahead(x[order], y[order], self.memory.draw(self.replayed))
            self._move(clipped(grads, self.clip), clipped(by_rate, self.clip))

    def look_ahead(
        self, x: Tensor, y: Tensor, kept: tuple[Tensor, Tensor] | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The outer gradient by the parameters and by the rates.

        One step an example, in order; after each step the loss of the whole batch and of what was kept is looked at, and the
        outer loss is the mean of these.
        """
        asked = (x, y) if kept is None else (torch.cat([x, kept[0]]), torch.cat([y, kept[1]]))
        with torch.enable_grad():
            params = {n: p.detach().requires_grad_() for n, p in self.params.items()}
            rates = {n: r.detach().requires_grad_(self.learn_rates) for n, r in self.rates.items()}
            positive = {n: r.relu() for n, r in rates.items()}
            fast, total = dict(params), x.new_zeros(())
            for i in range(len(x)):
                loss = self.loss(self._outputs(x[i : i + 1], fast), y[i : i + 1])
                steps = torch.autograd.grad(
                    loss, list(fast.values()), create_graph=not self.first_order, retain_graph=True, allow_unused=True
                )
                if self.inner_clip is not None:
                    steps = tuple(None if g is None else g.clamp(-self.inner_clip, self.inner_clip) for g in steps)
                fast = {
                    n: p if g is None else p - positive[n] * g for (n, p), g in zip(fast.items(), steps, strict=True)
                }
                total = total + self.loss(self._outputs(asked[0], fast), asked[1]) / len(x)
            of = [*params.values(), *(rates.values() if self.learn_rates else ())]
            found = torch.autograd.grad(total, of, allow_unused=True)
        grads = [torch.zeros_like(p) if g is None else g for g, p in zip(found, of, strict=True)]
        return dict(zip(params, grads, strict=False)), dict(zip(rates, grads[len(params) :], strict=False))

    def _move(self, grads: Mapping[str, Tensor], by_rate: Mapping[str, Tensor]) -> None:
        for (
            n,
            g,
        ) in by_rate.items():  # the rates move first, and the parameters by the new ones: the paper's algorithm 1
            self.rates[n] = self.rates[n] - self.rate_lr * g
        for n, p in self.params.items():
            self.params[n] = p - (self.outer_lr if self.sync else self.rates[n].relu()) * grads[n]

    def _own_tensors(self) -> dict[str, Tensor]:
        return {_RATE + n: v for n, v in self.rates.items()}

    def _restore_own(self, tensors: Mapping[str, Tensor]) -> None:
        self.rates = {n.removeprefix(_RATE): v for n, v in tensors.items()}


def clipped(grads: Mapping[str, Tensor], most: float | None) -> dict[str, Tensor]:
    """Gradients whose norm over all is at most so much."""
    if most is None or not grads:
        return dict(grads)
    norm = torch.stack([g.norm() for g in grads.values()]).norm()
    return {n: g * (most / (norm + 1e-6)).clamp(max=1.0) for n, g in grads.items()}


def la_maml(
    model: nn.Module,
    *,
    inner_lr: float = 0.15,
    rate_lr: float = 0.3,
    outer_lr: float = 0.1,
    learn_rates: bool = True,
    sync: bool = False,
    memory: int = 200,
    replayed: int = 10,
    glances: int = 5,
    clip: float | None = 2.0,
    inner_clip: float | None = None,
    first_order: bool = True,
    seed: int = 0,
) -> OnlineLearner:
    """Look-ahead MAML: learn a stream with a rate of its own for every parameter, learned along the way.

    For each batch: one gradient step an example from the weights, ``fast <- fast - max(rate, 0) * gradient``; after each of them
    the loss of the whole batch and of ``replayed`` kept examples is taken. The mean of these losses moves the rates by SGD, and
    the weights by ``weights <- weights - max(rate, 0) * gradient``: where a step for new examples would hurt old ones, the rate
    falls, at 0 the weight stays.

    ``sync=True`` is the paper's Sync (weights move by ``outer_lr``, rates learned), ``sync=True, learn_rates=False`` its
    C-MAML. Defaults are those of the authors' commands for MNIST rotations.

    Where we differ from the authors' public code: the memory is exactly a reservoir (theirs has one place too many);
    it holds all that was seen, as in effect theirs does, too (its switch for earlier tasks only has none: both names are one
    list); the inner gradient is not clamped unless ``inner_clip`` says so (theirs computes the clamped one and drops it).

    Args:
        model: any nn.Module without batch norm; copied.
        inner_lr: where all rates begin.
        rate_lr: of the steps on the rates.
        outer_lr: of the steps on the weights, with ``sync``.
        learn_rates: False: rates stay where they begin.
        sync: weights move by ``outer_lr`` in place of the learned rates.
        memory: how many examples are kept, each seen one with the same probability.
        replayed: how many of them the outer loss looks at.
        glances: how many times each batch is learned from.
        clip: the most that the norm of either outer gradient is; None: as it is.
        inner_clip: the most of each entry of an inner gradient; None: as it is.
        first_order: leave out second derivatives (the authors do on MNIST).
        seed: of orders and of what is kept and drawn.

    Returns:
        An `OnlineLearner`.

    Raises:
        ConfigError: a number out of range, fixed rates without ``sync``, a model with batch norm.

    Example:
        >>> import innerloop as il
        >>> il.la_maml(il.models.mlp(784, 10, hidden=(100, 100)))
        la_maml on 89610 parameters, 0 examples seen, 0 kept

    Reference: Gupta, Yadav and Paull 2020, "La-MAML: Look-ahead meta learning for continual learning", arXiv:2007.13904.
    """
    options: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("model", "seed")}
    expect_rates(inner_lr=inner_lr, rate_lr=rate_lr, outer_lr=outer_lr)
    for name, value in (("clip", clip), ("inner_clip", inner_clip)):
        if value is not None:
            expect_rates(**{name: value})
    expect_whole("replayed", replayed)
    if memory == 0:
        raise ConfigError("memory expected at least 1 for la_maml, got 0; for no memory use il.lifelong.online")
    if not learn_rates and not sync:
        raise ConfigError(
            "learn_rates=False expected sync=True (C-MAML), got sync=False; give sync=True or learn the rates"
        )
    return LookAhead(model, options, seed=seed, **options)
