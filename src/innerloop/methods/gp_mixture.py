"""GP mixture: exact Gaussian processes of many kinds with a learned prior, weighted by how well they explain the support set.

The covariances, the learner, which answers with the mixture of the likeliest processes, and the factory. This project's own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Meta, Task
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.gaussian_process import (
    Observed,
    Solved,
    exact_dtype,
    linear,
    matern12,
    matern32,
    observe,
    periodic,
    rbf,
    square_distances,
)
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded, longest_support
from innerloop.learners.predictive import PredictiveLearner, counts_of, gaussian_log_density
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, checked_outputs, method
from innerloop.records import record, static

KINDS = 6  # smooth, rough, jagged and periodic curves, a line, a level
MOST_EXAMPLES = 1_000
_LEAST_NOISE = 5e-3  # a deviation


class Likeliest(NamedTuple):
    """A mixture of normal distributions for each query.

    Attributes:
        weights: logarithms.
        mean: of each process.
        sd: of each process, the same for all outputs.
        scale: what means of labels are multiplied by to be logits.
    """

    weights: Float[Tensor, " kept"]
    mean: Float[Tensor, "kept query outputs"]
    sd: Float[Tensor, "kept query"]
    scale: Float[Tensor, ""]


@record
class ProcessesFast:
    """What a GP mixture knows of a task.

    Attributes:
        z: (support, features) embeddings of the support set; zeros before the first step.
        counts: (support,) 1 for an example that was seen, 0 for padding and before the first step.
        chosen: (kept,) the likeliest processes.
        weights: (kept,) logarithms of their probabilities.
        inverse: (kept, support, support) inverse Cholesky factors of their covariances.
        solution: (kept, support, outputs) inverse covariances times targets.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    z: Tensor
    counts: Tensor
    chosen: Tensor
    weights: Tensor
    inverse: Tensor
    solution: Tensor
    step: int = static(0)
    labels: bool = static(False)


Processes = Mapping[str, Tensor]


class Prior(nn.Module):
    """What the processes are and how far each is believed before a task is seen.

    They begin as of mostly one kind each, with lengths, periods and noise spread over what is common. Parameters by name:
    ``log_length``, ``log_rough_length``, ``log_period``, ``log_periodic_length`` (processes,), ``log_sizes`` (processes, 6),
    ``log_noise`` and ``log_prior`` (processes, noises), ``log_trust`` and ``log_scale``, ().
    """

    def __init__(self, processes: int, noises: int) -> None:
        super().__init__()

        def spread(low: float, high: float) -> nn.Parameter:
            return nn.Parameter(math.log(low) + torch.rand(processes) * math.log(high / low))

        kind = torch.arange(processes) % (KINDS - 1)
        sizes = torch.where(kind[:, None] == torch.arange(KINDS), 1.0, 0.1)
        sizes[:, -1] = 0.5
        levels = math.log(0.02) + (torch.arange(noises) + 0.5) / noises * math.log(50.0)
        self.log_length: nn.Parameter = spread(0.15, 3.0)
        self.log_rough_length: nn.Parameter = spread(0.15, 5.0)
        self.log_period: nn.Parameter = spread(0.3, 5.0)
        self.log_periodic_length: nn.Parameter = spread(0.3, 2.0)
        self.log_sizes: nn.Parameter = nn.Parameter(sizes.log())
        self.log_noise: nn.Parameter = nn.Parameter(levels.repeat(processes, 1))
        self.log_prior: nn.Parameter = nn.Parameter(torch.zeros(processes, noises))
        self.log_trust: nn.Parameter = nn.Parameter(torch.zeros(()))
        self.log_scale: nn.Parameter = nn.Parameter(torch.tensor(math.log(5.0)))
        self.held: tuple[str, ...] = tuple(name for name, _ in self.named_parameters())

    def forward(self, like: Tensor) -> dict[str, Tensor]:
        """All of it by name, in double precision where there is one."""
        exact = exact_dtype(like)
        return {name: getattr(self, name).to(exact) for name in self.held}


