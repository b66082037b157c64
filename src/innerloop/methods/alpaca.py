"""ALPaCA: Bayesian linear regression on learned features, updated example by example, also where the task changes.

Harrison, Sharma and Pavone 2018, "Meta-learning priors for efficient online Bayesian regression", arXiv:1807.08912; changepoints:
MOCA of Harrison, Sharma, Finn and Pavone 2020, "Continuous meta-learning without tasks", arXiv:1912.08866.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, ShapeError, expect_whole
from innerloop.functional.bayesian_linear import Seen, Weights, posterior, symmetric
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded
from innerloop.learners.metric import ValuesOrClasses, only_shown, shown_labels, ways_of
from innerloop.learners.predictive import PredictiveLearner, counts_of, gaussian_log_density
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, checked_outputs, method
from innerloop.objectives import losses
from innerloop.records import record, static

Forget = Literal["learned"] | float | None
_KEPT = 0.97  # from one example to the next, where what is kept is learned: at the beginning
_SPREAD = 10.0  # variance of all weights together before anything was seen, in units of the noise's: at the beginning
_LEAST_NOISE = 1e-6  # a variance
_NEVER = -80.0  # log probability of what holds no run


class Mixed(NamedTuple):
    """Normal distributions of each query, noise included, and how likely each of them is.

    Attributes:
        chances: their log probabilities.
        mean: of values, or of -1 and +1 for each class.
        sd: of the same.
        shown: how many support examples each class has; ones for values.
    """

    chances: Float[Tensor, " runs"]
    mean: Float[Tensor, "runs query outputs"]
    sd: Float[Tensor, "runs query outputs"]
    shown: Float[Tensor, " outputs"]


@record
class BayesFast:
    """What is believed of a task's last layer, for each hypothesis on when its present run began.

    Attributes:
        mean: (runs, features + 1, outputs) of the weights; the last feature is 1.
        covariance: (runs, features + 1, features + 1), in units of the noise's variance.
        chances: (runs,) log probabilities of the runs.
        lengths: (runs,) how many examples each run has.
        seen: (), how many examples there were.
        shown: (outputs,) how many of them each class has; ones for values.
        step: how many steps came before.
        labels: whether targets are labels.
        recent: how many examples `change_probability` looks back; 0: the learner looks for no changes.
    """

    mean: Tensor
    covariance: Tensor
    chances: Tensor
    lengths: Tensor
    seen: Tensor
    shown: Tensor
    step: int = static(0)
    labels: bool = static(False)
    recent: int = static(0)

    @property
    def change_probability(self) -> Tensor | None:
        """How likely it is that the present run began within the ``recent`` last examples, and is not the first of all.

        None: nobody looks for changes.
        """
        new = (self.lengths <= self.recent) & (self.lengths < self.seen)
        return None if self.recent == 0 else torch.where(new, self.chances.exp(), 0.0).sum().clamp(max=1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class BayesLearner(PredictiveLearner, ValuesOrClasses):
    """A Bayesian last layer on embeddings, of values or of -1 and +1 for each class.

    Args:
        features: of an embedding, the 1 beside them not counted.
        noise: variance of the noise at the beginning.
        forget: what is kept from one example to the next; "learned"; None: all.
        hazard: how likely a change is before each example, at the beginning; None: it looks for none.
        runs: how many hypotheses on when the present run began are kept.
        recent: how many examples `BayesFast.change_probability` looks back.
    """

    features: int = 1
    noise: float = 0.1
    forget: Forget = None
    hazard: float | None = None
    runs: int = 1
    recent: int = 0

    pass_salt = 61
    absorbs = True

    @property
    def ordered(self) -> bool:
        """Whether the order of examples matters."""
        return self.forget is not None or self.hazard is not None

    # ---- what is learned across tasks ----------------------------------------------------------------------------------
    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        like = next(p for p in params.values() if p.is_floating_point())
        size = self.features + 1
        found = {
            "factor": torch.diag_embed(like.new_full((size,), 0.5 * math.log(_SPREAD / size))),
            "log_noise": like.new_tensor(math.log(self.noise - _LEAST_NOISE)),
            # A row for each value of a target; none before the first batch where nobody said how many.
            "noise_offsets": like.new_zeros(self.outputs),
            "prior": like.new_zeros(self.outputs, size),
        }
        if self.forget == "learned":
            found["kept"] = like.new_tensor(_logit(_KEPT))
        if self.hazard is not None:
            found["hazard"] = like.new_tensor(_logit(self.hazard))
        return found

    def rows_for(self, tasks: Task) -> int | None:
        y = tasks.support.y
        return y[0, 0].numel() if y.is_floating_point() else None

    def widened_rule(self, rule: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
        if len(rule["prior"]) or not rows:  # what was learned of some values says nothing of others
            return {}
        return {name: rule[name].detach().new_zeros(rows, *rule[name].shape[1:]) for name in ("noise_offsets", "prior")}

    def prior(self, meta: Meta, outputs: int, labels: bool) -> Weights:
        """What is believed before anything was seen; of classes the mean of equal shares."""
        of = meta.rule
        if labels:
            mean = torch.zeros_like(of["factor"][:, :1])
            mean = torch.cat([mean[:-1], mean[-1:] + (2 / outputs - 1)]).expand(-1, outputs)
        elif len(of["prior"]):
            mean = of["prior"].T
        else:
            mean = torch.zeros_like(of["factor"][:, :1]).expand(-1, outputs)
        if mean.shape[1] != outputs:
            raise ShapeError(
                f"targets expected {mean.shape[1]} numbers an example, as in training, got {outputs}; give as many, or train "
                f"with outputs={outputs}"
            )
        return Weights(mean, symmetric(of["factor"]))

    def noise_of(self, meta: Meta, outputs: int, labels: bool) -> Float[Tensor, " outputs"]:
        """Variances of the noise."""
        level, offsets = meta.rule["log_noise"], meta.rule["noise_offsets"]
        each = level.expand(outputs) if labels or not len(offsets) else level + offsets
        return each.exp() + _LEAST_NOISE

    # ---- one task --------------------------------------------------------------------------------------------------------
    def admit(self, tasks: Task) -> Task:
        return ValuesOrClasses.admit(self, tasks)

    def prediction_shape(self, tasks: Task, of_model: tuple[int, ...]) -> tuple[int, ...]:
        return ValuesOrClasses.prediction_shape(self, tasks, of_model)

    def embed(
        self, meta: Meta, x: Tensor, mask: Tensor | None = None, noise: Tensor | None = None
    ) -> tuple[Float[Tensor, "examples columns"], dict[str, Tensor]]:
        """Features and a column of ones."""
        z, buffers = super().embed(meta, x, mask, noise)
        return torch.cat([z, torch.ones_like(z[:, :1])], 1), buffers

    def init(self, meta: Meta, task: Task) -> BayesFast:
        y = task.support.y
        labels = not y.is_floating_point()
        outputs = ways_of(task) if labels else y[0].numel()
        before = self.prior(meta, outputs, labels)
        none = before.covariance.new_zeros(self.runs)
        return BayesFast(
            before.mean.expand(self.runs, -1, -1).contiguous(),
            before.covariance.expand(self.runs, -1, -1).contiguous(),
            torch.cat([none[:1], none[1:] + _NEVER]),
            none,
            none.new_zeros(()),
            none.new_zeros(outputs) if labels else none.new_ones(outputs),
            labels=labels,
            recent=self.recent,
        )

    def look(self, meta: Meta, fast: BayesFast, z: Tensor, y: Tensor, counts: Tensor, whole: bool = False) -> BayesFast:
        """What is believed after these examples, in their order where that matters."""
        if self.ordered:
            fast, _ = self.along(meta, fast, z, y, None if whole else counts)
            return dataclasses.replace(fast, step=fast.step + 1)
        found = posterior(Weights(fast.mean[0], fast.covariance[0]), z, y, counts)
        number = counts.sum()
        shown = fast.shown + ((y > 0) * counts[:, None]).sum(0) if fast.labels else fast.shown
        return dataclasses.replace(
            fast,
            mean=found.mean[None],
            covariance=found.covariance[None],
            lengths=fast.lengths + number,
            seen=fast.seen + number,
            shown=shown,
            step=fast.step + 1,
        )

    def step(self, meta: Meta, fast: BayesFast, batch: Examples, i: int) -> BayesFast:
        if fast.step:
            return fast
        z, _ = self.embed(meta, batch.x, batch.mask)
        return self.look(meta, fast, z, targets(batch.y, fast, z), counts_of(batch, z), batch.mask is None)

    def absorb(self, meta: Meta, fast: BayesFast, data: Examples) -> BayesFast:
        """What is believed after these examples, too; at the same cost for each."""
        z, _ = self.embed(meta, data.x, data.mask)
        return self.along(meta, fast, z, targets(data.y, fast, z), None if data.mask is None else counts_of(data, z))[0]

    def along(
        self, meta: Meta, fast: BayesFast, z: Tensor, y: Tensor, counts: Tensor | None
    ) -> tuple[BayesFast, list[Tensor]]:
        """`after` for each example in turn."""
        prior = self.prior(meta, y.shape[-1], fast.labels) if self.ordered else None
        densities = []
        for i in range(len(z)):
            fast, density = self.after(meta, fast, z[i], y[i], None if counts is None else counts[i], prior)
            densities.append(density)
        return fast, densities

    def after(
        self,
        meta: Meta,
        fast: BayesFast,
        z: Float[Tensor, " columns"],
        y: Float[Tensor, " outputs"],
        count: Tensor | None = None,
        prior: Weights | None = None,
    ) -> tuple[BayesFast, Float[Tensor, ""]]:
        """(what is believed after one more example, the log density of its target before it was seen).

        Args:
            meta, fast: as ever.
            z, y: the example.
            count: 1 where it counts, 0 for padding; None: it counts.
            prior: `prior`, where it is at hand.
        """
        outputs, now = y.shape[-1], Weights(fast.mean, fast.covariance)
        seen = now.seen_at(z)
        chances, lengths = fast.chances, fast.lengths
        prior = self.prior(meta, outputs, fast.labels) if prior is None and self.ordered else prior
        noise = self.noise_of(meta, outputs, fast.labels)
        if self.hazard is None:
            density = _density(y, seen, noise)[0]
        else:
            assert prior is not None
            new = prior.seen_at(z)
            stays, goes = _hazard(meta)
            grown = chances + stays + _density(y, seen, noise)
            began = goes + _density(y, new, noise)
            density = torch.logsumexp(torch.cat([grown, began[None]]), 0)
            # The run that this example may begin takes the place of the one that is least likely by now.
            place = torch.arange(self.runs, device=z.device) == grown.argmin()
            chances = torch.log_softmax(torch.where(place, began, grown), 0)
            lengths = torch.where(place, 0.0, lengths)
            now = Weights(*(torch.where(place[:, None, None], a, b) for a, b in zip(prior, now, strict=True)))
            parts = zip(new, seen, strict=True)
            seen = Seen(*(torch.where(place[(...,) + (None,) * (b.ndim - 1)], a, b) for a, b in parts))
        moved = now.after(seen, y)
        if self.forget is not None:
            assert prior is not None
            moved = moved.towards(prior, self.kept(meta))
        shown = fast.shown + (y > 0) if fast.labels else fast.shown
        found = BayesFast(
            moved.mean, moved.covariance, chances, lengths + 1, fast.seen + 1, shown, fast.step, fast.labels, fast.recent
        )  # fmt: skip
        if count is None:
            return found, density
        return pytree.tree_map(lambda a, b: torch.where(count > 0, a, b), found, fast), density * count

    def kept(self, meta: Meta) -> Tensor | float:
        """What is kept from one example to the next."""
        if self.forget == "learned":
            return torch.sigmoid(meta.rule["kept"])
        assert isinstance(self.forget, int | float)
        return float(self.forget)

    # ---- what is believed of queries ------------------------------------------------------------------------------------
    def distribution(self, meta: Meta, fast: BayesFast, z: Tensor) -> Mixed:
        outputs, chances = fast.shown.shape[0], fast.chances
        mean, variance = Weights(fast.mean, fast.covariance).at(z)
        if self.hazard is not None:  # a change may come before the next example
            new = self.prior(meta, outputs, fast.labels).at(z)
            mean, variance = (torch.cat([a, b[None]]) for a, b in zip((mean, variance), new, strict=True))
            stays, goes = _hazard(meta)
            chances = torch.cat([chances + stays, goes[None]])
        noise = self.noise_of(meta, outputs, fast.labels)
        return Mixed(chances, mean, (variance[..., None] * noise).sqrt(), fast.shown)

    def outputs_of(self, found: Mixed, labels: bool) -> Tensor:
        """Means, or logits: with -1 and +1 normally distributed around the means, ``2 mean / variance`` says how likely +1 is
        for this class and -1 for all others."""
        mean = (found.chances.exp()[:, None, None] * found.mean).sum(0)
        return only_shown(2 * mean / self.std_of(found).square(), found.shown) if labels else mean

    def std_of(self, found: Mixed) -> Tensor:
        share = found.chances.exp()[:, None, None]
        mean = (share * found.mean).sum(0)
        return (share * (found.sd.square() + (found.mean - mean).square())).sum(0).sqrt()

    def density_of(self, found: Mixed, y: Tensor) -> Tensor:
        each = gaussian_log_density(y.reshape(found.mean.shape[1:]).expand_as(found.mean), found.mean, found.sd)
        return torch.logsumexp(found.chances[:, None] + each, 0)

    def log_density(self, meta: Meta, fast: BayesFast, query: Examples) -> Tensor:
        y = query.y if query.y.is_floating_point() else shown_labels(query, fast.shown)
        return super().log_density(meta, fast, dataclasses.replace(query, y=y))

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        both, z, buffers = self.sides_of(meta, task)
        fast, shots = self.init(meta, task), task.support.y.shape[0]
        y, counts = targets(both.y, fast, z), counts_of(both, z)
        given = None if both.mask is None else counts
        if self.ordered:
            fast, densities = self.along(meta, fast, z[:shots], y[:shots], None if given is None else given[:shots])
            fast = dataclasses.replace(fast, step=1)
        else:
            fast, densities = self.look(meta, fast, z[:shots], y[:shots], counts[:shots]), []
        found, asked = self.distribution(meta, fast, z[shots:]), task.query
        if fast.labels:
            asked = dataclasses.replace(asked, y=shown_labels(asked, fast.shown))
        plain = self.loss is None and losses.short_form(task.objective) in (None, "mse", losses.mse)
        if self.ordered and plain and not fast.labels:  # along the whole sequence, each example before it is learned
            _, more = self.along(meta, fast, z[shots:], y[shots:], None if given is None else given[shots:])
            loss = -torch.stack([*densities, *more]).sum() / counts.sum().clamp(min=1.0)
        else:
            loss = self.score(found, task, asked, counts[shots:])
        return loss, {"metrics": self.metrics(loss, found, task), "buffers": buffers}


def targets(y: Tensor, fast: BayesFast, like: Tensor) -> Float[Tensor, "examples outputs"]:
    """Values as they are; labels as +1 for their class and -1 for all others."""
    found = coded(y, fast.shown.shape[0], like)
    return 2 * found - 1 if fast.labels else found


def _density(y: Tensor, seen: Seen, noise: Tensor) -> Float[Tensor, " *runs"]:
    """The log density of an example's target."""
    sd = (seen.variance[..., None] * noise).sqrt()
    return gaussian_log_density(y.expand_as(sd), seen.mean, sd)


