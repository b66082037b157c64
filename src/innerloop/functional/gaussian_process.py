"""A Gaussian process: covariances of rows by name, the Cholesky factor, the posterior and the likelihood of what was observed.

Plain functions of tensors, with autograd and inside vmap, with or without batch axes in front. Rows that do not count (padding)
become noise of variance 1 that nothing goes along with, so they change no answer. Rasmussen and Williams 2006, "Gaussian
processes for machine learning", chapters 2 and 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from innerloop.errors import ConfigError, nearest
from innerloop.functional.tanimoto import tanimoto

# Rows of up to so many columns are compared by differences, which are exact; longer ones by products, which take no memory of
# (first, second, columns).
_BY_DIFFERENCES = 16
# What is added to the diagonal, in units of itself: the first that makes the matrix positive definite to the computer.
JITTERS: Mapping[torch.dtype, tuple[float, ...]] = {
    torch.float64: (0.0, 1e-10, 1e-6),
    torch.float32: (0.0, 1e-5, 1e-3),
}
_LEAST_VARIANCE = 1e-10  # of a prediction, in units of the covariance's: rounding can make it negative


def exact_dtype(like: Tensor) -> torch.dtype:
    """Double precision, where the device has it: covariances of close points are all but singular."""
    return like.dtype if like.device.type == "mps" else torch.float64


# ---- covariances -----------------------------------------------------------------------------------------------------
def square_distances(
    a: Float[Tensor, "*batch first columns"],
    b: Float[Tensor, "*batch second columns"],
    length: Tensor | float = 1.0,
    *,
    by_differences: int = _BY_DIFFERENCES,
) -> Float[Tensor, "*any first second"]:
    """``sum_j ((a_j - b_j) / length_j)^2`` of each row of ``a`` with each of ``b``.

    Args:
        a, b: rows.
        length: one number, one for each column, or any shape that broadcasts with ``a`` ((batch, 1, 1), say). Above 0.
        by_differences: rows of up to so many columns are compared exactly; 0 for many rows, where time counts more.
    """
    if a.shape[-1] <= by_differences:
        apart = a[..., :, None, :] - b[..., None, :, :]
        if isinstance(length, Tensor) and length.ndim > 1:
            length = length[..., None, :]
        return (apart / length).square().sum(-1)
    middle = a.mean(-2, keepdim=True).detach()  # distances do not change with it, and rounding is least near zero
    a, b = (a - middle) / length, (b - middle) / length
    across = a @ b.transpose(-1, -2)
    return (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :] - 2 * across).clamp(min=0.0)


def rbf(square: Tensor) -> Tensor:
    """Smooth: ``exp(-d^2 / 2)``, of square distances in units of the length."""
    return torch.exp(-0.5 * square)


def matern12(square: Tensor) -> Tensor:
    """Jagged: ``exp(-d)``."""
    return torch.exp(-_root(square))


def matern32(square: Tensor) -> Tensor:
    """Rough: ``(1 + r) exp(-r)`` with ``r = sqrt(3) d``."""
    r = math.sqrt(3.0) * _root(square)
    return (1 + r) * torch.exp(-r)


def matern52(square: Tensor) -> Tensor:
    """``(1 + r + r^2 / 3) exp(-r)`` with ``r = sqrt(5) d``: two derivatives."""
    r = math.sqrt(5.0) * _root(square)
    return (1 + r + r.square() / 3) * torch.exp(-r)


def periodic(
    a: Float[Tensor, "*batch first columns"],
    b: Float[Tensor, "*batch second columns"],
    length: Tensor | float,
    period: Tensor | float,
) -> Float[Tensor, "*any first second"]:
    """``exp(-2 sum_j (sin(pi (a_j - b_j) / period) / length)^2)``; the length has no unit.

    Args:
        a, b: rows.
        length, period: one number, or any shape that broadcasts with (first, second), behind batch axes.
    """
    apart = a[..., :, None, :] - b[..., None, :, :]
    if isinstance(period, Tensor):
        period = period[..., None]
    turned = torch.sin(math.pi * apart / period).square().sum(-1)
    return torch.exp(-2 * turned / (length * length))


def linear(
    a: Float[Tensor, "*batch first columns"], b: Float[Tensor, "*batch second columns"]
) -> Float[Tensor, "*batch first second"]:
    """``a'b / columns``: straight lines through zero, whose weights are independent."""
    return a @ b.transpose(-1, -2) / a.shape[-1]


def cosine(
    a: Float[Tensor, "*batch first columns"], b: Float[Tensor, "*batch second columns"]
) -> Float[Tensor, "*batch first second"]:
    """``a'b / (|a| |b|)``; a row of zeros goes along with nothing."""
    return _directions(a) @ _directions(b).transpose(-1, -2)


