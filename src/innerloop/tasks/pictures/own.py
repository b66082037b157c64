"""A user's own pictures as a problem: a folder of class folders, a zip of the same, or a CSV of path and label."""

from __future__ import annotations

import fnmatch
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop.core import TaskFamily
from innerloop.data import own_classes, picture_sources
from innerloop.data.class_images import ClassArrays, ClassImages, seeded_order
from innerloop.data.support_files import KIND, VERSION, preprocessing_of
from innerloop.errors import ConfigError, InnerloopWarning, InputError, nearest
from innerloop.models.bottleneck import Adapter
from innerloop.models.embeddings import Embedding, frozen
from innerloop.tasks.pictures.changes import Changes
from innerloop.tasks.pictures.few_shot import FewShotImages
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes

Wanted = int | Sequence[str] | None
_LEAST = 2  # a task tells at least two classes apart
_MOST_QUERIES = 15


class OwnTasks(FewShotImages):
    """Few-shot tasks from a user's own classes, and a model that suits pictures of any size.

    Args:
        preparation_seconds: that a trained network took for the features of all examples; part of a run's budget.
    """

    def __init__(self, *args: Any, preparation_seconds: float = 0.0, **options: Any) -> None:
        super().__init__(*args, **options)
        self.preparation_seconds = preparation_seconds

    def default_model(self) -> nn.Module:
        """The usual four-layer convolutional network where the pictures are large enough for it, else a perceptron."""
        from innerloop import models

        shape = self.input_shape
        if "embedding" in (self.preprocessing or {}):
            return self.prepared(models.adapter(shape, self.ways))
        if len(shape) == 3 and min(shape[1:]) >= 8:
            return models.conv4(shape, self.ways)
        return models.mlp(shape[0] if len(shape) == 1 else shape, self.ways)

    def prepared(self, net: nn.Module) -> nn.Module:
        """The model; an adapter of features is centred at the mean of the examples of these tasks' classes."""
        if isinstance(net, Adapter):
            own = torch.zeros(self.images.num_classes).index_fill(0, self.classes.cpu(), 1.0)
            weight = own.repeat_interleave(torch.tensor(self.images.sizes))[:, None]
            net.centre.copy_((self.images.rows(torch.device("cpu")) * weight).sum(0) / weight.sum())
        return net


class OwnArrayTasks(OwnTasks):
    """Few-shot tasks from examples of any shape: embeddings, measurements, series."""

    def _decoded(
        self, rows: Int64[Tensor, " examples"], turns: Int64[Tensor, " examples"]
    ) -> Float[Tensor, "examples ..."]:
        del turns
        stored = self.images.rows(rows.device)
        return stored.index_select(0, rows).to(self.dtype or torch.get_default_dtype())