def _hazard(meta: Meta) -> tuple[Tensor, Tensor]:
    """Log probabilities that all stays as it is before the next example, and that it changes."""
    hazard = meta.rule["hazard"]
    return nn.functional.logsigmoid(-hazard), nn.functional.logsigmoid(hazard)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


@method(
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "any_ways": True,
        "equivariant": True,
        "least_scale": 1e-2,  # 3.0e-15 was seen where a slope is zero: a bias before batch norm
    },
)
def alpaca(
    model: nn.Module,
    *,
    outputs: int | None = None,
    noise: float = 0.1,
    forget: float | Literal["learned"] | None = None,
    changepoints: bool = False,
    hazard: float = 0.01,
    runs: int = 12,
    recent: int = 5,
    input_shape: Sequence[int] | None = None,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """ALPaCA: a Bayesian last layer on learned features, with a learned prior; new examples are taken in at constant cost.

    ``y = W'f(x) + noise`` with ``W ~ N(W0, noise S0)``: the network f, the prior mean W0 and covariance S0 and the noise are
    learned by the log density of the queries' targets under the posterior that the support set leaves. ``fitted.learn(x, y)``
    takes in example after example by products of the covariance with the features, to the same posterior as all examples at
    once; ``fitted.predict_std(x)`` is the spread. Looking at the support set is one step. Labels are regressed, +1 for a class's
    own examples and -1 for all others, so a task may have any number of classes; the paper has values alone.

    Tasks that change while they are used: examples come in their order, and training goes by the log density of each
    before it is learned, along support and query side. With ``forget`` the weights drift, pulled to the prior, so that what is
    not seen for long is believed as before anything was seen, and the covariance never exceeds the prior's. With ``changepoints``
    a mixture over when the present conditions began is kept (MOCA): each run has a posterior of its own, the chance of a change
    is learned, and ``fitted.change_probability`` says how likely it is that one came within the ``recent`` last examples.

    Args:
        model: any nn.Module whose output is the features, flattened; a 1 is put beside them. Copied, not changed.
        outputs: values in a target; None: as many as the first training tasks have. Labels need none.
        noise: its variance at the beginning, in squared units of y. Learned, one for each output.
        forget: what is kept of the weights' departure from the prior, as a share of its variance, from one example to the next;
            "learned": one number for all tasks, 0.97 at the beginning; None: all is kept.
        changepoints: whether to look for changes.
        hazard: the chance of a change before each example, at the beginning; learned. Without ``changepoints`` of no meaning.
        runs: hypotheses on when the present run began that are kept; where there are more, the least likely gives way.
        recent: how many of the last examples ``change_probability`` is about.
        loss: ``loss(prediction, y) -> scalar`` on the queries' means (or logits), or a name; None: minus the log density of the
            targets, also where the problem says "mse" or "cross_entropy".

    Returns:
        A MetaLearner for regression and classification tasks; adapted to values, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a noise, a share or a number that is out of range.
        ShapeError: from the learner, where targets have another width than in training.

    Example:
        >>> import innerloop as il
        >>> il.alpaca(il.models.mlp(6, 32), changepoints=True).eval_steps
        1

    Reference: Harrison, Sharma and Pavone 2018, "Meta-learning priors for efficient online Bayesian regression",
        arXiv:1807.08912; changepoints: Harrison, Sharma, Finn and Pavone 2020, "Continuous meta-learning without tasks",
        arXiv:1912.08866.
    """
    if not (_number(noise) and noise > _LEAST_NOISE):
        raise ConfigError(f"noise expected a finite variance above {_LEAST_NOISE:.6f}, got {noise!r}; raise it")
    if not (forget is None or forget == "learned" or (_number(forget) and 0 < forget <= 1)):
        raise ConfigError(
            f"forget expected a share above 0 and at most 1, 'learned' or None, got {forget!r}; 0.97, say, keeps 97 % a step"
        )
    if not isinstance(changepoints, bool):
        raise ConfigError(f"changepoints expected True or False, got {changepoints!r}")
    if not (_number(hazard) and 0 < hazard < 1):
        raise ConfigError(f"hazard expected a chance between 0 and 1, got {hazard!r}; 0.01, say")
    expect_whole("runs", runs, 2)
    expect_whole("recent", recent)
    features = math.prod(features_of(model, input_shape))
    number = 0 if outputs is None else checked_outputs(outputs, features)

    def learner(pure: Any) -> BayesLearner:
        return BayesLearner(
            pure, number, loss, features=features, noise=float(noise), forget=forget,
            hazard=float(hazard) if changepoints else None, runs=runs if changepoints else 1,
            recent=recent if changepoints else 0,
        )  # fmt: skip

    return backprop_method(
        "alpaca",
        model,
        learner,
        outer=Outer(lr=3e-3, num_tasks=16),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
