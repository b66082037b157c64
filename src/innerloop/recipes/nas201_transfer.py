"""Ten networks may be trained on a new data set; fifty were trained on each of two others. How near the best does one come?

On NAS-Bench-201's table, each data set left out in turn. What all searches that use a model see of a cell is its operations with
"none" where no way from input to output leads along an edge (`architecture_tables.reachable`). Settings were chosen on draws
of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

DRAWS, SHOWN, TRIALS = 50, 50, 10  # of the sources; architectures of each source; evaluations on the new data set
_ORDER = ("ImageNet16-120", "cifar10", "cifar100")
_LENGTH, _SCALE, _NOISE = 4.0, 0.7, 0.3  # what the process begins with, and is pulled to
_STEPS, _RATE, _PULL = 40, 0.1, 0.1
_SPREADS = (1.0, 2.0, 4.0, 8.0)  # points of error on the new data set for a unit of the sources' scores
_LEVEL = 100.0  # variance of the level of the new data set's scores, which nobody knows beforehand
_COLD_LENGTHS = (1.0, 2.0, 4.0, 8.0)
_COLD_NOISE = 0.3
_POPULATIONS = (3, 5, 8)  # of regularised evolution


class Problem(NamedTuple):
    """One data set left out, with what is known of the others.

    Attributes:
        errors: of each architecture on the new data set, in percent.
        cells: (architectures, 6) operations as they are.
        place: of each architecture among the ``unique`` cells.
        unique: (unique, 6) cells with edges that do nothing taken away.
        shown: architectures that were evaluated on the sources, one source after another.
        scores: of each, its rank in its source as a normal quantile; low is good.
        whole: the mean rank of each architecture in the sources' whole tables.
    """

    errors: Float[np.ndarray, " architectures"]
    cells: Int64[np.ndarray, "architectures edges"]
    place: Int64[np.ndarray, " architectures"]
    unique: Int64[np.ndarray, "unique edges"]
    shown: Int64[np.ndarray, " shown"]
    scores: Float[np.ndarray, " shown"]
    whole: Float[np.ndarray, " architectures"]


Search = Callable[
    [Problem, int, np.random.Generator], list[int]
]  # (what is known, evaluations, draws) -> architectures


def quantiles(values: Float[np.ndarray, " values"]) -> Float[np.ndarray, " values"]:
    """Each value's rank as a normal quantile; equal values share the middle of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - 0.5 * counts) / len(values)
    return torch.special.ndtri(torch.as_tensor(middle)).numpy()[which]


def problems(draw: int) -> dict[str, Problem]:
    """Each data set left out, the architectures that are known on the others drawn by the number."""
    from innerloop.data.architecture_tables import load_nas201, reachable

    table = load_nas201()
    unique, place = np.unique(reachable(table.operations), axis=0, return_inverse=True)
    generator = np.random.default_rng([201, draw])
    shown = {name: generator.choice(len(table.names), SHOWN, replace=False) for name in _ORDER}
    found = {}
    for target in _ORDER:
        sources = [name for name in _ORDER if name != target]
        found[target] = Problem(
            errors=table.errors[target],
            cells=table.operations,
            place=place.reshape(-1),
            unique=unique,
            shown=np.concatenate([shown[name] for name in sources]),
            scores=np.concatenate([quantiles(table.errors[name][shown[name]]) for name in sources]),
            whole=np.mean([quantiles(table.errors[name]) for name in sources], 0),
        )
    return found


class Process(NamedTuple):
    """A Gaussian process of the sources' scores, by the Hamming distance of cells.

    Attributes:
        length: of each edge.
        scale, noise: variances.
    """

    length: Tensor
    scale: Tensor
    noise: Tensor

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        from innerloop.functional.gaussian_process import hamming

        return self.scale * hamming(a, b, self.length)


