"""DKT, deep kernel transfer: a Gaussian process on a learned embedding, whose marginal likelihood is the outer loss.

The process's learned numbers, the learner and the factory; the process itself is `functional.gaussian_process`. Patacchiola
et al. 2020, "Bayesian meta-learning for the few-shot setting via deep kernels", arXiv:1910.05199.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, InputError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.gaussian_process import (
    KERNELS,
    OF_COUNTS,
    Covariance,
    Observed,
    Solved,
    exact_dtype,
    fitted_variances,
    observe,
)
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded, first_input, longest_support
from innerloop.learners.metric import ValuesOrClasses, only_shown, shown_labels, ways_of
from innerloop.learners.predictive import PredictiveLearner, counts_of, gaussian_log_density
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, method
from innerloop.objectives import losses
from innerloop.records import record, static

MOST_EXAMPLES = 4_000
OFFERED = (*(name for name in KERNELS if name != "hamming"), *OF_COUNTS)  # embeddings are no categories
_RBF = Covariance(("rbf",))
_LEAST = 1e-4  # of scales, lengths and periods
_LEAST_NOISE = 1e-6  # a variance


class Believed(NamedTuple):
    """A normal distribution for each query and output, noise included.

    Attributes:
        mean: of values, or of -1 and +1 for each class.
        sd: the same for all outputs.
        shown: how many support examples each class has; ones for values.
    """

    mean: Float[Tensor, "query outputs"]
    sd: Float[Tensor, " query"]
    shown: Float[Tensor, " outputs"]


@record
class KernelFast:
    """What a process knows of a task.

    Attributes:
        z: (support, features) embeddings of the support set; zeros before the first step.
        inverse: (support, support) inverse Cholesky factor of their covariance; zeros before the first step.
        solution: (support, outputs) inverse covariance times targets less their mean; likewise.
        shown: (outputs,) how many support examples each class has; ones for values.
        own: (kernels + 1,) logarithms of this task's own factors of the kernels' variances and of the noise; zeros before the
            first step; None: tasks have none of their own.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    z: Tensor
    inverse: Tensor
    solution: Tensor
    shown: Tensor
    own: Tensor | None = None
    step: int = static(0)
    labels: bool = static(False)


