"""Column evidence: plain classifiers for tables of any columns and classes, and learned trust in columns and voices.

The trees in tensor operations, the learner, what it asks of columns and rows, and the factory. This project's own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import softplus

from innerloop import keys
from innerloop.core import Examples, Meta, Task
from innerloop.errors import ConfigError, expect_whole
from innerloop.functional import Parts
from innerloop.functional.norms import BatchNormPolicy
from innerloop.learners.comparing import ComparingLearner
from innerloop.learners.metric import members_of, only_shown, ways_of
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.meta_learner.outer import Outer
from innerloop.methods.pairing import LossArgument, backprop_method, expect_label_loss, method
from innerloop.models.cross_attention import layers
from innerloop.records import record, static

_COLUMNS, _THRESHOLDS = 1, 2
VOICES = 4  # densities column by column, ridge regression, kernel ridge regression of whole rows, trees
_LEAST = 1e-6
_AT_ONCE = 1 << 25  # numbers, 128 MB of floats
_ABSENT = -1e4  # the log density of a class without rows


class Trees(NamedTuple):
    """Trees that are all full to one depth: the node after ``i`` is ``2 i + 1`` or ``2 i + 2``.

    Attributes:
        columns: (trees, nodes) which column a node asks for.
        thresholds: (trees, nodes) the value from which on, itself left out, a row goes to the second.
        counts: (trees, leaves, ways) support rows of each class in a leaf.
    """

    columns: Int64[Tensor, "trees nodes"]
    thresholds: Float[Tensor, "trees nodes"]
    counts: Float[Tensor, "trees leaves ways"]


def grown(
    x: Float[Tensor, "support columns"],
    members: Float[Tensor, "support ways"],
    alive: Bool[Tensor, " columns"],
    *,
    trees: int,
    depth: int,
    candidates: int,
) -> Trees:
    """Trees on all support rows; each node takes the purest of a few random cuts of random columns.

    The draws are the same for every task, and do not depend on the order of the rows. No gradient passes.

    Args:
        x: support rows.
        members: 1 where a row belongs to a class; rows of no class do not count.
        alive: columns that vary.
        trees: how many.
        depth: cuts on the way to a leaf, at least 1.
        candidates: cuts to choose from.

    Reference: Geurts, Ernst and Wehenkel 2006, "Extremely randomized trees", Machine Learning 63.
    """
    x, counted = x.detach(), members.sum(-1) > 0
    shape = (trees, 2**depth - 1, candidates)
    key = torch.zeros((), dtype=torch.int64, device=x.device)
    usable = alive.sum().clamp(min=1)
    order = torch.argsort((~alive).to(torch.int64), stable=True)
    drawn = order[(keys.uniform(key, shape, _COLUMNS, torch.float32) * usable).to(torch.int64)]
    share = keys.uniform(key, shape, _THRESHOLDS, torch.float32).to(x.dtype)
    here = counted.expand(trees, 1, -1)  # which rows are at each node of this depth
    columns, thresholds = [], []
    for level in range(depth):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        values = x.T[drawn[:, nodes]]  # (trees, nodes, candidates, support)
        inside = here[:, :, None]
        low = torch.where(inside, values, torch.inf).amin(-1)
        high = torch.where(inside, values, -torch.inf).amax(-1)
        cut = torch.where(low < high, low + share[:, nodes] * (high - low), 0.0)
        second = (values > cut[..., None]) & inside
        whole = (inside.to(x.dtype) @ members).expand(*cut.shape, -1)
        after = second.to(x.dtype) @ members
        purity = sum(c.square().sum(-1) / c.sum(-1).clamp(min=1.0) for c in (after, whole - after))
        assert isinstance(purity, Tensor)
        best = purity.argmax(-1, keepdim=True)
        columns.append(drawn[:, nodes].gather(-1, best)[..., 0])
        thresholds.append(cut.gather(-1, best)[..., 0])
        goes = second.gather(2, best[..., None].expand(-1, -1, -1, x.shape[0]))[:, :, 0]
        here = torch.stack([here & ~goes, here & goes], 2).flatten(1, 2)
    return Trees(torch.cat(columns, 1), torch.cat(thresholds, 1), here.to(x.dtype) @ members)


def leaves_of(trees: Trees, x: Float[Tensor, "examples columns"]) -> Int64[Tensor, "trees examples"]:
    """The leaf of each example in each tree."""
    x = x.detach()
    at = torch.zeros(trees.columns.shape[0], x.shape[0], dtype=torch.int64, device=x.device)
    depth = (trees.columns.shape[1] + 1).bit_length() - 1
    for _ in range(depth):
        column, threshold = trees.columns.gather(1, at), trees.thresholds.gather(1, at)
        at = 2 * at + 1 + (x.T.gather(0, column) > threshold).to(torch.int64)
    return at - trees.columns.shape[1]


def leaf_shares(
    trees: Trees, x: Float[Tensor, "examples columns"], less: Float[Tensor, "examples ways"] | None = None
) -> Float[Tensor, "examples ways"]:
    """The mean over the trees of each class's share of the rows in an example's leaf; even where the leaf is empty.

    Args:
        trees: grown on the support set.
        x: examples.
        less: taken off the leaf's counts: the example itself, where it is a support row.
    """
    leaves = leaves_of(trees, x)
    found = trees.counts.gather(1, leaves[..., None].expand(-1, -1, trees.counts.shape[-1]))
    found = (found if less is None else found - less).clamp(min=0.0)
    shown = (trees.counts.sum((0, 1)) > 0).to(found.dtype)
    even = shown / shown.sum().clamp(min=1.0)
    number = found.sum(-1, keepdim=True)
    return torch.where(number > 0, found / number.clamp(min=1.0), even).mean(0)


@record
class EvidenceFast:
    """What a column evidence learner knows of a task.

    Attributes:
        raw: (support, columns) scaled support rows; zeros before the first step.
        z: (support, columns) the same as soft ranks.
        members: (support, ways) 1 where a row belongs to a class, padding to none.
        middle, spread: (columns,) the support set's mean and deviation.
        rank_spread: (columns,) the deviation of its soft ranks.
        weights: (columns, widths + 2) how far each column is trusted by each voice.
        gates: (4,) how far each voice is trusted.
        solution: (support, ways) ridge regression's.
        row_solution: (support, ways) kernel ridge regression's.
        trees: see `Trees`.
        step: how many steps came before.
    """

    raw: Tensor
    z: Tensor
    members: Tensor
    middle: Tensor
    spread: Tensor
    rank_spread: Tensor
    weights: Tensor
    gates: Tensor
    solution: Tensor
    row_solution: Tensor
    trees: Trees
    step: int = static(0)

    @property
    def counts(self) -> Tensor:
        return self.members.sum(0)


class Sizes(NamedTuple):
    """How many rows count, and classes and columns that say something; at least 1 each."""

    rows: Tensor
    classes: Tensor
    columns: Tensor


class Between(NamedTuple):
    """Distances between examples and support rows, column by column; where they are too many, made for a part at a time.

    Attributes:
        z: (examples, columns).
        support: (support, columns).
        distance: (examples, support, columns); None: too many to be held at once.
        size: how many examples are a part then.
    """

    z: Tensor
    support: Tensor
    distance: Tensor | None
    size: int

    @classmethod
    def of(cls, z: Tensor, support: Tensor, widths: int) -> Between:
        """Between all; ``widths`` numbers are held for each distance."""
        size = cls.most(z, support, widths)
        return cls(z, support, None if size else (z[:, None] - support).abs(), size)

    @staticmethod
    def most(z: Tensor, support: Tensor, widths: int) -> int:
        """How many examples are a part of `_AT_ONCE` numbers; 0: all are one."""
        if torch.compiler.is_exporting() or z.shape[0] * support.numel() * widths <= _AT_ONCE:
            return 0
        return max(1, _AT_ONCE // (support.numel() * widths))

    def each(self, f: Callable[..., Tensor], *beside: Tensor, axis: int = 0) -> Tensor:
        """``f(distances, *beside)``, each ``beside`` with a row for an example; examples lie along ``axis`` of what f gives."""
        if self.distance is not None:
            return f(self.distance, *beside)
        parts = zip(*(v.split(self.size) for v in (self.z, *beside)), strict=True)
        return torch.cat([f((z[:, None] - self.support).abs(), *rows) for z, *rows in parts], axis)


@dataclasses.dataclass(frozen=True, eq=False)
class ColumnEvidenceLearner(ComparingLearner):
    """Four voices for each class, weighted by what leaving each support row out says of columns and voices.

    Every column is treated alike and every class is, so their numbers are free.

    Args:
        widths: of the kernels at the beginning, in deviations of the support set; learned.
        trees: how many.
        depth: of the trees.
        candidates: cuts that each node of a tree chooses from.
    """

    widths: tuple[float, ...] = ()
    trees: int = 128
    depth: int = 5
    candidates: int = 6

    def init_rule(self, params: Any, generator: torch.Generator | None) -> dict[str, Tensor]:
        del generator
        like = next(p for p in params.values() if p.is_floating_point())
        return {
            "log_widths": like.new_tensor([math.log(width) for width in self.widths]),
            "log_smoothing": like.new_zeros(len(self.widths)),
            "log_ridge": like.new_zeros(()),
            "log_row_width": like.new_zeros(()),
            "log_row_ridge": like.new_tensor(-0.7),
            "log_softness": like.new_tensor(-2.0),
        }

    def blank(self, meta: Meta, task: Task, one: Tensor) -> EvidenceFast:
        rows, columns, ways = task.support.y.shape[0], one.shape[-1], ways_of(task)
        return EvidenceFast(
            one.new_zeros(rows, columns),
            one.new_zeros(rows, columns),
            one.new_zeros(rows, ways),
            one.new_zeros(columns),
            one.new_ones(columns),
            one.new_ones(columns),
            one.new_zeros(columns, len(self.widths) + 2),
            one.new_zeros(VOICES),
            one.new_zeros(rows, ways),
            one.new_zeros(rows, ways),
            Trees(
                torch.zeros(self.trees, 2**self.depth - 1, dtype=torch.int64, device=one.device),
                one.new_zeros(self.trees, 2**self.depth - 1),
                one.new_zeros(self.trees, 2**self.depth, ways),
            ),
        )

    def read(self, meta: Meta, z: Tensor, support: Examples, ways: int) -> EvidenceFast:
        members = members_of(support.y, ways, support.mask).to(z.dtype)
        counts_row = members.sum(1, keepdim=True)
        rows = counts_row.sum().clamp(min=1.0)
        middle = (z * counts_row).sum(0) / rows
        variance = ((z - middle).square() * counts_row).sum(0) / rows
        alive = (variance > _LEAST**2).to(z.dtype)
        spread = torch.where(alive > 0, variance, 1.0).sqrt()
        raw = (z - middle) / spread * counts_row
        softness = meta.rule["log_softness"].exp()
        z = self.ranks(raw, raw, counts_row[:, 0], softness) * counts_row  # their mean is 0
        rank_spread = torch.where(alive > 0, z.square().sum(0) / rows, 1.0).sqrt()
        z = z / rank_spread
        sizes = Sizes(rows, (members.sum(0) > 0).to(z.dtype).sum().clamp(min=1.0), alive.sum().clamp(min=1.0))
        others = 1 - torch.eye(z.shape[0], dtype=z.dtype, device=z.device)  # each row is judged by the others
        between = Between.of(z, z, len(self.widths))
        evidence = between.each(
            lambda d, own: evidence_of_columns(d, own, members, *self.kernels(meta)), others, axis=1
        )
        told = (evidence * members[None, :, :, None]).sum((1, 2)) / rows  # (widths, columns)
        alike = between.each(lambda d: ((d < 1e-4) * counts_row * counts_row.T[..., None]).sum((0, 1))[None]).sum(0)
        alike = alike / rows.square()
        described = torch.stack(
            [*told, _explained(z, members, sizes), alike, *(v.expand_as(alike) for v in _logs(sizes)[:2])], -1
        )
        weights = softplus(self.net(meta, "columns", described)) * alive[:, None]
        x = z * _shares(weights[:, -2]).sqrt()
        solution, left_out = ridge_left_out(x @ x.T, members, meta.rule["log_ridge"].exp())
        kernel = between.each(lambda d: self.row_kernel(meta, weights, d)) * (counts_row @ counts_row.T)
        row_solution, row_left_out = ridge_left_out(kernel, members, meta.rule["log_row_ridge"].exp())
        trees = grown(z, members, alive > 0, trees=self.trees, depth=self.depth, candidates=self.candidates)
        gates = z.new_zeros(VOICES)
        fast = EvidenceFast(
            raw, z, members, middle, spread, rank_spread, weights, gates, solution, row_solution, trees, step=1
        )
        voices = self.voices(fast, evidence, left_out, row_left_out, leaf_shares(trees, z, members))
        # How far each voice is off where a row was left out, in units of guessing.
        off = -(torch.log_softmax(voices, 1) * members[..., None]).sum((0, 1)) / rows
        gates = softplus(self.net(meta, "gates", torch.cat([off / (sizes.classes.log() + 0.1), _logs(sizes)])))
        return dataclasses.replace(fast, gates=gates)

    def compare(
        self, meta: Meta, fast: EvidenceFast, z: Tensor, mask: Tensor | None
    ) -> tuple[Float[Tensor, "queries ways"], dict[str, Tensor]]:
        z = (z - fast.middle) / fast.spread
        z = self.ranks(z, fast.raw, fast.members.sum(1), meta.rule["log_softness"].exp()) / fast.rank_spread
        between = Between.of(z, fast.z, len(self.widths))
        seen = z.new_ones(z.shape[0], fast.z.shape[0])
        evidence = between.each(
            lambda d, own: evidence_of_columns(d, own, fast.members, *self.kernels(meta)), seen, axis=1
        )
        root = _shares(fast.weights[:, -2]).sqrt()
        fitted = (z * root) @ (fast.z * root).T @ fast.solution
        row_fitted = between.each(lambda d: self.row_kernel(meta, fast.weights, d)) @ fast.row_solution
        voices = self.voices(fast, evidence, fitted, row_fitted, leaf_shares(fast.trees, z))
        return only_shown((voices * fast.gates).sum(-1), fast.counts), meta.buffers

    def voices(
        self, fast: EvidenceFast, evidence: Tensor, fitted: Tensor, row_fitted: Tensor, in_leaves: Tensor
    ) -> Float[Tensor, "examples ways voices"]:
        """What each voice says for each class; classes without rows get a large negative number."""
        columns = (fast.weights[:, -1] > 0).to(evidence.dtype).sum().clamp(min=1.0)
        by_column = 2 * torch.einsum("hqcj,jh->qc", evidence, fast.weights[:, :-2]) / columns.sqrt()
        found = torch.stack([by_column, 5 * fitted, 5 * row_fitted, 2 * torch.log(in_leaves + 0.03)], -1)
        return torch.where((fast.counts > 0)[:, None], found, -30.0)

    def row_kernel(self, meta: Meta, weights: Tensor, distance: Tensor) -> Float[Tensor, "examples support"]:
        """How alike whole rows are, 1 for the same row, from their distances column by column."""
        return torch.exp(-(distance @ _shares(weights[:, -1])) / meta.rule["log_row_width"].exp())

    def ranks(self, x: Tensor, support: Tensor, counted: Tensor, softness: Tensor) -> Float[Tensor, "examples columns"]:
        """`soft_ranks`, a part of the examples at a time where they are many."""
        size = Between.most(x, support, 1)
        return (
            torch.cat([soft_ranks(rows, support, counted, softness) for rows in x.split(size)])
            if size
            else (soft_ranks(x, support, counted, softness))
        )

    def kernels(self, meta: Meta) -> tuple[Tensor, Tensor]:
        """Widths of the kernels and their smoothing, (widths,) each."""
        return meta.rule["log_widths"].exp(), meta.rule["log_smoothing"].exp()

    def net(self, meta: Meta, part: str, inputs: Tensor) -> Tensor:
        """One of the method's own networks."""
        return self.model.apply(meta.params, meta.buffers, inputs, part=part, training=self.training)[0]