def likeliest(cells: Tensor, scores: Tensor) -> Process:
    """The process with the highest likelihood of these scores, its numbers pulled a little to usual ones."""
    from innerloop.functional.gaussian_process import observe

    begin = torch.tensor([_LENGTH] * cells.shape[1] + [_SCALE, _NOISE], dtype=torch.float64).log()
    moved = torch.zeros_like(begin).requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=_RATE)

    def process() -> Process:
        own = (begin + moved).exp()
        return Process(own[:-2], own[-2], own[-1])

    with torch.enable_grad():
        for _ in range(_STEPS):
            now = process()
            seen = observe(now.between(cells, cells), now.noise, scores[:, None], jitters=(1e-8,))
            loss = _PULL * moved.square().sum() - seen.log_likelihood().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return process()


def transfer(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
    """One process of sources and new data set together; the new one's level is its own, its spread by its likelihood."""
    del generator
    return _with_sources(problem, trials, learns=True)


def prior(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
    """The same process, which learns nothing of the new data set: the sources' best predictions in order."""
    del generator
    return _with_sources(problem, trials, learns=False)


@torch.no_grad()
def _with_sources(problem: Problem, trials: int, *, learns: bool) -> list[int]:
    from innerloop.functional.gaussian_process import observe

    unique = torch.as_tensor(problem.unique)
    known, scores = unique[problem.place[problem.shown]], torch.as_tensor(problem.scores)
    process = likeliest(known, scores)
    across = process.between(unique, known)  # grows by a column with each evaluation
    rows, new = known, torch.zeros(len(known), dtype=torch.float64)
    tried: list[int] = []
    spreads = torch.tensor(_SPREADS, dtype=torch.float64)
    for _ in range(trials):
        covariance = process.between(rows, rows) + _LEVEL * new[:, None] * new
        errors = torch.as_tensor(problem.errors[tried])
        level = errors.mean() if len(tried) else torch.zeros(())
        own = (errors - level)[:, None] / spreads
        values = torch.cat([scores[:, None].expand(-1, len(spreads)), own]) if learns else scores[:, None]
        seen = observe(covariance, process.noise, values, jitters=(1e-8,))
        mean, variance = seen.solved().at(across + _LEVEL * new, (process.scale + _LEVEL).expand(len(unique)))
        if not learns or not tried:
            worth = -mean[:, 0]
        else:
            fits = torch.softmax(seen.log_likelihood() - len(tried) * spreads.log(), 0)
            worth = (improvement(own.min(0).values, mean, variance.sqrt()[:, None]) * spreads * fits).sum(1)
        chosen = _best(worth[problem.place], tried)
        tried.append(chosen)
        if learns:
            cell = unique[problem.place[chosen]][None]
            across = torch.cat([across, process.between(unique, cell)], 1)
            rows, new = torch.cat([rows, cell]), torch.cat([new, torch.ones(1, dtype=torch.float64)])
    return tried


def improvement(best: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """``E[max(best - value, 0)]`` of normal values (Jones, Schonlau and Welch 1998)."""
    u = (best - mean) / deviation
    return deviation * (u * torch.special.ndtr(u) + torch.exp(-0.5 * u.square()) / np.sqrt(2 * np.pi))


def _best(worth: Tensor, tried: list[int]) -> int:
    worth = worth.clone()
    worth[tried] = -torch.inf
    return int(worth.argmax())


@torch.no_grad()
def cold(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
    """A process of the new data set alone, on ranks, after one random evaluation; lengths by their likelihood.

    The best on other draws of 1, 3 and 5 first evaluations, ranks and values, and two levels of noise.
    """
    from innerloop.functional.gaussian_process import hamming, observe

    unique = torch.as_tensor(problem.unique)
    lengths = torch.tensor(_COLD_LENGTHS, dtype=torch.float64)[:, None, None]
    tried = generator.choice(len(problem.errors), 1).tolist()
    while len(tried) < trials:
        z = torch.as_tensor(quantiles(problem.errors[tried]))
        cells = unique[problem.place[tried]]
        one = lengths.new_ones(())
        together, across = (hamming(a, cells, one).log() / lengths for a in (cells, unique))  # of each length
        seen = observe(together.exp(), _COLD_NOISE, z[:, None], jitters=(1e-8,))
        mean, variance = seen.solved().at(across.exp(), torch.ones(len(lengths), len(unique), dtype=torch.float64))
        fits = torch.softmax(seen.log_likelihood()[:, 0], 0)
        worth = (fits[:, None] * improvement(z.min(), mean[..., 0], variance.sqrt())).sum(0)[problem.place]
        worth += 1e-12 * torch.as_tensor(generator.random(len(worth)))  # equals by chance
        tried.append(_best(worth, tried))
    return tried


def random(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
    """Architectures by chance."""
    return generator.choice(len(problem.errors), trials, replace=False).tolist()


def evolution(population: int) -> Search:
    """Regularised evolution (Real et al. 2019, arXiv:1802.01548): the best of three has a child, the oldest dies."""

    def search(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
        places = {cell.tobytes(): i for i, cell in enumerate(problem.cells)}
        tried = generator.choice(len(problem.errors), min(population, trials), replace=False).tolist()
        while len(tried) < trials:
            living = tried[-population:]
            asked = generator.choice(living, min(3, len(living)), replace=False)
            child = problem.cells[asked[problem.errors[asked].argmin()]].copy()
            edge = int(generator.integers(len(child)))
            child[edge] = (child[edge] + generator.integers(1, 5)) % 5
            if places[child.tobytes()] not in tried:
                tried.append(places[child.tobytes()])
        return tried

    return search


def whole_tables(problem: Problem, trials: int, generator: np.random.Generator) -> list[int]:
    """What the sources' whole tables think best, in order: no search, and no credit."""
    del generator
    return np.argsort(problem.whole, kind="stable")[:trials].tolist()


SEARCHES: dict[str, Search] = {
    "transfer": transfer,
    "sources alone": prior,
    "gp": cold,
    **{f"evolution, {size} alive": evolution(size) for size in _POPULATIONS},
    "random": random,
    "whole source tables, sorted": whole_tables,
}


def curves(
    draws: int = DRAWS, trials: int = TRIALS, first: int = 0
) -> dict[str, dict[str, Float[np.ndarray, "draws trials"]]]:
    """Points of error above the best architecture, by data set and search, after each evaluation of each draw."""
    found: dict[str, dict[str, list[np.ndarray]]] = {target: {name: [] for name in SEARCHES} for target in _ORDER}
    for draw in range(first, first + draws):
        for target, problem in problems(draw).items():
            for number, (name, search) in enumerate(SEARCHES.items()):
                tried = search(problem, trials, np.random.default_rng([draw, number]))
                best = np.minimum.accumulate(problem.errors[tried]) - problem.errors.min()
                found[target][name].append(best)
    return {target: {name: np.array(own) for name, own in sets.items()} for target, sets in found.items()}


def rows() -> list[dict[str, Any]]:
    """Regret after ten evaluations, and the transfer's lead over each other search, draw by draw."""
    from innerloop.evaluation.evaluate import mean_ci95

    made = []
    for target, sets in curves().items():
        own = sets["transfer"][:, -1]
        for name, found in sets.items():
            regret = found[:, -1]
            kinds = [("regret", regret)]
            if name != "transfer":
                kinds.append(("less transfer, draw by draw", regret - own))
            for what, values in kinds:
                mean, ci95 = mean_ci95(values.tolist())
                said = name if what == "regret" else f"{name} {what}"
                made.append(
                    {
                        "metric": f"points of error after {TRIALS}, {target}: {said}",
                        "value": round(mean, 3),
                        "ci95": round(ci95, 3),
                        "num_tasks": len(values),
                        "transductive": False,
                    }
                )
    return made
