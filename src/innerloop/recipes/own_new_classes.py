"""Five new classes from five pictures each, after meta-training on ten classes of thirty: everything from plain folders.

The pictures are printed characters, drawn here and written as PNG files in black on white; any other folder of class folders
would do. The steps are those of `innerloop train FOLDER`, `innerloop adapt` and `innerloop predict`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.recipes.recipe import Recipe

if TYPE_CHECKING:
    from innerloop.data.glyph_fonts import Character

TRAINING_CLASSES, TRAINING_PICTURES = 10, 30
NEW_CLASSES, SHOWN, ASKED = 5, 5, 15
_SIDE = 56  # pixels of the files
_DRAWS = 6
_STEPS = 100
_TASKS = {"shots": 5, "train_ways": 10, "train_queries": 5, "valid_classes": 0, "test_classes": 0}


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="own-five-new-classes",
            summary="A folder of ten classes of 30 pictures trains; five new classes from 5 pictures each, tested on 15 each.",
            source="this project; no published number. Raw-pixel nearest neighbour beside it, on the same pictures",
            runner="innerloop.recipes.own_new_classes:run",
        )
    ]


def run(draws: int = _DRAWS, steps: int = _STEPS) -> list[dict[str, Any]]:
    """Mean accuracies over draws; each has ten other training characters and five other new ones, of other scripts."""
    from innerloop.evaluation.evaluate import mean_ci95
    from innerloop.recipes.scratch_folder import scratch_folder

    found: dict[str, list[float]] = {"protonet, adapted from the folder": [], "raw-pixel nearest neighbour": []}
    for draw in range(draws):
        chosen = characters_of(draw)
        with scratch_folder() as folder:
            write_folders(folder, *chosen)
            found["protonet, adapted from the folder"].append(adapted(folder, steps, draw))
            found["raw-pixel nearest neighbour"].append(nearest_pixels(folder))
    rows = []
    for name, values in found.items():
        mean, ci95 = mean_ci95([100 * value for value in values])
        rows.append(
            {
                "metric": f"accuracy % 5 new classes, 5 pictures each: {name}",
                "value": round(mean, 2),
                "ci95": round(ci95, 2),
                "num_tasks": draws,
                "transductive": False,
                "steps": steps if name.startswith("protonet") else 0,
            }
        )
    return rows


def characters_of(draw: int) -> tuple[list[Character], list[Character]]:
    """Ten characters of the training scripts of `glyphs`, and five of its test scripts."""
    from innerloop.data.class_images import seeded_order
    from innerloop.data.glyph_fonts import SPLITS, TEST, TRAIN, character_name, characters
    from innerloop.data.glyph_images import glyph_images

    images = glyph_images()
    known = {character_name(character.code): character for character in characters()}
    found = []
    for split, number in ((TRAIN, TRAINING_CLASSES), (TEST, NEW_CLASSES)):
        chosen = images.in_groups([script for script, of in SPLITS.items() if of == split])
        found.append([known[name] for name in seeded_order([images.names[c] for c in chosen], draw)[:number]])
    return found[0], found[1]


def write_folders(folder: Path, training: Sequence[Character], new: Sequence[Character]) -> None:
    """``train``, ``new`` and ``asked`` below ``folder``, each with one subfolder of PNG files a class."""
    from PIL import Image

    from innerloop.data.glyph_images import draw

    for characters, parts in (
        (training, (("train", TRAINING_PICTURES),)),
        (new, (("new", SHOWN), ("asked", ASKED))),
    ):
        drawn = draw(characters, _SIDE, sum(number for _, number in parts))
        for character, pictures in zip(characters, drawn.numpy(), strict=True):
            at = 0
            for part, number in parts:
                place = folder / part / f"U+{character.code:04X}"
                place.mkdir(parents=True)
                for i in range(at, at + number):
                    Image.fromarray(255 - pictures[i]).save(place / f"{i:02d}.png")
                at += number


def adapted(folder: Path, steps: int, seed: int) -> float:
    """The share of the asked pictures that a learner trained on one folder and adapted to another names rightly."""
    from innerloop.assemble import assemble
    from innerloop.training.fit import fit
    from innerloop.training.load import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ten classes leave none for validation, and that is said
        learner, family = assemble("protonet", str(folder / "train"), task_options=_TASKS, seed=seed)
        done = fit(learner, family, out=folder / "run", quiet=True, steps=steps, seed=seed, validate_every=0, threads=1)
    if done.stopped == "interrupted":
        raise KeyboardInterrupt
    trained: Any = load(folder / "run")
    task: Any = load(trained.adapt(folder / "new").save(folder / "task.il"))
    paths = _pictures(folder / "asked")
    said = task.predict([str(path) for path in paths])
    return sum(name == path.parent.name for name, path in zip(said, paths, strict=True)) / len(paths)


def nearest_pixels(folder: Path) -> float:
    """The same share, where a picture gets the class of the shown picture that is nearest in pixels (28 x 28)."""
    import torch

    from innerloop.data.support_files import read_pictures

    shown, asked = (_pictures(folder / part) for part in ("new", "asked"))
    known, new = (
        torch.from_numpy(read_pictures(paths, (1, 28, 28), invert=True)).flatten(1) for paths in (shown, asked)
    )
    nearest = torch.cdist(new, known).argmin(1).tolist()
    return sum(shown[i].parent.name == path.parent.name for i, path in zip(nearest, asked, strict=True)) / len(asked)


def _pictures(folder: Path) -> list[Path]:
    from innerloop.data.support_files import pictures_in

    return pictures_in(folder)
