"""Matching networks: attention over the support examples, by cosine (Vinyals et al. 2016, arXiv:1606.04080)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import expect_above_zero, expect_whole
from innerloop.functional import Parts, features_of
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.comparing import ComparingLearner, SupportFast, one_row_per_support
from innerloop.learners.metric import members_of, only_shown
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_choice, expect_label_loss, method

_ORDER = 41  # keeps the order of the support set apart from what else draws from a task's key
_FAR = -1e30  # far below any similarity, and finite: a logarithm of a sum over nothing but -inf has no derivative
_EPSILON = 1e-8  # added to squared lengths: the cosine with a vector of zeros is 0, and its derivative finite


class LstmCell(nn.Module):
    """One step of an LSTM: (inputs, hidden, cell) to (new hidden, new cell).

    torch's own cell cannot be batched over tasks.

    Args:
        inputs: width of the inputs.
        hidden: width of the hidden state that comes in.
        units: width of the cell and of the hidden state that goes out.
    """

    def __init__(self, inputs: int, hidden: int, units: int) -> None:
        super().__init__()
        self.of_inputs: nn.Linear = nn.Linear(inputs, 4 * units)
        self.of_hidden: nn.Linear = nn.Linear(hidden, 4 * units, bias=False)

    def forward(
        self, x: Float[Tensor, "rows inputs"], hidden: Float[Tensor, "rows hidden"], cell: Float[Tensor, "rows units"]
    ) -> tuple[Float[Tensor, "rows units"], Float[Tensor, "rows units"]]:
        return self.gated(self.of_inputs(x), hidden, cell)

    def gated(self, given: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """The same where the inputs' part of the gates, (rows, 4 units), is known."""
        enter, forget, value, leave = (given + self.of_hidden(hidden)).chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(value)
        return torch.sigmoid(leave) * torch.tanh(cell), cell