def evidence_of_columns(
    distance: Float[Tensor, "examples support columns"],
    seen: Float[Tensor, "examples support"],
    members: Float[Tensor, "support ways"],
    widths: Float[Tensor, " widths"],
    smoothing: Float[Tensor, " widths"],
) -> Float[Tensor, "widths examples ways columns"]:
    """What one column alone says for each class: its log density there, less that of all classes together.

    A density is a kernel mean ``(sum exp(-distance / width) + a g) / (n + a)`` over the n rows of the class, drawn by
    ``a`` rows' worth towards ``g``, the mean over all rows.

    Args:
        distance: between examples and support rows, in deviations.
        seen: 1 where an example may know the support row, 0 for itself.
        members: 1 where a support row belongs to a class.
        widths, smoothing: above 0; ``a`` is the smoothing.
    """
    kernel = torch.exp(-distance / widths[:, None, None, None]) * seen[..., None]
    inside = torch.einsum("hqsj,sc->hqcj", kernel, members)
    number = seen @ members
    anywhere = inside.sum(2, keepdim=True) / number.sum(1).clamp(min=1.0)[:, None, None] + 1e-2
    a = smoothing[:, None, None, None]
    density = torch.log((inside + a * anywhere) / (number[..., None] + a))
    shown = (members.sum(0) > 0).to(density.dtype)
    together = torch.logsumexp(density + (1 - shown)[:, None] * _ABSENT, 2, keepdim=True)
    return density - together + shown.sum().clamp(min=1.0).log()


