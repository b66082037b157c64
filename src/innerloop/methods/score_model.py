"""Score models that are meta-learned: shown a few examples of something never seen, they make more and say how likely others are.

The learner that reads the support set, and the factory. Denoising at many noise levels: Song and Ermon 2019, arXiv:1907.05600,
and Karras et al. 2022, arXiv:2206.00364; conditioned on a set: Giannone, Nielsen and Winther 2022, "Few-shot diffusion models",
arXiv:2205.15463; adapted by gradient steps: as `maml` and `reptile`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Apply, BaseLearner, Meta, Task
from innerloop.errors import ConfigError
from innerloop.functional import PureModel
from innerloop.meta_gradients import Backprop
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import InnerOptimizer, backprop_method, gradient_method, inner_rule, method
from innerloop.methods.reptile import Displacement
from innerloop.objectives.denoising import Denoising
from innerloop.records import record, static

_HIDDEN, _NUMBER = 41, 42  # salts
_QUERY = 43

Adapting = Literal["set", "maml", "reptile"]


@record
class Shown:
    """What the denoiser looks at.

    Attributes:
        support: (support, ...) examples.
        counts: (support,) 1 for one that is shown, 0 for one that is not.
        step: how many steps came before.
    """

    support: Tensor
    counts: Tensor
    step: int = static(0)


@dataclasses.dataclass(frozen=True, eq=False)
class SetLearner(BaseLearner):
    """Looking at the support examples is all its adapting: ``denoiser(x, sigma, support, counts)``.

    In meta-training each task shows a random number of its support examples, 1 to all, and in a share of the tasks none, so that
    one denoiser knows what to do with few, and with none (classifier-free guidance, Ho and Salimans 2022, arXiv:2207.12598).

    Args:
        model: the denoiser.
        drop: the share of training tasks that show nothing.
        whole: the share of training tasks that show all.
    """

    model: PureModel
    drop: float = 0.1
    whole: float = 0.5
    training: bool = True

    inner_steps = 1
    eval_steps = 1
    any_data = True
    at_a_look = True

    def init(self, meta: Meta, task: Task) -> Shown:
        return Shown(task.support, task.support.new_zeros(task.support.shape[0]))

    def step(self, meta: Meta, fast: Shown, batch: Any, i: int | Tensor) -> Shown:
        return dataclasses.replace(fast, counts=torch.ones_like(fast.counts), step=fast.step + 1)

    def in_evaluation(self) -> SetLearner:
        return dataclasses.replace(self, training=False)

    def predict(self, meta: Meta, fast: Shown, x: Any, mask: Tensor | None = None) -> Tensor:
        raise ConfigError("a score model expected a noisy example and its noise level, got inputs alone; use sample")

    def as_model(self, meta: Meta, fast: Shown) -> Apply:
        def apply(x: Tensor, sigma: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.model.apply(
                meta.params, meta.buffers, x, sigma, fast.support, fast.counts, mask=mask, training=self.training
            )[0]

        return apply

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        if not self.training or task.noise is None:
            return super().meta_loss(meta, task, outer_step)
        shown = self.adapt(meta, task, 1)
        shown = dataclasses.replace(shown, counts=self.drawn(task.noise, shown.counts))
        objective: Any = task.objective
        loss = objective.loss(self.as_model(meta, shown), task.query, keys.fold(task.noise, _QUERY))
        return loss, {"metrics": {"loss": loss.detach()}}

    def drawn(self, noise: Tensor, counts: Float[Tensor, " support"]) -> Float[Tensor, " support"]:
        """Which support examples one training task shows: the first few, as their order is random."""
        size = counts.shape[0]
        chance = keys.uniform(noise, (), _HIDDEN, counts.dtype)
        number = 1 + keys.integers(noise, size, (), _NUMBER)
        number = torch.where(chance > 1 - self.whole, torch.full_like(number, size), number)
        number = torch.where(chance < self.drop, torch.zeros_like(number), number)
        return (torch.arange(size, device=counts.device) < number).to(counts.dtype)


@method(
    words={"adapt": ("set", "maml", "reptile")},
    declares={"inner_loop": False, "regression": False, "any_ways": True},
)
def score_model(
    model: nn.Module,
    *,
    adapt: Adapting = "set",
    inner_lr: float = 0.01,
    inner_steps: int = 3,
    eval_steps: int | None = None,
    inner_optimizer: InnerOptimizer = "sgd",
    first_order: bool = False,
    drop: float = 0.1,
    whole: float = 0.5,
) -> MetaLearner:
    """A denoiser that is meta-learned: adapted to a few examples, it makes more (`sample`) and judges others (`log_density`).

    Tasks are examples without labels (`il.tasks.drawings`, `il.tasks.mixtures`). The loss is that of denoising
    (`innerloop.objectives.denoising`).

    Args:
        model: the denoiser D: ``model(x, sigma)`` gives the clean examples that ``x`` (examples, ...) are noisy ones of, at noise
            levels sigma (examples,). For ``adapt="set"`` it also takes the support examples and which of them count:
            ``model(x, sigma, support, counts)``. `il.models.denoising_unet` and `il.models.denoising_mlp` do. Copied, not
            changed.
        adapt: "set": the denoiser looks at the support examples; "maml": gradient steps on their denoising loss, the outer
            gradient taken through them; "reptile": the same steps, and the initial weights move to where they lead.
        inner_lr, inner_steps: rate and number of the gradient steps; not for "set".
        inner_optimizer: "sgd", "momentum", "adam", or an `il.UpdateRule`.
        first_order: leave the second derivatives out of "maml".
        drop: for "set": the share of training tasks that show no example at all, so that the same net knows the density of all
            tasks together, which guidance needs.
        whole: for "set": the share of training tasks that show all their support examples; the others show a random number.

    Returns:
        A MetaLearner; ``learner.adapt(examples)`` gives a `FittedScore`.

    Raises:
        ConfigError: an option out of range, or a denoiser that reads no support examples with ``adapt="set"``.

    Example:
        >>> import innerloop as il
        >>> il.score_model(il.models.denoising_mlp(2)).eval_steps
        1

    Differs from the papers: Giannone et al. condition by a transformer's patches and train a variational bound; here the loss is
    that of Karras et al., and places look at the support's tokens themselves.
    """
    for name, value in (("drop", drop), ("whole", whole)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} expected a share from 0 to 1, got {value}")
    if drop + whole > 1:
        raise ConfigError(f"drop and whole expected shares that sum to at most 1, got {drop} and {whole}")
    outer = Outer(num_tasks=8, lr=2e-3, schedule="cosine", min_lr=2e-5, clip_norm=1.0)
    if adapt == "set":
        _expect_reads_support(model)
        made = backprop_method(
            "score_model",
            model,
            lambda pure: SetLearner(pure, drop, whole),
            outer=outer,
            loss=None,
            batch_norm="none",
            inductive=False,
        )
        return _of_examples(made, model)
    if adapt == "reptile":
        outer = Outer("sgd", lr=0.5, num_tasks=5, schedule="linear")
    more: dict[str, Any] = {"first_order": True} if first_order or adapt == "reptile" else {}
    made = gradient_method(
        model,
        rule=inner_rule(inner_optimizer, inner_lr),
        inner_steps=inner_steps,
        eval_steps=eval_steps,
        loss=None,
        adapt=None,
        freeze=None,
        batch_norm="none",
        estimate=Displacement if adapt == "reptile" else Backprop,
        outer=outer,
        **more,
    )
    return _of_examples(made, model)


def _of_examples(made: MetaLearner, model: nn.Module) -> MetaLearner:
    """The learner, which adapts to examples without labels also where nothing has told it of a problem yet."""
    spread = getattr(model, "sigma_data", None)
    objective = Denoising.of_spread(spread) if isinstance(spread, float) else Denoising()
    made.spec = dataclasses.replace(made.spec, objective=objective)
    return made


def _expect_reads_support(model: nn.Module) -> None:
    import inspect

    taken: Sequence[inspect.Parameter] = list(inspect.signature(model.forward).parameters.values())
    if len(taken) < 4 and not any(p.kind is p.VAR_POSITIONAL for p in taken):
        raise ConfigError(
            "adapt='set' expected a denoiser forward(x, sigma, support, counts), such as il.models.denoising_unet, got one that "
            f"takes {', '.join(p.name for p in taken) or 'nothing'}; use adapt='maml' or 'reptile'"
        )
