"""CNP, conditional neural processes: the examples' codes are averaged, and a decoder predicts a distribution at any input.

The learner and the factory; its networks are plain layers. Garnelo et al. 2018, "Conditional neural processes",
arXiv:1807.01613.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.norms import BatchNormPolicy
from innerloop.functional.parts import features_of
from innerloop.learners.embedding import coded
from innerloop.learners.gaussian import GaussianLearner, Gaussians
from innerloop.learners.predictive import counts_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, checked_outputs, method
from innerloop.models.cross_attention import layers
from innerloop.records import record, static


@record
class ConditionalFast:
    """What a conditional neural process knows of a task.

    Attributes:
        r: (1, width) the mean of the support examples' codes, or (classes, width) that of each class; zeros before the
            first step, and for a class without support. Of several encoders side by side.
        counts: (1,) or (classes,) how many examples each is the mean of; None: not known, from a file that had none.
        step: how many steps came before.
        labels: whether targets are labels.
    """

    r: Tensor
    counts: Tensor | None = None
    step: int = static(0)
    labels: bool = static(False)

    @property
    def older(self) -> ConditionalFast:
        """This record as files held it that knew no counts."""
        return dataclasses.replace(self, counts=None)


@dataclasses.dataclass(frozen=True, eq=False)
class ConditionalLearner(GaussianLearner):
    """``r = mean of encoder(z, y)`` over the support set; the decoder reads a query's z and r.

    Labels are averaged class by class; the decoder reads z and one class's mean at a time, and gives the logit of that class.

    Args:
        width: of a code.
        score_support: the loss is over the support examples too.
        encoders: how many, whose mean codes stand side by side.
        pooled_layers: linear layers that each mean code goes through.
    """

    width: int = 128
    score_support: bool = True
    encoders: int = 1
    pooled_layers: int = 0

    absorbs = True

    def init(self, meta: Meta, task: Task) -> ConditionalFast:
        labels = not task.support.y.is_floating_point()
        like = next(p for p in meta.params.values() if p.is_floating_point())
        rows = self.outputs if labels else 1
        return ConditionalFast(like.new_zeros(rows, self.encoders * self.width), like.new_zeros(rows), 0, labels)

    def look(self, meta: Meta, fast: ConditionalFast, z: Tensor, y: Tensor, counts: Tensor) -> ConditionalFast:
        sums, number = self.summed(meta, fast, z, y, counts)
        return dataclasses.replace(fast, r=sums / number.clamp(min=1.0)[:, None], counts=number, step=1)

    def absorb(self, meta: Meta, fast: ConditionalFast, data: Examples) -> ConditionalFast:
        """The means of all codes so far: each sum is a mean times how many it is of."""
        if fast.counts is None:
            raise ConfigError("this task's file does not say how many examples it is of; adapt again to all examples")
        z, _ = self.embed(meta, data.x, data.mask)
        sums, number = self.summed(meta, fast, z, coded(data.y, self.outputs, z), counts_of(data, z))
        total = fast.counts + number
        known = fast.r * fast.counts[:, None]
        return dataclasses.replace(fast, r=(known + sums) / total.clamp(min=1.0)[:, None], counts=total)

    def summed(
        self, meta: Meta, fast: ConditionalFast, z: Tensor, y: Tensor, counts: Tensor
    ) -> tuple[Float[Tensor, "rows width"], Float[Tensor, " rows"]]:
        """The codes of some examples summed, of all or class by class, and how many each sum is of."""
        # A class's mean says which class it is by its place: its examples' codes need not.
        told = torch.cat([z, torch.zeros_like(y) if fast.labels else y], -1)
        parts = ["encoder", *(f"more_encoders.{i}" for i in range(self.encoders - 1))]
        codes = torch.cat([self.net(meta, part, told) for part in parts], -1)
        weight = (y if fast.labels else torch.ones_like(y[:, :1])) * counts[:, None]
        return weight.T @ codes, weight.sum(0)

    def distribution(self, meta: Meta, fast: ConditionalFast, z: Tensor) -> Gaussians:
        r = fast.r
        if self.pooled_layers:
            means = r.split(self.width, -1)
            r = torch.cat([self.net(meta, f"pooled.{i}", mean) for i, mean in enumerate(means)], -1)
        pairs = torch.cat([z[:, None].expand(-1, r.shape[0], -1), r.expand(z.shape[0], *r.shape)], -1)
        raw = self.net(meta, "decoder", pairs.flatten(0, 1)).reshape(*pairs.shape[:2], -1)
        if fast.labels:
            logits = raw[None, ..., 0]
            return Gaussians(logits, torch.ones_like(logits))
        return self.gaussians(raw.transpose(0, 1))

    def meta_loss(self, meta: Meta, task: Task, outer_step: int) -> tuple[Tensor, dict[str, Any]]:
        del outer_step
        both, z, buffers = self.sides_of(meta, task)
        support, query, shots = task.support, task.query, task.support.y.shape[0]
        fast = self.init(meta, task)
        fast = self.look(meta, fast, z[:shots], coded(support.y, self.outputs, z), counts_of(support, z))
        found = self.distribution(meta, fast, z if self.score_support else z[shots:])
        asked = Gaussians(*(part[:, -query.y.shape[0] :] for part in found))
        judged = both if self.score_support else query
        loss = self.score(found, task, judged, counts_of(judged, z))
        return loss, {"metrics": self.metrics(loss, asked, task), "buffers": buffers}


@method(
    classification={"score_support": False},
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    newer=("encoders", "pooled_layers"),
    declares={
        "inner_loop": False,
        "adds_parameters": True,
        "equivariant": True,
        "training": {"steps": 100, "outer_lr": 0.003},
        "options": {"width": 32},
    },
)
def cnp(
    model: nn.Module,
    *,
    outputs: int | None = None,
    input_shape: Sequence[int] | None = None,
    width: int = 128,
    encoder_layers: int = 3,
    decoder_layers: int = 5,
    encoders: int = 1,
    pooled_layers: int = 0,
    min_sd: float = 0.1,
    score_support: bool = True,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Conditional neural processes: ``y ~ N(mean, sd^2)``, both decoded from x and the mean code of the support set.

    ``r = mean of encoder(f(x), y)`` over the support examples, ``(mean, sd) = decoder(f(x), r)``. Trained by the likelihood of
    the targets. With labels, codes are averaged class by class, and the decoder gives a class's logit from f(x) and that class's
    mean (the paper's decoder reads all classes' means side by side). There is no inner loop and no rate: looking at the support
    set is one step.

    Args:
        model: ``f``, any nn.Module; its output, flattened, is the embedding of x. ``il.models.mlp(1, None, hidden=())`` hands
            the inputs on as they are. Copied, not changed.
        outputs: numbers in a target, or classes; None: as many as the model's output has.
        width: of the code and of all inner layers.
        encoder_layers, decoder_layers: linear layers of the two networks, with ReLU between them.
        encoders: how many there are, whose mean codes the decoder reads side by side; 2 in the code of Nguyen and Grover 2022
            (arXiv:2207.04179).
        pooled_layers: linear layers that each mean code goes through before the decoder reads it; theirs 2.
        min_sd: the least standard deviation; ``sd = min_sd + (1 - min_sd) softplus(.)`` as the authors' code. In units of y.
        score_support: the loss is over support and query examples, as in the paper; False: over the queries alone.
        loss: ``loss(prediction, y) -> scalar`` on means (or logits), or a name; None: minus the log density of floating targets
            (also where the problem says "mse"), cross-entropy for labels.

    Returns:
        A MetaLearner; adapted, it has `Fitted.predict_std`.

    Raises:
        ConfigError: a size below 1, a negative ``min_sd``, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.cnp(il.models.mlp(1, None, hidden=()), outputs=1).eval_steps
        1

    Reference: Garnelo et al. 2018, "Conditional neural processes", arXiv:1807.01613.
    """
    features = math.prod(features_of(model, input_shape))
    outputs = checked_outputs(outputs, features, min_sd)
    expect_whole("encoders", encoders)
    expect_whole("pooled_layers", pooled_layers, 0)
    made = [layers(features + outputs, width, width, encoder_layers) for _ in range(encoders)]
    networks: dict[str, nn.Module] = {
        "encoder": made[0],
        "decoder": layers(features + encoders * width, width, 2 * outputs, decoder_layers),
    }
    if encoders > 1:
        networks["more_encoders"] = nn.ModuleList(made[1:])
    if pooled_layers:
        networks["pooled"] = nn.ModuleList(layers(width, width, width, pooled_layers) for _ in range(encoders))

    return backprop_method(
        "cnp",
        Parts(model, **networks),
        lambda pure: ConditionalLearner(
            pure,
            outputs,
            loss,
            min_sd=min_sd,
            width=width,
            score_support=score_support,
            encoders=encoders,
            pooled_layers=pooled_layers,
        ),
        outer=Outer(num_tasks=16, lr=5e-4, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
