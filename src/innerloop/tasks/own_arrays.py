"""What a program has in memory as a problem: arrays, tensors, a torch or Hugging Face data set, precomputed embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from innerloop.core import TaskFamily
from innerloop.data import labelled
from innerloop.data.class_images import ClassArrays
from innerloop.data.texts import preprocessing_of, read_texts
from innerloop.errors import InputError
from innerloop.models.embeddings import frozen
from innerloop.tasks.own_data import IN_MEMORY
from innerloop.tasks.own_texts import SENTENCES
from innerloop.tasks.pictures.own import Changes, OwnArrayTasks, OwnTasks, cut, embedded_pictures, own_family
from innerloop.tasks.precision import DtypeName, dtype_named


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    ways: int | None = None,
    shots: int = 1,
    queries: int | None = None,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    splits: Mapping[str, Sequence[Any]] | None = None,
    valid_classes: int | Sequence[str] | None = None,
    test_classes: int | Sequence[str] | None = None,
    split_seed: int = 0,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    changes: Changes = "none",
    shuffled: bool = False,
    dtype: DtypeName | None = None,
    embedding: str | None = None,
    name: str = "arrays",
) -> TaskFamily:
    """Few-shot recognition of the classes in labelled examples.

    Args:
        x: inputs (examples, *shape), numpy or torch: uint8 is taken for pictures, (examples, height, width) or with 1 or 3
            channels first or last; floats are taken as they are (embeddings, say). Or a whole data set, with ``y`` left out:
            anything with a length whose items are (input, label), or a Hugging Face data set with the columns image (or text, or
            columns of numbers) and label. Or a data frame of pandas, polars or Arrow. Or texts. Streams are refused.
        y: labels, one an example: integers or texts; or the name of ``x``'s column that holds them; None: "label" or the like.
        ways: classes of a task; None: five, or as many as the smallest split has.
        shots: support examples of each class.
        queries: query examples of each class; None: fifteen, or as many as nine classes in ten have left.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        splits: the labels of "train", "valid" and "test"; None: by a hash of the labels.
        valid_classes, test_classes: how many classes, or which (names or patterns); None: a fifth; 0: none of their own.
        split_seed: of which classes go where, together with their names.
        size, channels: of pictures that come as PIL images; None: from the data.
        changes: of training pictures: "none", "drawings" (shifts, turns, sizes), "photos" (mirror images and light too), "pens"
            or "brush" (grey pictures of ink: slant, thickness, edges, grain; see `pens`).
        shuffled: examples in random order instead of class by class.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.
        embedding: a trained network that turns pictures or texts into features, frozen (`il.models.pretrained`); None: texts
            are read by "sentences", pictures stay as they are.
        name: shown in messages and reports.

    Returns:
        Pictures (channels, height, width) in [0, 1], or inputs of ``x``'s own shape.

    A run trained on it cannot make it again: evaluate and resume it from Python.

    Raises:
        InputError: labels that do not fit, one class only, too few classes or examples, values that are not finite.
    """
    x, y = labelled.pair_of(x, y)
    if y is not None and isinstance(x, list | tuple) and x and all(isinstance(text, str) for text in x):
        net = frozen(embedding or SENTENCES)
        data = labelled.from_pair(net.of_texts(read_texts(x).texts), y)
        images, record = labelled.by_class(data), {**preprocessing_of(None, None), "embedding": net.record()}
    else:
        data = labelled.from_pair(x, y) if y is not None else labelled.from_dataset(x, size, channels)
        images, record = labelled.by_class(data), None
        if embedding is not None:
            images, record = embedded_pictures(images, frozen(embedding), {})
    if images.num_classes < 2:
        raise InputError(f"{name} expected at least two classes, got one ({images.names[0]!r}); add examples of others")
    chosen = (
        _given(name, images.names, splits)
        if splits is not None
        else cut(name, images.names, {}, valid_classes, test_classes, split_seed)
    )
    pictures = not isinstance(images, ClassArrays)
    if changes != "none" and not pictures:
        raise InputError(
            f"{name}: changes expected uint8 pictures, got inputs of shape {images.example_shape}; leave it out"
        )
    wanted = dtype_named(dtype) or torch.get_default_dtype()
    if not pictures and not bool(torch.isfinite(images.images.to(wanted)).all()):
        raise InputError(f"{name} expected inputs that fit into {wanted}, got larger ones; scale them")
    more: dict[str, Any] = {} if record is None else {"preprocessing": record}
    digest = hashlib.blake2b("\n".join(images.names).encode(), digest_size=4).hexdigest()
    return own_family(
        f"{IN_MEMORY}{name}",
        images,
        chosen,
        title=name,
        ways=ways,
        shots=shots,
        queries=queries,
        train_ways=train_ways,
        train_shots=train_shots,
        train_queries=train_queries,
        make=OwnTasks if pictures else OwnArrayTasks,
        changes=changes,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        **more,
        options={"ways": ways, "shots": shots, "queries": queries, "classes": images.num_classes, "of": digest},
    )


def _given(name: str, names: Sequence[str], splits: Mapping[str, Sequence[Any]]) -> dict[str, list[int]]:
    """Class numbers of splits that name their labels."""
    unknown = set(splits) - {"train", "valid", "test"}
    if unknown or "train" not in splits:
        raise InputError(
            f"{name}: splits expected train, valid and test, got {', '.join(map(str, splits))}; rename them"
        )
    number = {label: i for i, label in enumerate(names)}
    result: dict[str, list[int]] = {}
    owner: dict[str, str] = {}
    for split in ("train", "valid", "test"):
        result[split] = []
        for label in map(str, splits.get(split, ())):
            if label not in number:
                raise InputError(f"{name}: splits[{split!r}] expected labels of y, got {label!r}; correct the split")
            if owner.setdefault(label, split) != split:
                raise InputError(
                    f"{name}: each class expected in one split, got {label!r} in {owner[label]} and {split}; take it out of one"
                )
            result[split].append(number[label])
    return result
