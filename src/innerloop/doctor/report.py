"""What `innerloop.doctor` found, as a record and in sentences."""

from __future__ import annotations

import dataclasses
from typing import Any

# Why a parameter gets no meta-gradient, and how that is said. "cut" alone is a fault.
REASONS = {
    "frozen": "frozen (requires_grad is False)",
    "cut": "used by the model but cut out of the graph (a .detach(), .data, .item() or torch.no_grad on its way)",
    "unused": "unused by the model's forward pass",
    "outside": "not part of the loss that is minimised",
    "unmoved": "not adapted in the inner loop, and this estimator moves what the inner loop moves",
    "silent": "in the graph, yet without effect on these tasks (dead units, or an inner rate or weight of zero)",
    "noise": "without effect on the loss (for example a bias right before a norm layer), moved by rounding alone: harmless",
    "inert": "without effect on the loss by the model's arithmetic (for example a bias right before a norm layer)",
}


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The verdict on one learner's meta-gradient, measured in float64.

    Attributes:
        ok: nothing was found wrong.
        problems: what was, a sentence each.
        method: the method's name.
        num_tasks: how many tasks of the batch were used.
        inner_steps: inner steps in meta-training.
        order: "second", "first", "truncated", "implicit", "zeroth" (from losses alone) or "none": what the estimator is at this
            point of training.
        estimate: what the estimator computes, in words.
        loop_against_vmap: largest relative difference of one parameter's meta-gradient; None when not compared.
        loop_against_vmap_worst: that parameter's name.
        vmap_skipped: why vmap was not compared; empty when it was.
        definition_error: where the estimate is no loss's gradient: largest relative difference of one parameter's estimate from
            the estimator's own definition; None elsewhere.
        definition: that definition, in words.
        differences_error: worst relative disagreement with finite differences over all directions; None when there is nothing
            to differentiate.
        directions: how many directions were tried.
        tolerance: the disagreement that is allowed.
        wrong_parameters: tensors along which finite differences contradict the meta-gradient.
        cosine_to_exact: orders but second and none: cosine with the exact meta-gradient; 1 is the same direction. None elsewhere.
        second_order_part: second order: length of what the first-order estimate misses, relative to the whole.
        no_gradient: reason (a key of `REASONS`) -> names of parameters that get none.
        parameters: parameter tensors, and numbers in them, of the whole learner.
        adapted: the same of what the inner loop changes.
        transductive: whether in evaluation one query's prediction can depend on the others.
        conversions: what was changed when the model was taken in.
        norm_error: largest relative difference of a rewritten norm layer from torch's own; None when there is none.
        naive_vmap_error: relative error of the meta-gradient had the norm layers been vmapped as they came; None when there
            are none or nothing to compare.
        loss: the outer loss on these tasks; None where there is none.
        gradient_norm: length of the meta-gradient.
        seconds: wall time.
    """

    ok: bool
    problems: tuple[str, ...]
    method: str
    num_tasks: int
    inner_steps: int
    order: str
    estimate: str
    loop_against_vmap: float | None
    loop_against_vmap_worst: str
    vmap_skipped: str
    definition_error: float | None
    definition: str
    differences_error: float | None
    directions: int
    tolerance: float
    wrong_parameters: tuple[str, ...]
    cosine_to_exact: float | None
    second_order_part: float | None
    no_gradient: dict[str, tuple[str, ...]]
    parameters: tuple[int, int]
    adapted: tuple[int, int]
    transductive: bool
    conversions: tuple[str, ...]
    norm_error: float | None
    naive_vmap_error: float | None
    loss: float | None
    gradient_norm: float
    seconds: float

    @property
    def right(self) -> bool:
        """The same as ``ok``."""
        return self.ok

    def as_dict(self) -> dict[str, Any]:
        """The fields, with lists for tuples: ready for JSON."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def lines(self) -> list[str]:
        """The diagnosis for a reader, the verdict first."""
        tasks = f"{self.num_tasks} task{'s' if self.num_tasks > 1 else ''}"
        steps = f"{self.inner_steps} inner step{'s' if self.inner_steps != 1 else ''}"
        verdict = "the meta-gradient is right" if self.order == "second" else "the outer step is what it should be"
        found = [f"{self.method}: {verdict if self.ok else 'SOMETHING IS WRONG'} (float64, {tasks}, {steps})"]
        found += [f"  PROBLEM: {problem}" for problem in self.problems]
        found.append(f"order{'' if self.ok else ' (as claimed)'}: {self.estimate}")
        if self.loop_against_vmap is not None:
            worst = f", worst in {self.loop_against_vmap_worst}" if self.loop_against_vmap else ""
            found.append(f"loop and vmap: {self.loop_against_vmap:.1e} apart (relative{worst})")
        else:
            found.append(f"loop and vmap: not compared: {self.vmap_skipped}")
        if self.definition_error is not None:
            found.append(f"against its definition, {self.definition}: {self.definition_error:.1e} apart (relative)")
        if self.differences_error is not None:
            name = f" of {self.definition}" if self.definition and self.definition_error is None else ""
            found.append(
                f"finite differences{name}: {self.differences_error:.1e} apart (relative, worst of "
                f"{self.directions} directions; {self.tolerance:.0e} allowed)"
            )
        if self.cosine_to_exact is not None:
            found.append(f"cosine with the exact meta-gradient: {self.cosine_to_exact:.4f}")
        if self.second_order_part is not None:
            found.append(
                f"second derivatives: the first-order estimate would be {_percent(self.second_order_part)} off"
            )
        if self.norm_error is not None:
            found.append(f"rewritten norm layers: {self.norm_error:.1e} from torch's own (relative)")
        if self.naive_vmap_error is not None:
            found.append(f"had it been vmapped as it came: {_percent(self.naive_vmap_error)} wrong")
        for reason, names in self.no_gradient.items():
            found.append(f"no meta-gradient, {REASONS[reason]}: {', '.join(names)}")
        if not self.no_gradient and self.gradient_norm > 0:
            found.append("every parameter gets a meta-gradient")
        found.append(
            f"adapted in the inner loop: {self.adapted[0]} of {self.parameters[0]} parameter tensors, "
            f"{self.adapted[1]} of {self.parameters[1]} numbers"
        )
        found.append(f"transductive in evaluation: {'yes' if self.transductive else 'no'}")
        found += [f"converted: {note}" for note in self.conversions]
        found.append(f"took {self.seconds:.1f} s")
        return found

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _percent(share: float) -> str:
    if share < 1e-8:
        return f"{100 * share:.0e} % (rounding)"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
