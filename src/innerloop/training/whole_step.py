"""A whole outer step as one compiled function: inner loops, meta-gradient, check, clipping and the outer optimizer's update.

Between two kernels of a small network Python takes longer than the kernels do. Here it is called once a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop.core import Meta, Task
from innerloop.engine.compiling import STANDARD, Compiled, CompileFailed, Limits, Pending, begin
from innerloop.engine.plan import fastest
from innerloop.meta_gradients.compiled import PLAN
from innerloop.meta_learner.boundary import expect_finite
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training.optimizer import clipped_together

State = dict[str, Any]


class WholeStep:
    """The outer steps of one learner with one optimizer, compiled for tasks of one shape.

    It keeps nothing of its own: each call takes the weights and the optimizer's state as they are and puts the new ones back.

    Args:
        learner: what is trained.
        optimizer: torch.optim.Adam or torch.optim.SGD without momentum, weight decay or variants, over the learner's parameters.
        clip_norm, rule_clip_norm: largest norms of the meta-gradient; see `clipped_together`.
    """

    learner: MetaLearner
    optimizer: torch.optim.Optimizer
    clip_norm: float | None
    rule_clip_norm: float | None

    def __init__(
        self,
        learner: MetaLearner,
        optimizer: torch.optim.Optimizer,
        clip_norm: float | None = None,
        rule_clip_norm: float | None = None,
    ) -> None:
        self.learner, self.optimizer = learner, optimizer
        self.clip_norm, self.rule_clip_norm = clip_norm, rule_clip_norm
        self.group_of: dict[int, int] = {
            id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]
        }
        self.compiled: Compiled | None = None
        self.shapes: Any = None
        self.phase: Any = None

    def begin(self, tasks: Task, outer_step: int, limits: Limits = STANDARD) -> Pending[WholeStep]:
        """Begin to compile for tasks like these, within some limits (see `compiling.begin`); wait before it is used.

        Raises:
            CompileFailed: no optimizer for this, or as `compiling.begin`.
        """
        if not is_plain(self.optimizer):
            raise CompileFailed("only plain Adam and SGD can be compiled")
        tasks = self.learner.ready(tasks, outer_step)
        meta_gradient, step = self.learner.meta_gradient, outer_step

        def whole(state: State, rates: Tensor, tasks: Task) -> tuple[State, Tensor, Tensor]:
            return self._updated(state, rates, *meta_gradient(state["carry"], state["meta"], tasks, step, None))

        def compiled(found: Sequence[Compiled]) -> WholeStep:
            self.compiled = found[0]
            return self

        self.shapes, self.phase = _shapes(*pytree.tree_flatten(tasks)), meta_gradient.phase(outer_step)
        with self.learner.engine.forced(PLAN):
            return begin([(whole, self._args(tasks))], limits).then(compiled)

    def leaves(self, tasks: Task, outer_step: int) -> list[Tensor] | None:
        """The tensors of a batch as `run` takes them; None where it was not compiled for such tasks or this step."""
        leaves, spec = pytree.tree_flatten(tasks)
        if self.compiled is None or self.shapes != _shapes(leaves, spec):
            return None
        return leaves if self.phase == self.learner.meta_gradient.phase(outer_step) else None

    def seconds(self, tasks: Task, outer_step: int) -> float:
        """The time of one step, the least of some; nothing changes."""
        assert self.compiled is not None
        flat, leaves = self.compiled.flat, pytree.tree_leaves(self._args(self.learner.ready(tasks, outer_step)))
        with torch.no_grad():
            return fastest(lambda: flat(*leaves))

    def run(
        self, batches: Sequence[Sequence[Tensor]], first_step: int, rates: Sequence[Sequence[float]]
    ) -> list[float]:
        """One outer step with each of these batches; the mean outer loss of each.

        Args:
            batches: for each step what `leaves` gives of a batch from `MetaLearner.ready`.
            first_step: number of the first of these steps.
            rates: for each step the rate of each of the optimizer's groups.

        Raises:
            DivergedError: a loss or gradient that is not finite; the learner is as it was before that step.
        """
        assert self.compiled is not None
        leaves, spec = pytree.tree_flatten(self._state())
        every_rate = torch.tensor(rates, dtype=torch.float64)
        judged: list[Tensor] = []
        with torch.no_grad():
            for batch, rate in zip(batches, every_rate, strict=True):
                found = self.compiled.flat(*leaves, rate, *batch)
                leaves = list(found[:-2])
                judged += found[-2:]
        self._take(pytree.tree_unflatten(leaves, spec))
        for group, rate in zip(self.optimizer.param_groups, rates[-1], strict=True):
            group["lr"] = rate
        values = torch.stack([value.double() for value in judged]).view(-1, 2)
        for i, (loss, norm) in enumerate(values.tolist()):
            expect_finite(loss, norm, first_step + i)
            self.learner.outer_step = first_step + i + 1
        return values[:, 0].tolist()

    # ---- the step, traced ------------------------------------------------------------------------------------------
    def _updated(
        self, state: State, rates: Tensor, params: Any, rule: Any, buffers: Any, carry: Any, metrics: Any
    ) -> tuple[State, Tensor, Tensor]:
        """The state after the step, or as it was from the first step on that is not finite; the loss and the norm."""
        grads = {**params, **{f"rule {name}": g for name, g in rule.items()}}
        values = {**state["meta"].params, **{f"rule {name}": p for name, p in state["meta"].rule.items()}}
        trained = self._trained()
        norm = _norm(grads.values())
        alive = state["alive"] & torch.isfinite(norm) & torch.isfinite(metrics["loss"])
        for together, largest in clipped_together(self.learner, self.clip_norm, self.rule_clip_norm):
            own = {id(p) for p in together}
            names = [name for name, p in self._named().items() if id(p) in own]
            shrink = (largest / (_norm(grads[name] for name in names) + 1e-6)).clamp(max=1.0)
            grads |= {name: grads[name] * shrink for name in names}
        count = torch.where(alive, state["count"] + 1, state["count"])
        firsts, seconds = dict(state["firsts"]), dict(state["seconds"])
        for name, p in trained.items():
            group = self.group_of[id(p)]
            settings = self.optimizer.param_groups[group]
            g, old = grads[name], values[name]
            if isinstance(self.optimizer, torch.optim.SGD):
                values[name] = torch.where(alive, old - rates[group].to(g.dtype) * g, old)
                continue
            (beta1, beta2), eps = settings["betas"], settings["eps"]
            first = torch.lerp(state["firsts"][name], g, 1 - beta1)
            second = beta2 * state["seconds"][name] + (1 - beta2) * g * g
            size = (rates[group] / (1 - beta1**count)).to(g.dtype)
            root = (1 - beta2**count).sqrt().to(g.dtype)
            values[name] = torch.where(alive, old - size * first / (second.sqrt() / root + eps), old)
            firsts[name] = torch.where(alive, first, state["firsts"][name])
            seconds[name] = torch.where(alive, second, state["seconds"][name])
        meta = Meta(
            {name: values[name] for name in state["meta"].params},
            {name: values[f"rule {name}"] for name in state["meta"].rule},
            {name: torch.where(alive, buffers[name], old) if name in buffers else old
             for name, old in state["meta"].buffers.items()},
        )  # fmt: skip
        kept = {name: torch.where(alive, carry[name], old) for name, old in state["carry"].items()}
        new = {"meta": meta, "carry": kept, "firsts": firsts, "seconds": seconds, "count": count, "alive": alive}
        return new, metrics["loss"], norm

    # ---- to and from the learner and the optimizer -----------------------------------------------------------------
    def _args(self, tasks: Task) -> tuple[State, Tensor, Task]:
        return self._state(), torch.zeros(len(self.optimizer.param_groups), dtype=torch.float64), tasks

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that the optimizer moves."""
        return {name: p for name, p in self._named().items() if id(p) in self.group_of}

    def _named(self) -> dict[str, torch.nn.Parameter]:
        """The learner's parameters by the names that the traced step gives them."""
        named = dict(self.learner.model.named_parameters())
        return named | {f"rule {name}": p for name, p in self.learner.rule_by_name().items()}

    def _state(self) -> State:
        found, count = (self._moments("exp_avg"), self._moments("exp_avg_sq")), 0.0
        for state in self.optimizer.state.values():
            if "step" in state:
                count = float(state["step"])
        device = self.learner.device
        return {
            "meta": self.learner.meta(),
            "carry": self.learner.carry,
            "firsts": found[0],
            "seconds": found[1],
            "count": torch.tensor(count, dtype=torch.float64, device=device),
            "alive": torch.tensor(True, device=device),
        }

    def _moments(self, kind: str) -> dict[str, Tensor]:
        if isinstance(self.optimizer, torch.optim.SGD):
            return {}
        state = self.optimizer.state
        return {n: state[p][kind] if p in state else torch.zeros_like(p.detach()) for n, p in self._trained().items()}

    @torch.no_grad()
    def _take(self, state: State) -> None:
        learner, meta = self.learner, state["meta"]
        for name, p in learner.model.named_parameters():
            p.copy_(meta.params[name])
        for name, p in learner.rule_by_name().items():
            p.copy_(meta.rule[name])
        for name, value in meta.buffers.items():
            learner.model.get_buffer(name).copy_(value)
        learner.carry = state["carry"]
        trained = self._trained()
        for name, first in state["firsts"].items():
            own = self.optimizer.state[trained[name]]
            own["step"] = state["count"].to(torch.float32).clone()
            own["exp_avg"], own["exp_avg_sq"] = first, state["seconds"][name]


def _norm(values: Iterable[Tensor]) -> Tensor:
    return torch.stack([value.square().sum() for value in values]).sum().sqrt()


def _shapes(leaves: Sequence[Tensor], spec: Any) -> Any:
    return spec, [(leaf.shape, leaf.dtype) for leaf in leaves]


def is_plain(optimizer: torch.optim.Optimizer) -> bool:
    """Whether this is an optimizer whose whole step is the update that is written out here."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.SGD):
        return False
    hooked = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks or "step" in vars(optimizer)
    unwanted = ("amsgrad", "maximize", "weight_decay", "momentum", "nesterov", "differentiable")
    return not hooked and not any(group.get(name) for group in optimizer.param_groups for name in unwanted)
