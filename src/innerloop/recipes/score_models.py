"""New drawings and new points from a few: score models, meta-learned."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe

_SOURCE = (
    "Song and Ermon 2019 (arXiv:1907.05600), Karras et al. 2022 (arXiv:2206.00364), Giannone et al. 2022 (arXiv:2205.15463); "
    "none of them has these numbers"
)


def recipes() -> list[Recipe]:
    """Drawings and mixtures."""
    return [
        Recipe(
            name="drawings-16",
            summary="Characters of Omniglot never seen, 16 x 16, from five drawings: denoising, a judge of new ones, classes.",
            source=_SOURCE,
            algorithm="score_model",
            tasks="drawings",
            task_options={"shots": 5, "queries": 10, "train_queries": 6},
            training={"num_tasks": 8, "valid_tasks": 32, "threads": 1, "strategy": "vmapped"},
            evaluations=(Evaluation(steps=(0, 1), num_tasks=600),),
            beside="innerloop.recipes.beside_drawings:drawings_rows",
        ),
        Recipe(
            name="mixtures-2d",
            summary="Gaussian mixtures in the plane from fifty points: beside the true score, and beside kernels.",
            source=_SOURCE,
            algorithm="score_model",
            tasks="mixtures",
            training={"num_tasks": 8, "valid_tasks": 16, "threads": 1, "strategy": "vmapped"},
            evaluations=(Evaluation(steps=(0, 1), num_tasks=100),),
            beside="innerloop.recipes.beside_mixtures:mixtures_rows",
        ),
    ]
