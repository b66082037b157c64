"""A car whose road changes in mid-drive: ALPaCA with changepoints beside six other ways to keep up."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="road-alpaca-cpu",
            summary="Drives whose grip, mass, latency and slope change: squared error by steps after the change, seven methods.",
            source="this project's world; methods of Harrison et al. 2018, arXiv:1807.08912, and 2020, arXiv:1912.08866",
            algorithm="alpaca",
            tasks="road",
            runner="innerloop.recipes.beside_road:rows",
        ),
        Recipe(
            name="road-gru-cpu",
            summary="The recurrent network on the same drives, with a wider sweep and a longer training.",
            source="this project's world and network",
            tasks="road",
            runner="innerloop.recipes.road_recurrent:rows",
        ),
    ]
