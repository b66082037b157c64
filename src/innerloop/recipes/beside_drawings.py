"""New drawings of characters never seen: what the support set is worth, whether a judge takes them for the character, classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from innerloop.assemble import assemble
from innerloop.core import TaskDistribution, batch_size
from innerloop.engine import take
from innerloop.evaluation.evaluate import evaluate
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.recipes.result_rows import measured
from innerloop.tasks.pictures.drawings import Kinds, drawings
from innerloop.training.fit import fit

SHOTS, WAYS = 5, 20
_TOGETHER = 32  # tasks
_SETS = 3  # of 20 characters each
_MADE = 6  # drawings of each
_STEPS = 18  # of the sampler
GUIDANCES = (0.0, 0.5, 1.0, 1.5, 2.0)
_TASKS, _QUERIES, _LEVELS = 20, 3, 32  # of classification by density
_PROTONET_MINUTES = 1.0


def drawings_rows(learner: MetaLearner, test: TaskDistribution) -> list[dict[str, Any]]:
    """Rows on test characters: denoising beside right, wrong and no drawings; the judge; classes by density."""
    assert isinstance(test, Kinds)
    return [*support_rows(learner, test), *judged_rows(learner, test), *class_rows(learner, test)]


def losses_beside(
    learner: MetaLearner, test: Kinds, shots: int, num_tasks: int, seed: int = 0
) -> dict[str, Float[Tensor, " tasks"]]:
    """Each task's denoising loss beside its own drawings, those of another task's kind, and none; under the same noise."""
    found: dict[str, list[Tensor]] = {"right": [], "wrong": [], "none": []}
    sized = test.altered(shots=shots)
    for start in range(0, num_tasks, _TOGETHER):
        batch = sized.at(seed, 0, min(_TOGETHER, num_tasks - start), start)
        others = dataclasses.replace(batch, support=batch.support.roll(1, 0))
        for name, tasks, steps in (("right", batch, 1), ("wrong", others, 1), ("none", batch, 0)):
            found[name].append(learner.measure_queries(tasks, steps)["denoising"][0])
    return {name: torch.cat(values) for name, values in found.items()}


def support_rows(learner: MetaLearner, test: Kinds, num_tasks: int = 320) -> list[dict[str, Any]]:
    """What one and five drawings are worth."""
    rows = []
    for shots in (1, SHOTS):
        found = losses_beside(learner, test, shots, num_tasks)
        for name, values in found.items():
            rows.append(measured(f"denoising loss, {name} support, {shots}-shot", values.tolist()))
        rows.append(
            measured(f"denoising loss, wrong - right, {shots}-shot", (found["wrong"] - found["right"]).tolist())
        )
    return rows


# ---- the judge -----------------------------------------------------------------------------------------------------
def characters(test: Kinds, sets: int, seed: int) -> Iterator[Float[Tensor, "ways drawings channels height width"]]:
    """Sets of 20 test characters with all their drawings, in random order."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test.classes), generator=generator)
    stored = test.images.rows(torch.device("cpu"))
    sizes = torch.tensor(test.images.sizes)
    starts = sizes.cumsum(0) - sizes
    for i in range(sets):
        classes = test.classes[order[i * WAYS : (i + 1) * WAYS]]
        number = int(sizes[classes].min())
        rows = [starts[c] + torch.randperm(int(sizes[c]), generator=generator)[:number] for c in classes]
        yield stored[torch.stack(rows)].to(torch.get_default_dtype()) / 255


