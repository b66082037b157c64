"""Numbers of others that are no recipe's own `published` ones: what re-implementations reach, and yardsticks.

All are printed in the place that is named with them, unless it says "recalled, check". "t": transductive.
"""

from __future__ import annotations

from typing import NamedTuple

from innerloop.recipes.recipe import Recipe

_SETTINGS = ("5w1s", "5w5s", "20w1s", "20w5s")
_KNAGG = "oscarknagg/few-shot, README"
_PADDLE = "PaddleFSL, image classification docs"
# Method as in the recipes' names -> (what 5w1s, 5w5s, 20w1s and 20w5s reach, where that is printed); "": not printed.
_OMNIGLOT: dict[str, tuple[tuple[tuple[str, str, str, str], str], ...]] = {
    "maml": (
        (("98.1", "99.8", "91.6", "95.9"), _KNAGG),
        (("98.4", "99.4", "91.0", "94.4"), "andrewbo29/mtm-meta-learning-sa, MAML by khabarlak"),
        (("99.4", "99.9", "92.8", ""), "another PyTorch repository, not identified; best checkpoint"),
        (
            ("99.1", "", "", ""),
            "learnables/learn2learn, examples/vision README; trained and tested on the same classes",
        ),
        (("", "", "91.27", "98.78"), "Antoniou et al. 2019 (recalled, check)"),
        (("", "", "93.7", "96.4"), "Raghu et al. 2020, in the learn2learn ANIL tutorial"),
    ),
    "fomaml": (
        (("95.5", "99.5", "92.2", "97.7"), _KNAGG),
        (("97.13", "99.23", "", ""), _PADDLE),
    ),
    "anil": ((("96.06", "98.74", "", ""), f"{_PADDLE}; first order"),),
    "protonet": (
        (("98.2", "99.4", "95.8", "98.6"), _KNAGG),
        (("98.4", "99.6", "94.9-95.1", "98.6"), "jakesnell/prototypical-networks#2, three users of the official code"),
        (("98.27", "99.37", "", ""), _PADDLE),
    ),
    "matching": (
        (("92.0", "93.2", "75.6", "77.8"), f"{_KNAGG}; cosine"),
        (("98.3", "99.8", "92.8", "97.8"), f"{_KNAGG}; squared distance"),
    ),
    "relation": ((("98.02", "99.25", "", ""), _PADDLE),),
    "snail": ((("98.31", "99.26", "93.75", "97.88"), "eambutu/snail-pytorch"),),
    "imaml": ((("98.68", "99.58", "92.90", "98.04"), "leopard-ai/betty, another hypergradient"),),
    "reptile": ((("95.5", "98.9-99.1", "88.0", "96.5"), "deepsense.ai, Reptile reproduction"),),
    "reptile-transductive": ((("97.8t", "99.5t", "89.2t", "97.0-97.6t"), "deepsense.ai, Reptile reproduction"),),
}


class Reimplementation(NamedTuple):
    """What somebody else's program reaches in a recipe's setting.

    Attributes:
        value: as printed there.
        source: where it is printed, and what its protocol differs in.
    """

    value: str
    source: str


class Yardstick(NamedTuple):
    """A published number of something that is no method here.

    Attributes:
        who: what reached it.
        metric: in what.
        value: as printed.
        source: where.
    """

    who: str
    metric: str
    value: str
    source: str


_ERROR = "error % (20-way one-shot)"
_LAKE = "Lake et al. 2015, Science 350"
# By the beginning of the names of the recipes that they are yardsticks for.
YARDSTICKS: dict[str, tuple[Yardstick, ...]] = {
    "lake-": (
        Yardstick("chance", _ERROR, "95", "19 of 20"),
        Yardstick("humans (40 people)", _ERROR, "4.5", _LAKE),
        Yardstick("Bayesian program learning", _ERROR, "3.3", _LAKE),
        Yardstick("Bayesian program learning, minimal sets", _ERROR, "4.3 / 4.0", _LAKE),
        Yardstick("RCN", _ERROR, "7.3", "Lake et al. 2019, arXiv:1902.03477 (published*)"),
        Yardstick("deep convnet, 30 alphabets", _ERROR, "13.5", _LAKE),
        Yardstick("deep convnet, minimal sets", _ERROR, "24.0 / 22.3", _LAKE),
        Yardstick("Hierarchical Deep", _ERROR, "34.8", _LAKE),
        Yardstick("deep Siamese network, 40 alphabets and distortions", _ERROR, "8.0", _LAKE),
    ),
}


def reimplementations(recipe: Recipe) -> list[Reimplementation]:
    """What other programs than the paper's reach in a recipe's setting; its "-cpu" and "-20min" variants have the same."""
    setting = recipe.name.removesuffix("-cpu").removesuffix("-20min")
    found = []
    problem, _, rest = setting.partition("-")
    size, _, method = rest.partition("-")
    if problem == "omniglot" and size in _SETTINGS:
        for values, source in _OMNIGLOT.get(method, ()):
            value = values[_SETTINGS.index(size)]
            if value:
                found.append(Reimplementation(value, source))
    return found
