"""Persistent evolution strategies: an outer step for every few inner steps, without the bias of stopping early."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from innerloop import keys as random_keys
from innerloop.core import BaseLearner, Meta, MetaGradient, OuterGradient, Task
from innerloop.engine import Engine
from innerloop.engine.gradient import mean_over_tasks
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.learners.gradient import GradientFast, GradientLearner, by_gradients
from innerloop.meta_gradients.perturbations import (
    Trial,
    check_settings,
    fields_of,
    like_meta,
    moved,
    noise,
    perturbed,
    trials,
)
from innerloop.records import record


@record
class Walk(Trial):
    """A trial in the middle of its inner loop: where the pair's two learners are."""

    up: Any = None
    down: Any = None


@dataclasses.dataclass(eq=False)
class PES(MetaGradient):
    """ES over a part of the inner loop at a time, with each pair's perturbations added up since the inner loop began.

    The inner loop is cut into parts of ``truncation`` inner steps, and each outer step takes one part further with fresh
    perturbations e of the outer parameters. Its estimate is ``mean of (L_up - L_down) / (2 sigma) s``, where L is the query
    loss at the end of the part and s the sum of the pair's perturbations in all parts so far, this one included. Unbiased
    (for the smoothed loss, at fixed outer parameters) for the gradient of that loss through the whole inner loop up to there;
    ES on a part alone would see what the part itself does and no more. Over the outer steps of an inner loop the outer loss is
    so the mean of the query losses at the ends of its parts. Vicol, Metz and Sohl-Dickstein 2021, arXiv:2112.13835.

    The carry holds the tasks, both learners of each pair and the sums. Tasks of a batch that comes in the middle of an inner
    loop are not looked at. When the inner loop ends the carry is emptied, and the next batch begins anew.

    Args:
        learner: a `GradientLearner` with the usual outer loss.
        engine: runs the one-task computation over many tasks.
        sigma: standard deviation of the perturbations in each part, above 0.
        num_pairs: pairs of opposite perturbations of each task, at least 1.
        truncation: inner steps in a part, at least 1; as many as there are inner steps, or more, make it ES.
    """

    learner: GradientLearner
    engine: Engine
    sigma: float = dataclasses.field(default=0.01, kw_only=True)
    num_pairs: int = dataclasses.field(default=8, kw_only=True)
    truncation: int = dataclasses.field(default=1, kw_only=True)

    shardable = False  # the carry belongs to these tasks
    compilable = False  # the first part of an inner loop has an empty carry

    def __post_init__(self) -> None:
        self.order = "zeroth"
        check_settings(self.sigma, self.num_pairs)
        expect_whole("truncation", self.truncation)

    def check(self, learner: BaseLearner) -> None:
        if not (by_gradients(learner) and learner.judged_at_end):
            raise ConfigError(
                "persistent evolution strategies expected a learner that adapts by gradient steps and is judged at their end, "
                f"got {type(learner).__name__}; use es"
            )

    def __call__(
        self,
        carry: dict[str, Tensor],
        meta: Meta,
        tasks: Task,
        outer_step: int,
        generator: torch.Generator | None,
    ) -> OuterGradient:
        del generator, outer_step
        first = int(carry["step"]) if carry else 0
        last = min(first + self.truncation, self.learner.inner_steps)
        if first:
            tasks = _from_carry(carry, "task", tasks)
        like = perturbed(meta, self.learner)
        if (
            first and not self.learner.looks_back
        ):  # where an inner loop began no longer matters: do not add noise for it
            like = {name: p for name, p in like.items() if name not in self.learner.adapted}
        pairs = trials(tasks, self.num_pairs)
        assert pairs.key is not None
        drawn = random_keys.fold(pairs.key, first) if first else pairs.key
        walk = Walk(**{**fields_of(pairs), "key": drawn})
        if first:
            # Only the numbers differ from where an inner loop begins, and the count of steps.
            begun = dataclasses.replace(torch.vmap(lambda t: self.learner.init(meta, t))(pairs), step=first)
            walk = dataclasses.replace(walk, up=_from_carry(carry, "up", begun), down=_from_carry(carry, "down", begun))

        def advance(meta: Meta, walk: Walk) -> tuple[Tensor, GradientFast, GradientFast, Any]:
            assert walk.key is not None
            direction = noise(walk.key, like)
            ends = []
            for fast, by in ((walk.up, self.sigma), (walk.down, -self.sigma)):
                here = moved(meta, direction, by)
                fast = fast if first else self.learner.init(here, walk)
                for i in range(first, last):
                    fast = self.learner.step(here, fast, self.learner.batch(walk, i), i)
                loss, seen, buffers = self.learner.query_loss(here, fast, walk)
                ends.append((loss, fast, (seen, buffers)))
            (up, fast_up, seen), (down, fast_down, seen_too) = ends
            return up - down, fast_up, fast_down, pytree.tree_map(lambda a, b: (a + b) / 2, seen, seen_too)

        difference, up, down, aux = self.engine.each(advance, meta, walk)
        # A part's loss depends on the perturbations of all parts before it, through where they have led; so all of them are
        # weighed by it, which is what takes the bias of ES on a part away.
        sums = {name: carry[f"sum/{name}"] for name in perturbed(meta, self.learner)} if first else {}
        for name, drawn_here in noise(drawn, like).items():
            sums[name] = sums[name] + drawn_here if name in sums else drawn_here
        weights = difference / (2 * self.sigma) / len(difference)
        params, rule = like_meta({name: torch.tensordot(weights.to(s.dtype), s, 1) for name, s in sums.items()}, meta)
        metrics, buffers = mean_over_tasks(aux)
        kept: dict[str, Tensor] = {}
        # At the end of the inner loop nothing is kept: an empty carry is how the next batch knows that it begins.
        if last < self.learner.inner_steps:
            kept = {"step": torch.tensor(last), **{f"sum/{name}": s for name, s in sums.items()}}
            for name, tree in (("task", tasks), ("up", up), ("down", down)):
                kept |= {f"{name}/{i:04d}": leaf for i, leaf in enumerate(pytree.tree_leaves(tree))}
        return OuterGradient(params, rule, buffers, kept, metrics)


def _from_carry(carry: dict[str, Tensor], name: str, like: Any) -> Any:
    """The tree of this name, in the structure of another."""
    leaves, spec = pytree.tree_flatten(like)
    stored = [carry[key] for key in sorted(carry) if key.startswith(f"{name}/")]
    if len(stored) != len(leaves):
        raise InputError(
            f"expected tasks as those of the inner loop that is under way ({len(stored)} tensors), got {len(leaves)}; give "
            "all batches the same fields"
        )
    return pytree.tree_unflatten(stored, spec)