def judged(
    learner: MetaLearner,
    test: Kinds,
    *,
    sets: int = _SETS,
    made: int = _MADE,
    steps: int = _STEPS,
    guidance: float = 0.0,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Of new drawings of each character: is it the character, how far from the nearest support, how far from each other.

    Ten drawings of each of 20 characters make the judge (the nearest mean of pixels); the support set's five are not among them,
    and five more are the real ones beside which all is measured.

    Returns:
        One number a character: "accuracy", "real accuracy", "nearest" and "real nearest" (root mean square distance to the
        nearest support drawing), "apart" and "real apart" (between two of one kind).
    """
    names = ("accuracy", "nearest", "apart")
    found: dict[str, list[float]] = {prefix + name: [] for name in names for prefix in ("", "real ")}
    for number, drawn in enumerate(characters(test, sets, seed)):
        means = drawn[:, SHOTS : SHOTS + 10].mean(1).flatten(1)
        for i, own in enumerate(drawn):
            fitted: Any = learner.adapt(own[:SHOTS])
            new = fitted.sample(made, seed=1000 * number + i, steps=steps, guidance=guidance).clamp(0, 1)
            for prefix, shown in (("", new), ("real ", own[SHOTS + 10 :])):
                flat = shown.flatten(1)
                found[prefix + "accuracy"].append(float((torch.cdist(flat, means).argmin(1) == i).float().mean()))
                size = flat.shape[1] ** 0.5
                found[prefix + "nearest"].append(
                    float(torch.cdist(flat, own[:SHOTS].flatten(1)).min(1).values.mean()) / size
                )
                found[prefix + "apart"].append(float(torch.pdist(flat).mean()) / size)
    return found


def chosen_guidance(learner: MetaLearner, valid: Kinds) -> float:
    """Of `GUIDANCES`, the one whose new validation drawings the judge knows best, of those that do not copy the support.

    They copy where the nearest support drawing is closer than .9 of what it is for real drawings.
    """
    best, chosen = -1.0, 0.0
    for guidance in GUIDANCES:
        found = judged(learner, valid, guidance=guidance, sets=2, made=4)
        total = {name: sum(values) for name, values in found.items()}
        if total["nearest"] >= 0.9 * total["real nearest"] and total["accuracy"] > best:
            best, chosen = total["accuracy"], guidance
    return chosen


def judged_rows(learner: MetaLearner, test: Kinds) -> list[dict[str, Any]]:
    """New drawings by the judge, without guidance and with as much as was best on validation characters."""
    size = test.input_shape[1]
    valid = drawings(size=size, shots=test.shots, queries=test.queries).valid
    assert isinstance(valid, Kinds)
    rows = []
    for guidance in sorted({0.0, chosen_guidance(learner, valid)}):
        found = judged(learner, test, guidance=guidance, seed=1)
        said = f", guidance {guidance:g}"
        for name, values in found.items():
            if not name.startswith("real ") or not guidance:
                told = {"accuracy": "judge's accuracy %", "nearest": "distance to the nearest support drawing"}
                plain = name.removeprefix("real ")
                whose = "real drawings" if name != plain else f"new drawings{said}"
                scale = 100.0 if plain == "accuracy" else 1.0
                what = told.get(plain, "distance between two of one kind")
                rows.append(measured(f"{what}, {whose}", [scale * value for value in values]))
        for name in ("accuracy", "nearest", "apart"):
            own, real = (sum(found[prefix + name]) / len(found[name]) for prefix in ("", "real "))
            rows.append(measured(f"{name}, new over real{said}", [own / real]) | {"num_tasks": len(found[name])})
    return rows


# ---- classes by density ----------------------------------------------------------------------------------------------
def class_rows(learner: MetaLearner, test: Kinds) -> list[dict[str, Any]]:
    """5-way 5-shot by the log density of each class's few drawings, beside a prototypical network and the mean of pixels."""
    protonet, family = assemble(
        "protonet",
        "omniglot",
        task_options={"size": test.input_shape[1], "ways": 5, "shots": SHOTS, "queries": _QUERIES},
        seed=0,
    )
    fit(protonet, family, minutes=_PROTONET_MINUTES, quiet=True, threads=1, validate_every=0, strategy="vmapped")
    batch = family.test.at(0, 0, _TASKS)
    scores = []
    for i in range(batch_size(batch)):
        one = take(batch, i)
        by_class = []
        for label in range(5):
            fitted: Any = learner.adapt(one.support.x[one.support.y == label])
            by_class.append(fitted.log_density(one.query.x, steps=_LEVELS))
        scores.append(float((torch.stack(by_class, -1).argmax(-1) == one.query.y).float().mean()))
    report = evaluate(protonet, family.test, num_tasks=_TASKS, baselines=True)
    named = "5-way 5-shot accuracy %"
    rows = [
        measured(f"{named}, by log density", [100 * value for value in scores]),
        measured(f"{named}, protonet trained for {_PROTONET_MINUTES:g} minutes", [100 * v for v in report.per_task]),
    ]
    pixels = report.baselines.get("class_mean")
    if pixels is not None:
        rows.append(
            {"metric": f"{named}, nearest mean of pixels", "value": round(100 * pixels.mean, 4),
             "ci95": round(100 * pixels.ci95, 4), "num_tasks": _TASKS, "transductive": False}
        )  # fmt: skip
    return rows
