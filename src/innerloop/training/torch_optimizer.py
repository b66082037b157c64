"""A learned optimizer as an ordinary `torch.optim.Optimizer`: for any network, any loop, any trainer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import CheckpointError, ConfigError, DivergedError, InnerloopWarning, expect_whole
from innerloop.meta_learner.learned_optimizer import LearnedOptimizer
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.methods.learned_schedule import LearnedSchedule
from innerloop.rules.learned import LearnedRule
from innerloop.training.load import load

_TAKEN = "steps_taken"  # in a group, as torch keeps groups in its state


class Optimizer(torch.optim.Optimizer):
    """What was learned on training jobs, as an optimizer of torch.

    ``opt = il.Optimizer("runs/opt", model.parameters(), num_steps=500)``, then ``loss.backward(); opt.step(); opt.zero_grad()``.

    A learned optimizer treats all numbers alike and takes any network. A schedule per tensor is for the network that it was
    learned for, whose tensors it knows by order and shape. ``num_steps`` is how long this run is: a rule that knows how far a run
    is, or a schedule, is stretched to it. Steps beyond it are taken as the last one was, with one warning. Each group has an
    ``lr`` of 1 that multiplies what the rule says, for trainers and schedulers of torch that want one.

    Parameters without a gradient are left as they are; sparse gradients are made dense. State is kept in the parameters' type.

    Args:
        learner: a `LearnedOptimizer`, or the run directory of one.
        params: parameters or groups, as torch's optimizers take them.
        num_steps: of this run, at least 1.
        lr: multiplies every update, at least 0.

    Raises:
        ConfigError: a learner of another kind; a number out of range; tensors that a schedule was not learned for.
        DivergedError: from ``step``, at a gradient that is not finite; no parameter has changed then.

    Example:
        >>> import torch, innerloop as il
        >>> model = torch.nn.Linear(3, 1)
        >>> opt = il.Optimizer(il.learned_optimizer("mlp"), model.parameters(), num_steps=10)
        >>> model(torch.ones(2, 3)).sum().backward()
        >>> opt.step()
    """

    def __init__(
        self,
        learner: LearnedOptimizer | str | Path,
        params: Iterable[Any],
        num_steps: int,
        *,
        lr: float = 1.0,
    ) -> None:
        expect_whole("num_steps", num_steps)
        if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 <= lr < float("inf"):
            raise ConfigError(
                f"lr expected a finite number of at least 0, which multiplies the learned update, got {lr!r}"
            )
        found = learner if isinstance(learner, MetaLearner) else load(learner)
        rule = getattr(found, "rule_of_runs", None)
        if not isinstance(found, LearnedOptimizer) or not isinstance(rule, LearnedRule):
            raise ConfigError(
                "Optimizer expected a learned optimizer or schedule (il.learned_optimizer, il.learned_schedule), or the run of "
                f"one, got {getattr(found, 'name', type(found).__name__)}"
            )
        self.num_steps = num_steps
        self._rule, self._name = rule, found.name
        self._meta = {name: p.detach().clone() for name, p in found.model.named_parameters()}
        self._fixed: tuple[tuple[int, ...], ...] | None = None
        if isinstance(found, LearnedSchedule):
            if found.tensors is None:
                raise ConfigError(
                    "the schedule expected training before it is used, got none; il.fit(schedule, jobs) first"
                )
            self._fixed = found.tensors if found.schedule.by_tensor else None
        self._warned = self._complete = False
        super().__init__(params, {"lr": float(lr), _TAKEN: 0})
        self._complete = True
        self._expect_tensors()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; refused where a schedule is for given tensors."""
        if getattr(self, "_complete", False) and self._fixed is not None:
            raise ConfigError(
                "a schedule per tensor expected all parameters from the beginning, got more; make a new optimizer"
            )
        super().add_param_group(param_group)

    def _trained(self) -> list[tuple[Tensor, dict[str, Any]]]:
        """The parameters that are trained, in order, and the group of each."""
        return [(p, group) for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _expect_tensors(self) -> None:
        shapes = tuple(tuple(p.shape) for p, _ in self._trained())
        if self._fixed is None or shapes == self._fixed:
            return
        at = next((i for i, (a, b) in enumerate(zip(shapes, self._fixed, strict=False)) if a != b), None)
        what = (
            f"{len(self._fixed)} tensors, got {len(shapes)}"
            if at is None
            else f"shape {self._fixed[at]} for tensor {at}, got {shapes[at]}"
        )
        raise ConfigError(
            f"the schedule was learned for another network: it expected {what}; give the parameters in that network's order, or "
            'learn one with per=["step"]'
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step on the gradients at hand.

        Args:
            closure: computes the loss anew, gradients too; called once, before the step.

        Returns:
            The closure's loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        trained = self._trained()
        if self._fixed is not None and len(trained) != len(self._fixed):
            self._expect_tensors()
        rows = {i: (p, group) for i, (p, group) in enumerate(trained)}
        moving = {i: p for i, (p, _) in rows.items() if p.grad is not None}
        grads = {i: _dense(p.grad) for i, p in moving.items()}
        self._expect_finite(grads)
        taken = max((group[_TAKEN] for group in self.param_groups), default=0)
        if taken >= self.num_steps and not self._warned:
            self._warned = True
            warnings.warn(
                f"step {taken + 1} of a run of {self.num_steps}: this step and those after it are taken as the last one; give "
                "num_steps=... as long as the run is",
                InnerloopWarning,
                stacklevel=2,
            )
        for kind in {(p.device, p.dtype) for p in moving.values()}:
            self._move({i: p for i, p in moving.items() if (p.device, p.dtype) == kind}, grads, rows, taken)
        for group in self.param_groups:
            group[_TAKEN] = taken + 1
        return loss

    def _move(self, moving: dict[int, Tensor], grads: dict[int, Tensor], rows: Any, taken: int) -> None:
        """A step of the parameters of one device and type."""
        like = next(iter(moving.values()))
        meta = {name: value.to(like.device, like.dtype) for name, value in self._meta.items()}
        steps = torch.full((), self.num_steps, dtype=torch.int64, device=like.device)
        # A schedule finds a tensor by its place among all, so those that do not move now stand in their places.
        every = {str(i): p.detach() for i, (p, _) in rows.items()} if self._fixed is not None else {}
        params = every or {str(i): p.detach() for i, p in moving.items()}
        fresh = self._rule.parted(self._rule.begin(meta, params, steps), params)
        parts = {name: dict(self.state[rows[int(name)][0]]) or fresh[name] for name in params}
        given = {name: grads[int(name)] if int(name) in grads else torch.zeros_like(p) for name, p in params.items()}
        state = self._rule.joined(parts, steps)
        new, after = self._rule.update(meta, given, state, params, loss=like.new_zeros(()), step=taken)
        kept = self._rule.parted(after, params)
        for i, p in moving.items():
            group = rows[i][1]
            p.add_(new[str(i)] - p, alpha=group["lr"])
            self.state[p] = {kind: value.clone() for kind, value in kept[str(i)].items()}

    def _expect_finite(self, grads: dict[int, Tensor]) -> None:
        if not grads:
            return
        sums = torch.stack([g.sum().double().cpu() for g in grads.values()])
        if bool(torch.isfinite(sums).all()):
            return
        for i, grad in grads.items():
            if not bool(torch.isfinite(grad).all()):
                raise DivergedError(
                    f"the gradient of parameter {i}, of shape {tuple(grad.shape)}, is not finite: nothing was changed; look at "
                    "the loss, or clip the gradient"
                )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; CheckpointError where it is the state of another optimizer."""
        groups = state_dict.get("param_groups")
        if not isinstance(groups, list) or not all(isinstance(g, dict) and _TAKEN in g for g in groups):
            raise CheckpointError(
                "expected the state of an il.Optimizer, got that of another optimizer; load what this one's state_dict() gave"
            )
        super().load_state_dict(state_dict)

    def __repr__(self) -> str:
        taken = max((group[_TAKEN] for group in self.param_groups), default=0)
        return f"Optimizer({self._name}, step {taken} of {self.num_steps})"


def _dense(grad: Tensor | None) -> Tensor:
    assert grad is not None
    return grad.coalesce().to_dense() if grad.is_sparse else grad.to_dense() if grad.layout != torch.strided else grad