def hamming(
    a: Shaped[Tensor, "*batch first columns"], b: Shaped[Tensor, "*batch second columns"], length: Tensor
) -> Float[Tensor, "*batch first second"]:
    """``exp(-sum_j [a_j != b_j] / length_j)``, of categories of any type.

    Args:
        a, b: rows of categories.
        length: one number, or one for each column: the longer, the less it matters that the column differs.
    """
    differs = (a[..., :, None, :] != b[..., None, :, :]).to(length.dtype)
    return torch.exp(-(differs / length).sum(-1))


def _root(square: Tensor) -> Tensor:
    """The square root, with slope 0 at 0, where the covariance has none either."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def _directions(rows: Tensor) -> Tensor:
    size = _root(rows.square().sum(-1, keepdim=True))
    return rows / torch.where(size > 0, size, 1.0)


# ---- covariances by name ---------------------------------------------------------------------------------------------
Of = Mapping[str, Tensor]
Between = Callable[[Tensor, Tensor, Of], Tensor]
Alone = Callable[[Tensor, Of], Tensor]


def _ones(z: Tensor, of: Of) -> Tensor:
    del of
    return torch.ones_like(z[..., 0])


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A covariance of rows, without its scale.

    Attributes:
        between: (first, columns), (second, columns) and hyperparameters by name to (first, second).
        alone: (rows, columns) and hyperparameters to (rows,), the diagonal of ``between`` of rows with themselves.
        begins: what its hyperparameters begin at, by name; all above 0.
        by_column: those that can be one number for each column.
    """

    between: Between
    alone: Alone = _ones
    begins: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_column: tuple[str, ...] = ()


def _by_distance(shape: Callable[[Tensor], Tensor]) -> Kernel:
    return Kernel(
        lambda a, b, of: shape(square_distances(a, b, of["length"])), begins={"length": 1.0}, by_column=("length",)
    )


# A new kernel is a function above and one line here.
KERNELS: dict[str, Kernel] = {
    "rbf": _by_distance(rbf),
    "matern12": _by_distance(matern12),
    "matern32": _by_distance(matern32),
    "matern52": _by_distance(matern52),
    "periodic": Kernel(
        lambda a, b, of: periodic(a, b, of["length"], of["period"]), begins={"length": 1.0, "period": 1.0}
    ),
    "linear": Kernel(lambda a, b, of: linear(a, b), lambda z, of: z.square().sum(-1) / z.shape[-1]),
    "cosine": Kernel(
        lambda a, b, of: cosine(a, b), lambda z, of: (z.square().sum(-1) > 0).to(z.dtype)
    ),
    "hamming": Kernel(
        lambda a, b, of: hamming(a, b, of["length"]), begins={"length": 1.0}, by_column=("length",)
    ),
}  # fmt: skip


# Kernels of sparse rows of counts, which stand in front of a learned embedding and are compared themselves.
OF_COUNTS = ("tanimoto",)


