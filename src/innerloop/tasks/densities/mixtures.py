"""Points drawn from mixtures of Gaussians, a new one for each task; their density and its score are known."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Task, TaskDistribution, TaskFamily
from innerloop.errors import InputError, expect_whole
from innerloop.objectives.denoising import Denoising
from innerloop.records import record
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import of_split

_WEIGHTS, _CENTRES, _SPREADS, _ANGLES, _SUPPORT, _QUERY, _NOISE = range(1, 8)


@record
class Mixture:
    """One Gaussian mixture, or many with a leading tasks axis.

    Attributes:
        weights: (parts,), they sum to 1.
        centres: (parts, dim).
        roots: (parts, dim, dim): a part's points are its centre + root @ standard normal numbers.
    """

    weights: Tensor
    centres: Tensor
    roots: Tensor

    def sample(self, key: Tensor, number: int, salt: int) -> Float[Tensor, "*tasks number dim"]:
        """Points, a function of the key."""
        dtype = self.centres.dtype
        chance = random_keys.uniform(key, (number,), 2 * salt, dtype)
        ends = self.weights.cumsum(-1)
        part = (chance[..., None] >= ends[..., None, :-1]).sum(-1)
        normal = random_keys.normal(key, (number, self.centres.shape[-1]), 2 * salt + 1, dtype)
        index = part[..., None].expand(*part.shape, self.centres.shape[-1])
        centre = self.centres.gather(-2, index)
        roots = self.roots.gather(-3, index[..., None].expand(*index.shape, index.shape[-1]))
        return centre + (roots @ normal[..., None])[..., 0]

    def log_density(self, x: Float[Tensor, "points dim"], sigma: Tensor | float = 0.0) -> Float[Tensor, " points"]:
        """Log density in nats at points of ONE mixture, with noise of deviation ``sigma`` ((points,) or a number) added to it."""
        return torch.logsumexp(self._joint(x, sigma)[0], -1)

    def denoise(self, x: Float[Tensor, "points dim"], sigma: Float[Tensor, " points"]) -> Float[Tensor, "points dim"]:
        """The best denoiser of ONE mixture, ``x + sigma^2 score``: the mean of the clean point, given the noisy one."""
        joint, solved = self._joint(x, sigma)
        share = torch.softmax(joint, -1)
        score = -(share[..., None] * solved).sum(-2)
        return x + sigma[:, None].square() * score

    def _joint(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """(log of weight times density, precision @ (x - centre)) of each part at each point: (points, parts[, dim])."""
        dim = x.shape[-1]
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        noise = sigma.square()[:, None, None, None] * torch.eye(dim, dtype=x.dtype, device=x.device)
        factor = torch.linalg.cholesky(self.roots @ self.roots.mT + noise)  # (points, parts, dim, dim)
        away = x[:, None] - self.centres
        half = torch.linalg.solve_triangular(factor, away[..., None], upper=False)
        solved = torch.linalg.solve_triangular(factor.mT, half, upper=True)[..., 0]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        density = -0.5 * half[..., 0].square().sum(-1) - log_det - 0.5 * dim * math.log(2 * math.pi)
        return self.weights.log() + density, solved


class MixtureTasks(TaskDistribution):
    """Tasks of points: support (tasks, shots, dim) and query (tasks, queries, dim), drawn from one mixture each."""

    on_device = True
    name = "mixtures"
    metrics: tuple[str, ...] = ("denoising",)
    split: str
    parts: int
    shots: int
    queries: int
    dtype: torch.dtype | None
    input_shape: tuple[int, ...]

    def __init__(
        self, *, split: str, dim: int, parts: int, shots: int, queries: int, dtype: torch.dtype | None
    ) -> None:
        for what, value in (("parts", parts), ("shots", shots), ("queries", queries)):
            expect_whole(what, value)
        if dim not in (1, 2):
            raise InputError(f"mixtures ({split}): dim expected 1 or 2, got {dim}; choose one")
        self.split, self.dim, self.parts = split, dim, parts
        self.shots, self.queries, self.dtype = shots, queries, dtype
        self.input_shape, self.output_size = (dim,), dim
        self.objective: Denoising = Denoising.of_spread(1.0)

    def mixtures(self, keys: Int64[Tensor, " tasks"]) -> Mixture:
        """The mixtures of these tasks, each about as wide as a standard normal distribution.

        Weights are uniform numbers above .2 that are made to sum to 1; centres normal with deviation .9; parts normal with
        deviations between .08 and .5 along axes turned at random.
        """
        dtype = self.dtype or torch.get_default_dtype()
        weights = 0.2 + random_keys.uniform(keys, (self.parts,), _WEIGHTS, dtype)
        centres = 0.9 * random_keys.normal(keys, (self.parts, self.dim), _CENTRES, dtype)
        least, most = math.log(0.08), math.log(0.5)
        spreads = (least + (most - least) * random_keys.uniform(keys, (self.parts, self.dim), _SPREADS, dtype)).exp()
        roots = torch.diag_embed(spreads)
        if self.dim == 2:
            angle = math.pi * random_keys.uniform(keys, (self.parts,), _ANGLES, dtype)
            turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).unflatten(-1, (2, 2))
            roots = turn @ roots
        return Mixture(weights / weights.sum(-1, keepdim=True), centres, roots)

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys."""
        made = self.mixtures(keys)
        support, query = made.sample(keys, self.shots, _SUPPORT), made.sample(keys, self.queries, _QUERY)
        return Task(support, query, self.objective, noise=random_keys.fold(keys, _NOISE))

    def default_model(self) -> nn.Module:
        """A net that reads the support points."""
        from innerloop import models

        return models.denoising_mlp(self.dim)


def mixtures(
    *,
    dim: int = 2,
    parts: int = 4,
    shots: int = 50,
    queries: int = 50,
    train_shots: int | None = None,
    train_queries: int | None = None,
    dtype: DtypeName | None = None,
) -> TaskFamily:
    """Points of Gaussian mixtures, a new one for each task: what a score model is tested on, as the true score is known.

    ``tasks.test.mixtures(keys)`` gives the mixtures themselves, with their density and their best denoiser.

    Args:
        dim: 1 or 2 numbers in a point.
        parts: Gaussians in a mixture.
        shots, queries: points of the support and of the query side.
        train_shots, train_queries: those of training tasks, where they differ.
        dtype: of the points, "float32" or "float64"; None: torch's default.

    Raises:
        InputError, ConfigError: another dim, or sizes below 1.
    """
    options = dict(locals())
    return TaskFamily.by_split(
        "mixtures",
        lambda split: MixtureTasks(
            split=split,
            dim=dim,
            parts=parts,
            shots=of_split(split, shots, train_shots),
            queries=of_split(split, queries, train_queries),
            dtype=dtype_named(dtype),
        ),
        options,
    )
