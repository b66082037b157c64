"""Architectures found by search, beside random search: DARTS on small pictures, and a search that remembers other data sets."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe


def recipes() -> list[Recipe]:
    """One by gradients, one on a table."""
    return [
        Recipe(
            name="darts-mnist",
            summary="DARTS, second and first order, beside random search of as many seconds: cells for small MNIST pictures.",
            source="this project's setting, after Liu et al. 2019, arXiv:1806.09055, and Li and Talwalkar 2019, arXiv:1902.07638",
            runner="innerloop.recipes.darts_mnist:rows",
        ),
        Recipe(
            name="nas201-transfer",
            summary="NAS-Bench-201, each data set left out: regret after 10 evaluations, 50 known of each of the others.",
            source="this project's setting; table of Dong and Yang 2020, arXiv:2001.00326; baselines in the same run",
            runner="innerloop.recipes.nas201_transfer:rows",
        ),
    ]