def soft_ranks(
    x: Float[Tensor, "examples columns"],
    support: Float[Tensor, "support columns"],
    counted: Float[Tensor, " support"],
    softness: Float[Tensor, ""],
) -> Float[Tensor, "examples columns"]:
    """Where examples lie among the support rows, column by column: below all of them near -1, above all near 1.

    The mean over the rows s that count of ``(x - s) / (|x - s| + softness)``: the rank for a small softness, and the
    number itself, drawn together, for a large one. Columns with a few far values, as amounts have, lose nothing by it.
    """
    apart = x[:, None] - support
    return torch.einsum("qsj,s->qj", apart / (apart.abs() + softness), counted) / counted.sum().clamp(min=1.0)


def ridge_left_out(
    gram: Float[Tensor, "support support"], members: Float[Tensor, "support ways"], ridge: Float[Tensor, ""]
) -> tuple[Float[Tensor, "support ways"], Float[Tensor, "support ways"]]:
    """Ridge regression of the classes in a kernel's space: its dual solution, and what it says of each row without that row.

    Predictions for rows q are ``kernel(q, support) solution``, less the share of each class, which ranks no query
    differently.

    Args:
        gram: the kernel between support rows; for linear regression on centred rows ``x x'``.
        members: 1 where a row belongs to a class; padding to none, and its kernel is 0.
        ridge: the penalty, above 0.
    """
    counts = members.sum(1, keepdim=True)
    y = members - members.sum(0) / counts.sum().clamp(min=1.0) * counts
    inverse = torch.linalg.inv_ex(gram + ridge * torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device))[0]
    solution = inverse @ y
    return solution, y - solution / inverse.diagonal()[:, None]