class SupportContext(nn.Module):
    """Embeddings of a support set that know of each other: each plus what an LSTM makes of it in either direction.

    Vinyals et al. 2016, appendix A.2. Padding is passed over: states go on as they were.

    Args:
        features: width of the embeddings.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.forwards: LstmCell = LstmCell(features, features, features)
        self.backwards: LstmCell = LstmCell(features, features, features)

    def forward(self, z: Float[Tensor, "support features"], counts: Tensor) -> Float[Tensor, "support features"]:
        rows = range(z.shape[0])
        return z + self._read(self.forwards, z, counts, rows) + self._read(self.backwards, z, counts, rows[::-1])

    def _read(self, cell: LstmCell, z: Tensor, counts: Tensor, order: range) -> Tensor:
        given = cell.of_inputs(z)
        hidden = state = torch.zeros_like(z[:1])
        found: dict[int, Tensor] = {}
        for i in order:
            new_hidden, new_state = cell.gated(given[i : i + 1], hidden, state)
            hidden = torch.where(counts[i], new_hidden, hidden)
            state = torch.where(counts[i], new_state, state)
            found[i] = hidden
        return torch.cat([found[i] for i in range(z.shape[0])])


class QueryContext(nn.Module):
    """Embeddings of queries that know of the support set: an LSTM that looks at it ``steps`` times, for each query alone.

    Vinyals et al. 2016, appendix A.1: in each step the hidden state attends to the support set by dot products; what is read
    and the hidden state together go into the next step, and the query's own embedding is added to what comes out.

    Args:
        features: width of the embeddings.
        steps: how often.
    """

    def __init__(self, features: int, steps: int) -> None:
        super().__init__()
        self.cell: LstmCell = LstmCell(features, 2 * features, features)
        self.steps = steps

    def forward(
        self,
        z: Float[Tensor, "queries features"],
        support: Float[Tensor, "support features"],
        counts: Tensor,
    ) -> Float[Tensor, "queries features"]:
        given = self.cell.of_inputs(z)
        hidden = state = torch.zeros_like(z)
        for _ in range(self.steps):
            attention = torch.softmax(torch.where(counts, hidden @ support.T, _FAR), -1)
            hidden, state = self.cell.gated(given, torch.cat([hidden, attention @ support], -1), state)
            hidden = hidden + z
        return hidden


@dataclasses.dataclass(frozen=True, eq=False)
class MatchingLearner(ComparingLearner):
    """The probability of a class is the attention that a query pays to the class's support examples.

    Args:
        scale: what cosines are multiplied by before the softmax.
        full_context: embeddings of the support set see each other (the part "support_context"), those of queries see the
            support set (the part "query_context").
        order: in which the support set is read where the order matters: "drawn" from the task's key, or as "given".
    """

    scale: float = 1.0
    full_context: bool = False
    order: Literal["drawn", "given"] = "drawn"

    def batch(self, task: Task, i: int) -> Examples:
        del i
        side = task.support
        if not self.full_context or self.order == "given" or task.noise is None:
            return side
        rows = keys.permutation(keys.fold(task.noise, _ORDER), side.y.shape[0])
        return Examples(side.x[rows], side.y[rows], None if side.mask is None else side.mask[rows])

    def blank(self, meta: Meta, task: Task, one: Tensor) -> SupportFast:
        return SupportFast(*one_row_per_support(one, task))

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> SupportFast:
        members = members_of(support.y, ways, support.mask)
        if self.full_context:
            z, _ = self.model.apply(meta.params, meta.buffers, z, members.any(1), part="support_context")
        return SupportFast(z, members, step=1)

    def compare(
        self, meta: Meta, fast: SupportFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        if self.full_context:
            z, _ = self.model.apply(meta.params, meta.buffers, z, fast.z, fast.members.any(1), part="query_context")
        return attention_logits(self.scale * cosines(z, fast.z), fast.members), meta.buffers


def cosines(
    a: Float[Tensor, "queries features"], b: Float[Tensor, "support features"]
) -> Float[Tensor, "queries support"]:
    """The cosine of each row of ``a`` with each of ``b``; 0 with a row of zeros."""
    a, b = (v * torch.rsqrt(v.square().sum(-1, keepdim=True) + _EPSILON) for v in (a, b))
    return a @ b.T


def attention_logits(
    similarity: Float[Tensor, "queries support"], members: Bool[Tensor, "support ways"]
) -> Float[Tensor, "queries ways"]:
    """The logarithm of the attention that a query pays to each class, from similarities with the support examples.

    Attention is their softmax over the support set, added up within a class (Vinyals et al. 2016, equation 1). -inf for a class
    without support; zeros where no class has any.

    Args:
        similarity: of each query with each support example.
        members: which example belongs to which class; padding belongs to none.
    """
    inside = torch.where(members, similarity[..., None], _FAR)
    return only_shown(torch.log_softmax(torch.logsumexp(inside, 1), -1), members.sum(0))


@method(
    model={"outputs": None, "downsample": "max_pool"},
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
    },
)
def matching(
    model: nn.Module,
    *,
    full_context: bool = False,
    context_steps: int = 5,
    order: Literal["drawn", "given"] = "drawn",
    scale: float = 1.0,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
    input_shape: Sequence[int] | None = None,
) -> MetaLearner:
    """Matching networks: the probability of a class is the attention that the query pays to the class's support examples.

    ``p(k | x) = sum over support examples i of class k of softmax over i of cos(f(x), g(x_i))``. A new task takes no gradients:
    looking at the support set is one step. A task may have any number of classes, in training, in evaluation and in ``adapt``.

    Without ``full_context`` f and g are the model. With it, g is the model plus an LSTM over the support set in either direction,
    and f an LSTM that looks at the support set ``context_steps`` times. Predictions then depend on the order in which the support
    set is read; they never depend on the other queries.

    Args:
        model: any nn.Module whose output is the embedding, so without a classification layer; outputs with more axes are
            flattened. Copied, not changed. The LSTMs' parameters come after its own.
        full_context: whether embeddings depend on the whole support set.
        context_steps: how often a query looks at the support set; the paper gives no number.
        order: "drawn": a random order of the support set, a function of the task's key, so labels that come in blocks are
            taken apart; "given": as it comes.
        scale: what cosines are multiplied by before the softmax. 1 is the paper's; then no class of five one-shot classes can
            have a probability above 0.65.
        loss: ``loss(logits, y) -> scalar`` on logits (queries, ways), which are log-probabilities, and integer labels, or a name;
            None: cross-entropy.
        input_shape: of one example, where the model does not tell: ``full_context`` has to know the size of its embedding.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: a loss that is not for labels, an unknown option, or an input shape that is not known.

    Example:
        >>> import innerloop as il
        >>> il.matching(il.models.conv4((1, 28, 28), None, downsample="max_pool"), full_context=True).eval_steps
        1

    Reference: Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016, "Matching networks for one shot learning",
    arXiv:1606.04080.
    """
    expect_label_loss(loss)
    expect_whole("context_steps", context_steps)
    expect_choice("order", order, ("drawn", "given"))
    expect_above_zero("scale", scale)

    whole = model
    if full_context:
        features = math.prod(features_of(model, input_shape))
        whole = Parts(
            model, support_context=SupportContext(features), query_context=QueryContext(features, context_steps)
        )
    return backprop_method(
        "matching",
        whole,
        lambda pure: MatchingLearner(pure, loss, scale=scale, full_context=full_context, order=order),
        outer=Outer(num_tasks=1),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