def own_family(
    name: str,
    images: ClassImages,
    splits: Mapping[str, Sequence[int]],
    sizes: Sizes,
    *,
    title: str | None = None,
    make: type[FewShotImages] = OwnTasks,
    changes: Changes = "none",
    rotations: bool = False,
    options: Mapping[str, Any] | None = None,
    **shared: Any,
) -> TaskFamily:
    """Three splits of whatever classes there are: numbers that nobody asked for are fitted to them.

    Args:
        name: what makes the problem again; written to run directories.
        images: all classes.
        splits: class numbers of "train", "valid" and "test"; an empty one borrows: the test validation's classes, both
            the training classes.
        sizes: of tasks; ways None: five, or as many as the smallest split has; queries None: fifteen, or as many as nine classes
            in ten have left.
        title: the name in messages; None: ``name``.
        make: the distribution.
        changes, rotations: of training pictures.
        options: what makes the family again.
        shared: further options of the distribution.

    Raises:
        InputError: more ways than classes, or more shots and queries than examples.
    """
    title = title or name
    members = {split: list(splits[split]) for split in ("train", "valid", "test")}
    for split, lender in (("valid", "train"), ("test", "valid")):
        if not members[split]:
            members[split] = members[lender]
            warnings.warn(
                f"{title}: no classes of their own for {split}, so it uses those of {lender}; its numbers say less about new "
                "classes",
                InnerloopWarning,
                stacklevel=3,
            )
    examples = images.sizes
    if sizes.queries is None:
        ordered = sorted(examples[c] for split in members for c in members[split])
        usual = ordered[len(ordered) // 10]
        sizes = sizes._replace(queries=min(_MOST_QUERIES, max(1, usual - max(sizes.shots, sizes.train_shots or 0))))
    kept: dict[str, list[int]] = {}
    for split in members:
        least = sizes.of(split)["shots"] + sizes.of(split)["queries"]
        kept[split] = [c for c in members[split] if examples[c] >= least]
        lacking = [images.names[c] for c in members[split] if examples[c] < least]
        if len(kept[split]) < 2:
            most = sorted((examples[c] for c in members[split]), reverse=True)[1]
            raise InputError(
                f"{title} ({split}): shots + queries expected at most {most}, what two classes or more have, got {least}; use "
                "fewer shots or queries"
            )
        if lacking:
            shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
            warnings.warn(
                f"{title} ({split}): left out {len(lacking)} of {len(members[split])} classes, which have fewer than the "
                f"{least} examples that a task takes of each ({shown})",
                InnerloopWarning,
                stacklevel=3,
            )
    if sizes.ways is None:
        sizes = sizes._replace(ways=min(5, *(len(kept[split]) for split in kept)))

    def distribution(split: str) -> FewShotImages:
        training = split == "train"
        return make(
            images,
            kept[split],
            name=title,
            split=split,
            rotations=rotations and training,
            changes=changes if training else "none",
            **sizes.of(split),
            **shared,
        )

    return TaskFamily.by_split(name, distribution, dict(options or {}))


def picture_family(
    path: str | Path,
    *,
    ways: int | None = None,
    shots: int = 1,
    queries: int | None = None,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    invert: bool | None = None,
    rotations: bool | None = None,
    changes: Changes = "none",
    valid_classes: int | Sequence[str] | None = None,
    test_classes: int | Sequence[str] | None = None,
    split_seed: int = 0,
    levels: int | None = None,
    within_group: bool = False,
    shuffled: bool = False,
    dtype: DtypeName | None = None,
    embedding: str | None = None,
) -> TaskFamily:
    """Few-shot recognition of the classes in a folder, a zip or a CSV of path and label.

    Args:
        path: a folder with one subfolder a class (in folders train, valid and test, or not), a .zip of the same, or a .csv
            with the columns path (relative to the file) and label.
        ways: classes of a task; None: five, or as many as the smallest split has.
        shots: support pictures of each class.
        queries: query pictures of each class; None: fifteen, or as many as nine classes in ten have left.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        size: height and width in pixels, one number for both; None: from the data, the longest side at most 84 (drawings: 28).
        channels: 1 for grey, 3 for colour; None: from the data.
        invert: take dark for ink; None: only in drawings on light paper.
        rotations: training classes turned by 90, 180 and 270 degrees are classes of their own; None: only in square drawings.
        changes: of training pictures, drawn anew each time: "none", "drawings" (shifts, turns, sizes), "photos" (mirror
            images and light too), "pens" or "brush" (grey pictures of ink: slant, thickness, edges, grain; see `pens`).
        valid_classes: how many classes validate, or their names or patterns such as s3*; None: the folder valid, else a fifth;
            0: the training classes.
        test_classes: the same for the test; 0: the classes of validation.
        split_seed: of which classes go where, together with their names.
        levels: how many folders, one in another, name a class; None: as many as lead to the picture that lies highest.
        within_group: all classes of a task come from one folder above the classes.
        shuffled: examples in random order instead of class by class.
        dtype: of the pictures, "float32" or "float64"; None: torch's default.
        embedding: a trained network that turns pictures into features, frozen: "photos", "timm:NAME" or an ONNX file
            (`il.models.pretrained`); None: pictures as they are.

    Returns:
        Pictures (channels, height, width) in [0, 1], decoded once and kept in the cache folder; with ``embedding`` its features,
        computed once for each picture and kept there too.

    Raises:
        InputError: nothing there, one class only, too few classes or pictures, more than a tenth unreadable.
        ConfigError: an option out of range.
    """
    start = time.perf_counter()
    path = Path(path).expanduser()
    source = open_pictures(path, levels)
    seen, net = None, None
    if embedding is not None:
        net = _embedding(embedding, changes, rotations)
        channels, invert, rotations = 3 if channels is None else channels, bool(invert), False
    if size is None or channels is None or invert is None or rotations is None:
        seen = own_classes.look(source)
    shape = _shape(size, channels, seen)
    if net is not None and size is None:  # its own size, where there are pictures as large
        shape = (shape[0], *(min(net.inputs.size, max((seen or own_classes.look(source)).largest)),) * 2)
    invert = (seen is not None and seen.dark_ink) if invert is None else invert
    if rotations is None:
        rotations = seen is not None and seen.drawings and shape[1] == shape[2]
    images = own_classes.read_classes(source, shape, invert)
    if images.left_out:
        shown = ", ".join(f"{name} ({why})" for name, why in images.left_out[:3])
        warnings.warn(
            f"{path}: skipped {len(images.left_out)} of {len(images.left_out) + sum(images.sizes)} pictures that cannot be read: "
            f"{shown}{', ...' if len(images.left_out) > 3 else ''}",
            InnerloopWarning,
            stacklevel=2,
        )
    told = {
        "animated": "more frames or pages than one, of which the first is read",
        "squeezed": f"height and width far out of proportion with {shape[1]}x{shape[2]}, to which all pictures are brought",
    }
    for kind, what in told.items():
        if names := images.remarks[kind]:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.warn(f"{path}: {len(names)} of the pictures have {what} ({shown})", InnerloopWarning, stacklevel=2)
    for note in images.remarks["sameness"]:
        warnings.warn(f"{path}: {note}", InnerloopWarning, stacklevel=2)
    splits = cut(str(path), images.names, source.splits, valid_classes, test_classes, split_seed)
    sizes = Sizes(ways, shots, queries, train_ways, train_shots, train_queries)
    options = {
        **sizes._asdict(),
        "size": list(shape[1:]),
        "channels": shape[0],
        "invert": invert,
        "rotations": rotations,
        "changes": changes,
        # Numbers, where nobody named classes: then a class that is added later moves no training class into the test.
        "valid_classes": _remembered(valid_classes, splits["valid"], source.splits),
        "test_classes": _remembered(test_classes, splits["test"], source.splits),
        "split_seed": split_seed,
        "levels": levels,
        "within_group": within_group,
        "shuffled": shuffled,
        "dtype": dtype,
        "embedding": embedding,
    }
    record = preprocessing_of(invert, own_classes.reading_of(images))
    if net is not None:
        images, record = embedded_pictures(images, net, record)
    return own_family(
        str(path.resolve()),
        images,
        splits,
        sizes,
        title=path.stem if path.is_file() else path.resolve().name,
        changes=changes,
        rotations=rotations,
        within_group=within_group,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        make=OwnTasks if net is None else OwnArrayTasks,
        preprocessing=record,
        preparation_seconds=0.0 if net is None else time.perf_counter() - start,
        options=options,
    )


def _embedding(given: str, changes: Changes, rotations: bool | None) -> Embedding:
    if changes != "none" or rotations:
        raise ConfigError("embedding expected pictures as they are, got changes or rotations too; leave these out")
    return frozen(given)


def embedded_pictures(
    images: ClassImages, net: Embedding, record: Mapping[str, Any]
) -> tuple[ClassArrays, dict[str, Any]]:
    """(the features of pictures by class, how files become them); ``record``: how they became pictures."""
    if isinstance(images, ClassArrays):
        raise ConfigError(
            f"embedding expected pictures of bytes, got inputs of shape {images.example_shape}; leave it out"
        )
    shape = images.example_shape
    found = net.of_pictures(images.images.reshape(-1, *shape))
    counts = tuple(images.sizes)
    made = ClassArrays(found, images.names, images.groups, counts, images.left_out, images.remarks)
    return made, {"kind": KIND, "version": VERSION, "invert": False, **record, "embedding": net.record(shape)}


def open_pictures(path: Path, levels: int | None = None) -> picture_sources.PictureSource:
    """The pictures by class at ``path``: two classes at least, none of them empty.

    Raises:
        InputError: nothing there, no subfolders, empty ones, or one class only.
    """
    source = picture_sources.open_source(path, levels)
    if len(source.classes) < 2:
        only = next(iter(source.classes), "")
        raise InputError(f"{path} expected at least two classes, got one ({only!r}); add folders of other classes")
    if source.empty:
        shown = ", ".join(source.empty[:3]) + (", ..." if len(source.empty) > 3 else "")
        warnings.warn(
            f"{path}: left out {len(source.empty)} folders without pictures ({shown})", InnerloopWarning, stacklevel=3
        )
    for note in source.notes:
        warnings.warn(f"{path}: {note}", InnerloopWarning, stacklevel=3)
    return source


def _shape(
    size: int | Sequence[int] | None, channels: int | None, seen: own_classes.Look | None
) -> tuple[int, int, int]:
    if size is None:
        assert seen is not None
        sides = seen.size
    else:
        sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1 or math.prod(sides) > 1 << 20:
        raise ConfigError(f"size expected height and width from 1 to about a thousand pixels, got {size}")
    if channels not in (None, 1, 3):
        raise ConfigError(f"channels expected 1 (grey) or 3 (colour), got {channels}")
    if channels is None:
        assert seen is not None
        channels = seen.channels
    return (channels, int(sides[0]), int(sides[1]))


def _remembered(wanted: Any, found: Sequence[int], folders: Mapping[str, str]) -> Any:
    if wanted is None and not folders:
        return len(found)
    return (
        wanted if wanted is None or isinstance(wanted, int) else [wanted] if isinstance(wanted, str) else list(wanted)
    )


def default_share(classes: int) -> int:
    """How many classes validation takes, and as many the test: a fifth, and five from twenty classes on."""
    return max(_LEAST, min(5, classes // 4), round(0.2 * classes))


def cut(
    where: str,
    names: Sequence[str],
    folders: Mapping[str, str],
    valid: Wanted,
    test: Wanted,
    seed: int,
) -> dict[str, list[int]]:
    """Numbers of the classes of each split.

    Named classes go where they are named; then those that lie in folders of a split; of what remains, the first of
    `seeded_order`, which depends on the names and the seed alone, are for the test, the next for validation. So a class
    that is added later never brings a training class into the test.

    Args:
        where: what the data is called in messages.
        names: of all classes.
        folders: split by class name, where the folders say it.
        valid, test: how many classes, or their names or patterns such as "s3*"; None: the folders', else
            `default_share`; 0: none of their own.
        seed: of the order.

    Raises:
        InputError: too few classes, a name that no class has, or one in both splits.
    """
    number = {name: i for i, name in enumerate(names)}
    chosen: dict[str, list[str]] = {}
    for split, wanted in (("test", test), ("valid", valid)):
        if isinstance(wanted, int):
            if wanted < 0 or wanted == 1:
                raise InputError(f"{where}: {split}_classes expected 0 or at least 2, got {wanted}")
            continue
        if wanted is not None:
            chosen[split] = _named(where, names, [wanted] if isinstance(wanted, str) else wanted, split)
        elif split in folders.values():
            chosen[split] = [name for name in names if folders.get(name) == split]
    twice = set(chosen.get("test", ())) & set(chosen.get("valid", ()))
    if twice:
        raise InputError(
            f"{where}: each class expected in one split, got {min(twice)!r} in valid and test; take it out of one"
        )
    taken = {name for members in chosen.values() for name in members}
    left = [name for name in names if name not in taken]
    if folders and valid is None and test is None:
        left = [name for name in left if folders.get(name) == "train"]
    share = default_share(len(names))
    order = seeded_order(left, seed)
    for split, wanted in (("test", test), ("valid", valid)):
        if split not in chosen:
            missing_folder = bool(folders) and split == "test" and wanted is None
            count = 0 if missing_folder else share if wanted is None else int(wanted)  # type: ignore[arg-type]
            chosen[split], order = order[:count], order[count:]
    chosen["train"] = order
    short = [split for split in ("train", "valid", "test") if len(chosen[split]) < (_LEAST if split == "train" else 0)]
    thin = [split for split in ("valid", "test") if len(chosen[split]) == 1]
    if short or thin:
        least = 3 * _LEAST
        raise InputError(
            f"{where} expected at least {least} classes, two or more for each of train, valid and test, got {len(names)} "
            f"({', '.join(f'{split} {len(chosen[split])}' for split in ('train', 'valid', 'test'))}); add classes, set "
            "valid_classes=0 or test_classes=0, or adapt a trained learner to them (innerloop adapt)"
        )
    return {split: sorted(number[name] for name in members) for split, members in chosen.items()}


def _named(where: str, names: Sequence[str], patterns: Sequence[str], split: str) -> list[str]:
    found: set[str] = set()
    for pattern in patterns:
        hits = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not hits:
            raise InputError(
                f"{where}: {split}_classes has {pattern!r}, which no class is called: {nearest(pattern, names)}"
            )
        found.update(hits)
    return [name for name in names if name in found]