def _explained(z: Tensor, members: Tensor, sizes: Sizes) -> Float[Tensor, " columns"]:
    """The share of a scaled column's variance between the classes' means, less what chance gives."""
    counts = members.sum(0)
    means = members.T @ z / counts.clamp(min=1.0)[:, None]
    share = (counts[:, None] * means.square()).sum(0) / sizes.rows
    chance = ((sizes.classes - 1) / (sizes.rows - 1).clamp(min=1.0)).clamp(max=0.99)
    return (share - chance) / (1 - chance)


def _logs(sizes: Sizes) -> Float[Tensor, " three"]:
    """Logarithms of the sizes, near 0 for 20 rows of 3 classes with 7 columns."""
    return torch.stack([sizes.rows.log() - 3, sizes.classes.log() - 1, sizes.columns.log() - 2])


def _shares(weights: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
    """Weights that sum to 1; a little above 0, where the square root has a slope."""
    return weights / weights.sum().clamp(min=_LEAST) + _LEAST**2


def _even(inputs: int, hidden: int, outputs: int, bias: float, some: int) -> nn.Module:
    """A two-layer net that begins by saying the same of everything: ``bias`` for the first ``some`` outputs, 0 for the rest."""
    net = layers(inputs, hidden, outputs, 2)
    last = net[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        last.bias[:some] = bias
    return net


@method(
    model={"name": "mlp", "hidden": (), "outputs": None},
    brings_networks=True,
    declares={
        "inner_loop": False,
        "regression": False,
        "any_ways": True,
        "equivariant": True,
        "shift_free": True,
        "least_scale": 1e-2,  # 1.1e-15 was seen where a slope is zero
        "adds_parameters": True,
        "asks_shape": False,
        "training": {"steps": 40, "outer_lr": 0.01},
        "options": {"trees": 4, "depth": 2},
        "memory": "grows with pairs of rows",
    },
)
def column_evidence(
    model: nn.Module,
    *,
    widths: Sequence[float] = (0.05, 0.3, 1.0),
    hidden: int = 16,
    trees: int = 128,
    depth: int = 5,
    candidates: int = 6,
    loss: LossArgument = None,
    batch_norm: BatchNormPolicy = "running",
    inductive: bool = False,
) -> MetaLearner:
    """Column evidence: four plain classifiers' voices for each class, with learned trust in the task's columns and in the voices.

    The voices are naive Bayes with kernel densities of every column, ridge regression of the classes on the columns, ridge
    regression with a kernel of whole rows, and extremely randomized trees, all made anew from the task's support set. They see
    each number as its soft rank among the support rows, with a learned softness. Small networks, the
    same for all columns, say from what leaving each support row out shows (how well a column alone tells the classes, its
    share of explained variance, how many values it has) how far to trust a column, and from how far each voice is off how
    far to trust that. Rows are scaled by the support set. Looking at it is one step. A task may have any number of classes and
    columns; padding columns of zeros have no influence.

    Args:
        model: any nn.Module; each of its outputs is a column. ``il.models.mlp(columns, None, hidden=())`` hands the table's own
            on. Copied, not changed.
        widths: of the kernels at the beginning, in deviations of a column; learned.
        hidden: width of the two networks.
        trees: how many.
        depth: cuts on the way to a tree's leaf, at most 12.
        candidates: random cuts that a node chooses the purest of.
        loss: ``loss(logits, y) -> scalar`` or a name; None: cross-entropy.

    Returns:
        A MetaLearner for classification tasks.

    Raises:
        ConfigError: no widths or one that is not above 0, another number below 1, or a loss that is not for labels.

    Example:
        >>> import innerloop as il
        >>> il.column_evidence(il.models.mlp(16, None, hidden=())).eval_steps
        1

    This project's own. Its parts: naive Bayes with kernel densities (John and Langley 1995), ridge regression as in `r2d2`
    (Bertinetto et al. 2019), extremely randomized trees (Geurts, Ernst and Wehenkel 2006), and weights from left-out examples
    (Wolpert 1992, "Stacked generalization").
    """
    expect_label_loss(loss)
    for name, value in (("hidden", hidden), ("trees", trees), ("depth", depth), ("candidates", candidates)):
        expect_whole(name, value)
    if depth > 12:
        raise ConfigError(f"depth expected at most 12, since a tree is kept whole, got {depth}; lower it")
    found = tuple(float(width) for width in widths)
    if not found or not all(math.isfinite(width) and width > 0 for width in found):
        raise ConfigError(f"widths expected at least one number, all above 0, got {list(widths)}; leave it out")

    return backprop_method(
        "column_evidence",
        Parts(
            model,
            columns=_even(len(found) + 4, hidden, len(found) + 2, -2.0, len(found)),
            gates=_even(VOICES + 3, hidden, VOICES, 0.0, 0),
        ),
        lambda pure: ColumnEvidenceLearner(pure, loss, widths=found, trees=trees, depth=depth, candidates=candidates),
        outer=Outer(num_tasks=8, lr=1e-2, schedule="cosine"),
        loss=loss,
        batch_norm=batch_norm,
        inductive=inductive,
    )