class Process(nn.Module):
    """The learned numbers of the process: logarithms of the kernel's and of the noise, and the mean.

    Lengths are in units of the square root of the number of features, so that one suits embeddings of any size.

    Args:
        covariance: which kernels.
        columns: how many lengths each kernel has; None: one.
        noise: its variance at the beginning.
    """

    begins: dict[str, Tensor]
    features: int

    def __init__(self, covariance: Covariance, columns: int | None, noise: float) -> None:
        super().__init__()
        self.begins, self.features = covariance.begins(columns), covariance.features
        for name, value in self.begins.items():
            self.register_parameter(f"log_{name}", nn.Parameter((value - _LEAST).log()))
        self.log_noise: nn.Parameter = nn.Parameter(torch.tensor(math.log(noise - _LEAST_NOISE)))
        self.mean: nn.Parameter = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """All of it by name, above 0 but for the mean, in the dtype of these embeddings."""
        root = math.sqrt(self.features or z.shape[-1])
        found = {}
        for name in self.begins:
            value = getattr(self, f"log_{name}").to(z.dtype).exp() + _LEAST
            kernel, _, what = name.rpartition("_")
            by_column = () if kernel in OF_COUNTS else KERNELS[kernel].by_column
            found[name] = value * root if what in by_column else value
        return {
            **found,
            "noise": self.log_noise.to(z.dtype).exp() + _LEAST_NOISE,
            "mean": self.mean.to(z.dtype),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class KernelLearner(PredictiveLearner, ValuesOrClasses):
    """Exact regression of values, or of -1 and +1 for each class, by a Gaussian process on embeddings.

    There are as many outputs as the task has classes or values; ``outputs`` is not used.

    Args:
        covariance: which kernels.
        normed: whether batch norm stands between the model and the kernel.
        scale_steps: steps that fit each task's own scales and noise; 0: all tasks have the same.
        scale_spread: how far they may lie from those of all tasks: the standard deviation of the variances' logarithms.
    """

    covariance: Covariance = _RBF
    normed: bool = False
    scale_steps: int = 0
    scale_spread: float = 1.0

    pass_salt = 43

    @property
    def own_steps(self) -> int:
        """Steps that fit a task's own scales: in meta-training those of all tasks are learned."""
        return 0 if self.training else self.scale_steps

    def admit(self, tasks: Task) -> Task:
        """Labels as for every method that compares classes; or values, (tasks, examples, outputs).

        Raises:
            InputError: more support examples than are feasible.
            ShapeError: values with more axes.
        """
        longest = longest_support(tasks)
        if longest > MOST_EXAMPLES:
            raise InputError(
                f"a support set expected at most {MOST_EXAMPLES:,} examples, as time grows with their cube, got {longest:,}; "
                "show a part of them"
            )
        return ValuesOrClasses.admit(self, tasks)

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        return ValuesOrClasses.prediction_shape(self, tasks, of_model)

    def embed(
        self, meta: Meta, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        z, buffers = super().embed(meta, x, mask, noise)
        if self.normed:
            z, buffers = self.model.apply(meta.params, buffers, z, mask=mask, training=self.training, part="norm")
        return (torch.cat([x.flatten(1), z], 1) if self.covariance.kinds else z), buffers

    def init(self, meta: Meta, task: Task) -> KernelFast:
        one, _ = self.embed(meta, first_input(task.support))  # only the model knows how long its embeddings are
        known = nothing_seen(task, one)
        own = known.z.new_zeros(len(self.covariance.names) + 1) if self.own_steps else None
        return dataclasses.replace(known, own=own)

    def step(self, meta: Meta, fast: KernelFast, batch: Examples, i: int) -> KernelFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.look(meta, fast, z, targets(batch.y, fast.shown.shape[0], z), counts_of(batch, z))

    def look(self, meta: Meta, fast: KernelFast, z: Tensor, y: Tensor, counts: Tensor) -> KernelFast:
        z = z.to(exact_dtype(z))
        of: Any = self.net(meta, "process", z)
        return self.looked(of, fast, z, self.covariance.each(of, z, z), y, counts)

    def looked(
        self, of: dict[str, Tensor], fast: KernelFast, z: Tensor, parts: Mapping[str, Tensor], y: Tensor, counts: Tensor
    ) -> KernelFast:
        """`look`, where each kernel's covariances of the rows are known."""
        shown = ((y > 0) * counts[:, None]).sum(0) if fast.labels else torch.ones_like(y[0])
        observed, own = self.observed(of, parts, y, counts, fast.labels)
        solved = observed.solved()
        return KernelFast(z, solved.inverse, solved.solution, shown.to(z.dtype), own, 1, fast.labels)

    def observed(
        self, of: dict[str, Tensor], parts: Mapping[str, Tensor], y: Tensor, counts: Tensor, labels: bool
    ) -> tuple[Observed, Tensor | None]:
        """The process, seen at rows of these covariances, and the task's own factors (`KernelFast.own`)."""
        first = next(iter(parts.values()))
        y, own = y.to(first.dtype) - mean_before(of, y.shape[1], labels), None
        if self.own_steps:
            variances = torch.stack([of[f"{name}_scale"].square() for name in parts])
            of_kernels = list(parts.values())
            steps, spread = self.own_steps, self.scale_spread
            own = fitted_variances(of_kernels, variances, of["noise"], y, counts, steps=steps, spread=spread)
            of = self.scaled(of, own)
        return observe(self.covariance.total(of, parts), of["noise"], y, counts), own

    def scaled(self, of: dict[str, Tensor], own: Tensor | None) -> dict[str, Tensor]:
        """The process's numbers with a task's own factors."""
        if own is None:
            return of
        names = self.covariance.names
        scales = {f"{name}_scale": of[f"{name}_scale"] * (own[i] / 2).exp() for i, name in enumerate(names)}
        return {**of, **scales, "noise": of["noise"] * own[-1].exp()}

    def distribution(self, meta: Meta, fast: KernelFast, z: Tensor) -> Believed:
        dtype, z = z.dtype, z.to(fast.z.dtype)
        of: Any = self.net(meta, "process", z)
        of = self.scaled(of, fast.own)
        return self.believed(of, fast, self.covariance.between(of, z, fast.z), self.covariance.alone(of, z), dtype)

    def believed(
        self, of: dict[str, Tensor], fast: KernelFast, across: Tensor, alone: Tensor, dtype: torch.dtype
    ) -> Believed:
        """`distribution`, where the queries' covariances with the support set and their own variances are known."""
        mean, variance = Solved(fast.inverse, fast.solution).at(across, alone)
        base = mean_before(of, fast.shown.shape[0], fast.labels)
        found = (base + mean, (variance + of["noise"]).sqrt(), fast.shown)
        return Believed(*(part.to(dtype) for part in found))

    def outputs_of(self, found: Believed, labels: bool) -> Tensor:
        """Means, or logits: with -1 and +1 normally distributed around the means, ``2 mean / variance`` says how likely +1 is
        for this class and -1 for all others."""
        if not labels:
            return found.mean
        return only_shown(2 * found.mean / found.sd.square()[:, None], found.shown)

    def std_of(self, found: Believed) -> Tensor:
        return found.sd[:, None].expand_as(found.mean)

    def density_of(self, found: Believed, y: Tensor) -> Tensor:
        return gaussian_log_density(y.reshape(found.mean.shape), found.mean, self.std_of(found))

    def log_density(self, meta: Meta, fast: KernelFast, query: Examples) -> Tensor:
        y = query.y if query.y.is_floating_point() else shown_labels(query, fast.shown)
        return super().log_density(meta, fast, dataclasses.replace(query, y=y))

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        both, z, buffers = self.sides_of(meta, task)
        start, shots = nothing_seen(task, z), task.support.y.shape[0]
        y, counts = targets(both.y, start.shown.shape[0], z), counts_of(both, z)
        given = losses.short_form(self.loss or task.objective)
        own = self.loss is not None or not (start.labels or given in (None, "mse", losses.mse))
        rows = z.to(exact_dtype(z))
        of: Any = self.net(meta, "process", rows)
        parts = self.covariance.each(of, rows, rows)
        # Where nobody gave another loss, the posterior is for metrics alone.
        judged = (of, parts) if own else tuple({k: v.detach() for k, v in each.items()} for each in (of, parts))
        fast = self.looked(
            judged[0],
            start,
            rows[:shots],
            {k: v[:shots, :shots] for k, v in judged[1].items()},
            y[:shots],
            counts[:shots],
        )
        scaled = self.scaled(judged[0], fast.own)
        total = self.covariance.total(scaled, {k: v[shots:] for k, v in judged[1].items()})
        found = self.believed(scaled, fast, total[:, :shots], total[:, shots:].diagonal(), z.dtype)
        if own:
            asked = shown_labels(task.query, fast.shown) if start.labels else task.query.y
            loss = losses.objective(given, self.outputs_of(found, start.labels), asked, task.query.mask)
        else:
            likely = self.observed(of, parts, y, counts, start.labels)[0].log_likelihood()
            loss = -likely.mean().to(z.dtype) / counts.sum().clamp(min=1.0)
        return loss, {"metrics": self.metrics(loss, found, task), "buffers": buffers}


def nothing_seen(task: Task, like: Float[Tensor, "some features"]) -> KernelFast:
    """What is known of a task before its support set was looked at."""
    y, like = task.support.y, like.to(exact_dtype(like))
    labels, size = not y.is_floating_point(), y.shape[0]
    outputs = ways_of(task) if labels else y[0].numel()
    return KernelFast(
        like.new_zeros(size, like.shape[-1]),
        like.new_zeros(size, size),
        like.new_zeros(size, outputs),
        like.new_zeros(outputs) if labels else like.new_ones(outputs),
        labels=labels,
    )


def targets(y: Tensor, outputs: int, like: Tensor) -> Float[Tensor, "examples outputs"]:
    """Values as they are; labels as +1 for their class and -1 for all others."""
    found = coded(y, outputs, like)
    return found if y.is_floating_point() else 2 * found - 1


def mean_before(of: Mapping[str, Tensor], outputs: int, labels: bool) -> Tensor:
    """The mean before anything was seen: the learned one, for classes that of equal shares, at which its slope is zero."""
    return of["mean"].new_full((), 2 / outputs - 1) if labels else of["mean"]


@method(
    model={"outputs": None, "downsample": "max_pool"},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "any_ways": True,
        "asks_shape": False,
        "shift_free": True,
        "least_scale": 1e-2,  # 2.1e-15 was seen where a slope is zero: of a shift of all embeddings
        "equivariant": True,
    },
)
def dkt(
    model: nn.Module,
    *,
    kernel: str = "rbf",
    noise: float = 0.1,
    norm_embedding: bool = False,
    ard: bool = False,
    scale_steps: int = 0,
    scale_spread: float = 1.0,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """DKT: a Gaussian process on a learned embedding; embedding and kernel are learned by the exact marginal likelihood.

    ``loss = -log N(y; mean, K + noise I) / examples``, with y of support and query set together and ``K_ij = k(f(x_i), f(x_j))``:
    the network f and the kernel's scale, lengths and noise are what all tasks share, and a task is solved in closed form by the
    posterior given its support set, with a mean and a variance. Classes are regressed one by one, +1 for its examples and -1 for
    all others, by one process. Looking at the support set is one step; a task may have any number of classes, in training, in
    evaluation and in ``adapt``.

    Where we differ: all classes share the kernel's numbers, as any number of classes needs (the authors have a set for each
    place in a task, whose classes are shuffled); their mean is that of equal shares, ``2 / classes - 1``; logits are ``2 mean /
    variance``, the odds of +1 against -1 under the process itself (the authors take the greatest mean, which is the same class);
    the noise is learned for classes too (the authors hold it at 0.1).

    ``scale_steps`` is adaptive deep kernel fitting (ADKF, Chen et al. 2023, arXiv:2205.02708) in part: a task that is adapted has
    scales and noise of its own, the most probable ones given its support set and a prior around those of all tasks. Where we
    differ: lengths and the embedding are all tasks'; there is a prior, so a few examples cannot lead them astray; and
    meta-training learns all tasks' scales by the marginal likelihood, not through those of each (no implicit function theorem).

    Args:
        model: any nn.Module whose output is the embedding, so without a last layer (``outputs=None`` in `il.models`);
            outputs with more axes are flattened. ``il.models.mlp(1, None, hidden=())`` hands the inputs on as they are. Copied,
            not changed.
        kernel: "rbf", "matern12", "matern32", "matern52", "periodic", "linear" or "cosine", or a sum such as "rbf+linear", each
            with a scale of its own. "tanimoto" compares the inputs themselves, sparse rows of counts as molecules'
            fingerprints are; "tanimoto+rbf" beside it a learned embedding. See `innerloop.functional.gaussian_process`.
        noise: variance of the noise at the beginning, in squared units of y; for classes of -1 and +1. Learned.
        norm_embedding: batch norm between the model and the kernel; with "cosine" the authors' BNCosSim.
        ard: a length for each feature of the embedding.
        scale_steps: how many steps of Fisher scoring fit an adapted task's own scales and noise to its support set; 0: all tasks
            have the same, as in the paper. Five are enough.
        scale_spread: how far they may lie from those of all tasks: the standard deviation of the logarithms of the variances.
        input_shape: of one example, where it cannot be read off the model; asked for by ``norm_embedding`` and ``ard`` alone.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits) of the queries, or a name; None: minus the log marginal
            likelihood, also where the problem says "mse" or "cross_entropy".

    Returns:
        A MetaLearner for classification and regression tasks; adapted to values, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a kernel that is not known, or one of sparse rows for another model than `il.models.counts_mlp`; a noise that
            is not above 0.000001; an input shape that is not known; steps or a spread out of range.

    Example:
        >>> import innerloop as il
        >>> il.dkt(il.models.mlp(1, None)).eval_steps
        1

    Reference: Patacchiola et al. 2020, "Bayesian meta-learning for the few-shot setting via deep kernels", arXiv:1910.05199.
    """
    covariance = Covariance.named(kernel, OFFERED)
    expect_whole("scale_steps", scale_steps, 0)
    if not (math.isfinite(scale_spread) and scale_spread > 0):
        raise ConfigError(f"scale_spread expected a finite number above 0, got {scale_spread!r}; raise it")
    if set(covariance.names) & set(OF_COUNTS):
        kinds = getattr(model, "kinds", None)
        if not isinstance(kinds, int):
            raise ConfigError(
                f"kernel {kernel!r} expected a model of sparse rows, which it compares, such as il.models.counts_mlp, got "
                f"{type(model).__name__}; use that one, or another kernel"
            )
        input_shape = (2, 1)
        covariance = dataclasses.replace(covariance, kinds=kinds, features=math.prod(features_of(model, input_shape)))
    number = isinstance(noise, int | float) and not isinstance(noise, bool)
    if not (number and math.isfinite(noise) and noise > _LEAST_NOISE):
        raise ConfigError(f"noise expected a finite variance above {_LEAST_NOISE:.6f}, got {noise!r}; raise it")
    features = math.prod(features_of(model, input_shape)) if norm_embedding or ard else None
    parts: dict[str, nn.Module] = {"process": Process(covariance, features if ard else None, float(noise))}
    if norm_embedding:
        assert features is not None
        parts["norm"] = nn.BatchNorm1d(features)
    return backprop_method(
        "dkt",
        Parts(model, **parts),
        lambda pure: KernelLearner(
            pure,
            0,
            loss,
            covariance=covariance,
            normed=norm_embedding,
            scale_steps=scale_steps,
            scale_spread=float(scale_spread),
        ),
        outer=Outer(num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