@dataclasses.dataclass(frozen=True)
class Covariance:
    """A sum of kernels of the same rows, each with a variance of its own: ``sum_i scale_i^2 kernel_i``.

    Hyperparameters go by ``<kernel>_scale``, ``<kernel>_length`` and so on, and are above 0.

    Attributes:
        names: of `KERNELS` or `OF_COUNTS`, each once.
        kinds: of the entries of sparse rows, where a kernel compares such; 0: none does.
        features: with ``kinds``: how many of a row's last columns are its embedding, which all other kernels compare. Those
            before it are its packed entries (numbers, then counts), of any length.
    """

    names: tuple[str, ...]
    kinds: int = 0
    features: int = 0

    @classmethod
    def named(cls, words: str, known: Sequence[str] = tuple(KERNELS)) -> Covariance:
        """A covariance by its name, "rbf" or a sum such as "rbf+linear".

        Args:
            words: names with "+" between them.
            known: those to choose from.

        Raises:
            ConfigError: a name that is not known, or one that comes twice.
        """
        names = tuple(word.strip() for word in str(words).split("+"))
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"kernel expected one of {', '.join(known)}, or a sum such as 'rbf+linear', got {name!r}: "
                    f"{nearest(name, known)}"
                )
        if len(set(names)) < len(names):
            raise ConfigError(f"kernel expected each name once, got {words!r}; leave out the second")
        return cls(names)

    def begins(self, columns: int | None = None) -> dict[str, Tensor]:
        """What the hyperparameters begin at, scales at 1.

        Args:
            columns: how many lengths a kernel has, one for each column; None: one for all.
        """
        found = {}
        for name in self.names:
            found[f"{name}_scale"] = torch.ones(())
            for what, value in self._begins(name).items():
                shape = () if columns is None or what not in KERNELS[name].by_column else (columns,)
                found[f"{name}_{what}"] = torch.full(shape, value)
        return found

    def between(self, of: Of, a: Tensor, b: Tensor) -> Tensor:
        """(..., first, second) covariances of values at ``a`` (..., first, columns) and at ``b`` (..., second, columns)."""
        return self.total(of, self.each(of, a, b))

    def each(self, of: Of, a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """Each kernel's part of `between`, without its scale."""
        found = {}
        for name in self.names:
            if name in OF_COUNTS:
                found[name] = tanimoto(self._entries(a), self._entries(b), self.kinds)
            else:
                found[name] = KERNELS[name].between(self._embedding(a), self._embedding(b), self._own(of, name))
        return found

    def alone(self, of: Of, z: Tensor) -> Tensor:
        """(..., rows) variances at ``z`` (..., rows, columns), the diagonal of `between`."""
        found = {}
        for name in self.names:
            at = self._embedding(z)
            found[name] = (
                torch.ones_like(z[..., 0]) if name in OF_COUNTS else KERNELS[name].alone(at, self._own(of, name))
            )
        return self.total(of, found)

    @staticmethod
    def _begins(name: str) -> Mapping[str, float]:
        return {} if name in OF_COUNTS else KERNELS[name].begins

    def _own(self, of: Of, name: str) -> Of:
        return {what: of[f"{name}_{what}"] for what in self._begins(name)}

    def _embedding(self, rows: Tensor) -> Tensor:
        return rows[..., -self.features :] if self.kinds else rows

    def _entries(self, rows: Tensor) -> Tensor:
        return rows[..., : -self.features].unflatten(-1, (2, -1))

    def total(self, of: Of, parts: Mapping[str, Tensor]) -> Tensor:
        """The sum of such parts, each with its scale."""
        terms = [of[f"{name}_scale"].square() * part for name, part in parts.items()]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


# ---- what was observed -----------------------------------------------------------------------------------------------
def cholesky(
    matrix: Float[Tensor, "*batch n n"], jitters: Sequence[float] | None = None
) -> Float[Tensor, "*batch n n"]:
    """The lower Cholesky factor of each matrix, with as little added to its diagonal as it takes.

    Each matrix gets the first jitter with which it is positive definite to the computer. Where none is enough the factor is
    all NaN, never the unfinished one that LAPACK leaves.

    Args:
        matrix: symmetric.
        jitters: in units of each row's variance, from small to large; None: `JITTERS` of the dtype. All but the last are
            tried beforehand, so one alone takes a third of the time of three.
    """
    jitters = JITTERS.get(matrix.dtype, JITTERS[torch.float32]) if jitters is None else jitters
    size = matrix.diagonal(dim1=-2, dim2=-1)
    added = torch.full_like(size[..., :1], jitters[-1]).detach()
    given = matrix.detach()
    for jitter in reversed(jitters[:-1]):
        tried = given + torch.diag_embed(jitter * size.detach()) if jitter else given
        enough = torch.linalg.cholesky_ex(tried)[1] == 0
        added = torch.where(enough[..., None], jitter, added)
    factor, info = torch.linalg.cholesky_ex(matrix + torch.diag_embed(added * size))
    return torch.where((info == 0)[..., None, None], factor, torch.nan)


class Solved(NamedTuple):
    """The posterior of a process, ready to be asked.

    Attributes:
        inverse: of the Cholesky factor; columns of padding are 0.
        solution: inverse covariance times values; rows of padding are 0.
    """

    inverse: Float[Tensor, "*batch n n"]
    solution: Float[Tensor, "*batch n outputs"]

    def at(
        self, across: Float[Tensor, "*batch rows n"], alone: Float[Tensor, "*batch rows"]
    ) -> tuple[Float[Tensor, "*batch rows outputs"], Float[Tensor, "*batch rows"]]:
        """Mean and variance of the process itself, without noise, at new rows; the variance is that of every output.

        Args:
            across: covariances of the new rows with those observed.
            alone: variances of the new rows before anything was observed.
        """
        explained = (across @ self.inverse.transpose(-1, -2)).square().sum(-1)
        left = torch.maximum(alone - explained, _LEAST_VARIANCE * alone)
        return across @ self.solution, left


class Observed(NamedTuple):
    """Values of a process that were seen, solved for; several outputs are independent and share their covariance.

    Attributes:
        factor: lower Cholesky factor of the covariance of what was seen, noise included.
        half: the factor's inverse times the values; ``factor^-T half`` are the weights of the posterior mean.
        counts: 1 for a row that counts, 0 for padding.
    """

    factor: Float[Tensor, "*batch n n"]
    half: Float[Tensor, "*batch n outputs"]
    counts: Float[Tensor, "*rows n"]

    def log_likelihood(self) -> Float[Tensor, "*batch outputs"]:
        """The log density of the values of each output, in nats, of the rows that count together."""
        volume = (self.factor.diagonal(dim1=-2, dim2=-1).log() * self.counts).sum(-1)
        constant = 0.5 * math.log(2 * math.pi) * self.counts.sum(-1)
        return -0.5 * self.half.square().sum(-2) - (volume + constant)[..., None]

    def solved(self) -> Solved:
        """What answers for any number of new rows by products alone."""
        one = torch.eye(self.factor.shape[-1], dtype=self.factor.dtype, device=self.factor.device)
        inverse = torch.linalg.solve_triangular(self.factor, one.expand_as(self.factor), upper=False)
        solution = inverse.transpose(-1, -2) @ self.half
        # Contiguous, so that what comes back from a file multiplies to the same bits.
        return Solved((inverse * self.counts[..., None, :]).contiguous(), solution.contiguous())


def observe(
    covariance: Float[Tensor, "*batch n n"],
    noise: Tensor | float,
    y: Float[Tensor, "*some n outputs"],
    counts: Tensor | None = None,
    jitters: Sequence[float] | None = None,
) -> Observed:
    """A process that was seen at some rows.

    Args:
        covariance: of the rows with themselves, without noise.
        noise: its variance: a number, or any shape that broadcasts with (..., n).
        y: values less the process's mean; batch axes of the covariance that it has not are filled up.
        counts: (..., n) 1 for a row that counts, 0 for padding; None: all count.
        jitters: as of `cholesky`; ``(0.0,)`` where the noise is enough to keep the matrix positive definite.
    """
    if counts is None:
        counts = torch.ones_like(covariance[..., 0])
    else:
        counts = counts.to(covariance.dtype)
        covariance = covariance * (counts[..., :, None] * counts[..., None, :])
        y = torch.where(counts[..., :, None] > 0, y, 0.0)
    level = (noise * counts + (1 - counts)).expand(covariance.shape[:-1])
    factor = cholesky(covariance + torch.diag_embed(level), jitters)
    y = y.expand(*covariance.shape[:-2], *y.shape[-2:])
    return Observed(factor, torch.linalg.solve_triangular(factor, y, upper=False), counts)


def fitted_variances(
    parts: Sequence[Float[Tensor, "n n"]],
    variances: Float[Tensor, " parts"],
    noise: Tensor,
    y: Float[Tensor, "n outputs"],
    counts: Float[Tensor, " n"],
    *,
    steps: int,
    spread: float,
) -> Float[Tensor, " parts_and_noise"]:
    """Logarithms by which the variances of a sum of kernels, and of the noise, are to be multiplied to suit what was observed.

    The most probable ones where each is normal around 0 before: Fisher scoring on the log likelihood of the values, averaged
    over outputs, less ``sum_i log_i^2 / (2 spread^2)``. Each step is cut to a factor of e.

    Args:
        parts: covariances of what was observed by each kernel, without its variance.
        variances: of each kernel.
        noise: its variance.
        y: values less the process's mean.
        counts: 1 for a row that counts, 0 for padding.
        steps: of scoring; each costs two inverses of n x n.
        spread: standard deviation of the logarithms.
    """
    counts = counts.to(y.dtype)
    of = torch.stack([part * (counts[:, None] * counts[None]) for part in parts] + [torch.diag_embed(counts)])
    start = torch.cat([variances, noise.reshape(1)])
    y = torch.where(counts[:, None] > 0, y, 0.0)
    found = torch.zeros_like(start)
    precision = torch.eye(len(start), dtype=y.dtype, device=y.device) / spread**2
    for _ in range(steps):
        each = (start * found.exp())[:, None, None] * of
        factor = cholesky(each.sum(0) + torch.diag_embed(1 - counts))
        one = torch.eye(len(y), dtype=y.dtype, device=y.device)
        inverse = torch.cholesky_solve(one, factor)
        weights = inverse @ y
        moved = inverse @ each  # (parts, n, n)
        explained = torch.einsum("no,pnm,mo->p", weights, each, weights) / y.shape[1]
        slope = 0.5 * (explained - moved.diagonal(dim1=-2, dim2=-1).sum(-1)) - precision @ found
        fisher = 0.5 * torch.einsum("pnm,qmn->pq", moved, moved)
        found = found + torch.linalg.solve(fisher + precision, slope).clamp(-1.0, 1.0)
    return found