def covariances(
    of: Processes, a: Float[Tensor, "first features"], b: Float[Tensor, "second features"]
) -> Float[Tensor, "processes first second"]:
    """Of the curve's values at ``a`` and at ``b`` under each process, without noise.

    With d the distance and s the sizes: ``s1^2 exp(-d^2 / 2 l^2) + s2^2 (1 + r) exp(-r) + s3^2 exp(-d / l')
    + s4^2 exp(-2 sum_j (sin(pi d_j / p) / l'')^2) + s5^2 a'b / features + s6^2``, where ``r = sqrt(3) d / l'``.
    """
    square = square_distances(a, b)
    length, rough, period, smoothness = (
        of[f"log_{name}"].exp()[:, None, None] for name in ("length", "rough_length", "period", "periodic_length")
    )
    shapes = (
        rbf(square / length.square()),
        matern32(square / rough.square()),
        matern12(square / rough.square()),
        periodic(a, b, smoothness, period),
        linear(a, b)[None],
        torch.ones_like(square)[None],
    )
    sizes = (2 * of["log_sizes"]).exp()[..., None, None]
    return sum(sizes[:, i] * shape for i, shape in enumerate(shapes))  # type: ignore[return-value]


def variances(of: Processes, z: Float[Tensor, "examples features"]) -> Float[Tensor, "processes examples"]:
    """The diagonal of `covariances` of examples with themselves."""
    sizes = (2 * of["log_sizes"]).exp()
    line = z.square().sum(-1) / z.shape[-1]
    return sizes[:, 4, None] * line + (sizes.sum(-1) - sizes[:, 4])[:, None]


def _noise(of: Processes) -> Float[Tensor, "processes noises"]:
    """Variances."""
    return (2 * of["log_noise"]).exp() + _LEAST_NOISE**2


@dataclasses.dataclass(frozen=True, eq=False)
class ProcessLearner(PredictiveLearner):
    """Bayes' rule over a finite number of Gaussian processes, and the exact posterior under each of the likeliest.

    Args:
        features: numbers in an embedding.
        kept: how many processes answer.
    """

    features: int = 1
    kept: int = 8

    def admit(self, tasks: Task) -> Task:
        """The batch as it is.

        Raises:
            InputError: more support examples than are feasible.
        """
        longest = longest_support(tasks)
        if longest > MOST_EXAMPLES:
            raise InputError(
                f"a support set expected at most {MOST_EXAMPLES:,} examples, as time grows with their cube, got {longest:,}; "
                "show a part of them, or means of neighbours"
            )
        return super().admit(tasks)

    def init(self, meta: Meta, task: Task) -> ProcessesFast:
        like = next(p for p in meta.params.values() if p.is_floating_point())
        like, size = like.new_zeros((), dtype=exact_dtype(like)), task.support.y.shape[0]
        return ProcessesFast(
            like.new_zeros(size, self.features),
            like.new_zeros(size),
            torch.arange(self.kept, device=like.device),
            like.new_full((self.kept,), -math.log(self.kept)),
            like.new_zeros(self.kept, size, size),
            like.new_zeros(self.kept, size, self.outputs),
            labels=not task.support.y.is_floating_point(),
        )

    def look(self, meta: Meta, fast: ProcessesFast, z: Tensor, y: Tensor, counts: Tensor) -> ProcessesFast:
        of = self.prior(meta, z)
        z, seen = z.to(exact_dtype(z)), counts.to(exact_dtype(z))
        y = self.told(y.to(z.dtype), seen, fast.labels)
        of_each = of["log_noise"].shape[1]
        noise = _noise(of).flatten()[:, None]
        found = observe(covariances(of, z, z).repeat_interleave(of_each, 0), noise, y, seen, jitters=(0.0,))
        explains = found.log_likelihood().sum(-1)
        weights, chosen = (of["log_prior"].flatten() + of["log_trust"].exp() * explains).topk(self.kept)
        solved = Observed(found.factor[chosen], found.half[chosen], seen).solved()
        return ProcessesFast(
            z,
            seen,
            chosen,
            torch.log_softmax(weights, 0),
            solved.inverse,
            solved.solution,
            step=1,
            labels=fast.labels,
        )

    def prior(self, meta: Meta, like: Tensor) -> Processes:
        """What is learned of the processes."""
        return self.model.apply(meta.params, meta.buffers, like, part="prior", training=self.training)[0]

    def told(self, y: Tensor, counts: Tensor, labels: bool) -> Tensor:
        """Values as they are, 0 for padding; labels less the share of each class."""
        if labels:
            y = y - (y * counts[:, None]).sum(0) / counts.sum().clamp(min=1.0)
        return y * counts[:, None]

    def distribution(self, meta: Meta, fast: ProcessesFast, z: Tensor) -> Likeliest:
        dtype, z = z.dtype, z.to(fast.z.dtype)
        prior = self.prior(meta, z)
        process = fast.chosen // prior["log_noise"].shape[1]
        of = {name: v[process] for name, v in prior.items() if v.ndim}
        mean, left = Solved(fast.inverse, fast.solution).at(covariances(of, z, fast.z), variances(of, z))
        noise = _noise(prior).flatten()[fast.chosen, None]
        found = (fast.weights, mean, (left + noise).sqrt(), prior["log_scale"].exp())
        return Likeliest(*(part.to(dtype) for part in found))

    def outputs_of(self, found: Likeliest, labels: bool) -> Tensor:
        mean = torch.einsum("k,kqo->qo", found.weights.exp(), found.mean)
        return found.scale * mean if labels else mean

    def std_of(self, found: Likeliest) -> Tensor:
        shares = found.weights.exp()
        mean = self.outputs_of(found, False)
        apart = (found.mean - mean).square()
        return torch.einsum("k,kqo->qo", shares, found.sd.square()[..., None] + apart).sqrt()

    def density_of(self, found: Likeliest, y: Tensor) -> Tensor:
        sd = found.sd[..., None].expand_as(found.mean)
        each = gaussian_log_density(y.expand_as(found.mean), found.mean, sd)
        return torch.logsumexp(found.weights[:, None] + each, 0)

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        support, query = task.support, task.query
        z_support, z, buffers = self.embed_both(meta, support, query, task.noise)
        y = coded(support.y, self.outputs, z)
        fast = self.look(meta, self.init(meta, task), z_support, y, counts_of(support, z))
        found = self.distribution(meta, fast, z)
        loss = self.score(found, task, query, counts_of(query, z))
        return loss, {"metrics": self.metrics(loss, found, task), "buffers": buffers}


