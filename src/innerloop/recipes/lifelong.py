"""One long stream, learned once and in order: La-MAML beside replay, EWC and plain steps. The work is in `lifelong_mnist`."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe

_SOURCE = "Gupta et al. 2020, arXiv:2007.13904, table 1 (recalled) and the authors' commands"


def recipes() -> list[Recipe]:
    """The three streams of the paper."""
    return [
        Recipe(
            name=f"mnist-{stream.replace('_', '-')}-lifelong",
            summary=summary,
            source=_SOURCE,
            runner=f"innerloop.recipes.lifelong_mnist:{stream}",
        )
        for stream, summary in {
            "rotations": "Digits turned further from part to part, 20 parts, 200 kept: all methods for streams, five seeds.",
            "permutations": "Digits with their pixels in another order in each of 20 parts, 200 kept: La-MAML beside replay.",
            "many_permutations": "The same with 100 parts of 200 digits, 500 kept.",
        }.items()
    ]