@method(
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "equivariant": True,
        "least_scale": 5e-2,  # 3.4e-14 was seen where the terms of a slope all but cancel
        "training": {"steps": 80, "outer_lr": 0.02},
        "options": {"processes": 5, "noises": 2, "kept": 4},
    },
)
def gp_mixture(
    model: nn.Module,
    *,
    outputs: int | None = None,
    input_shape: Sequence[int] | None = None,
    processes: int = 15,
    noises: int = 4,
    kept: int = 8,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """GP mixture: Gaussian processes of many kinds, each exact; what they are is learned, which of them holds the task says.

    Each process has a covariance of its own, a sum of smooth, rough, jagged and periodic curves, a line and a level, and its own
    noise. A support set makes each as likely as it explains the targets: ``w_i ~ prior_i p(y | x, process i)^trust``. The
    answer is the mixture of the posteriors of the ``kept`` likeliest, which has a mean, a spread and a density. Sizes, lengths,
    periods, noise, prior and trust are learned across tasks by minus the log density of the queries. Labels, of which
    such processes know nothing, are predicted as ones and zeros, whose mean is scaled to logits.

    Args:
        model: ``f``, any nn.Module; its output, flattened, is the embedding of x. ``il.models.mlp(1, None, hidden=())`` hands
            the inputs on as they are. Copied, not changed.
        outputs: numbers in a target, or classes; None: as many as the model's output has. Several numbers share their process.
        processes: kinds of curves.
        noises: how many levels of noise each comes with, so that there are ``processes`` times ``noises`` to choose from.
        kept: how many of these answer.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.

    Returns:
        A MetaLearner; adapted, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a size below 1, more kept than there are, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.gp_mixture(il.models.mlp(1, None, hidden=()), outputs=1).eval_steps
        1

    This project's own. Its parts: Rasmussen and Williams 2006, "Gaussian processes for machine learning", chapter 5 (the
    evidence of a model); priors of processes learned across tasks, as Wang et al. 2021, "Pre-trained Gaussian processes for
    Bayesian optimization", arXiv:2109.08215, and Rothfuss et al. 2021, "PACOH", arXiv:2002.05551.
    """
    features = math.prod(features_of(model, input_shape))
    outputs = checked_outputs(outputs, features)
    for what, value in (("processes", processes), ("noises", noises), ("kept", kept)):
        expect_whole(what, value, 1)
    if kept > processes * noises:
        raise ConfigError(f"kept expected at most {processes} processes times {noises} noises, got {kept}; lower it")
    return backprop_method(
        "gp_mixture",
        Parts(model, prior=Prior(processes, noises)),
        lambda pure: ProcessLearner(pure, outputs, loss, features=features, kept=kept),
        outer=Outer(num_tasks=16, lr=1e-2, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
