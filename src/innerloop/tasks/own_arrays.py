"""What a program has in memory as a problem: arrays, tensors, sparse rows, a torch or Hugging Face data set, embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from innerloop.core import TaskFamily
from innerloop.data import labelled
from innerloop.data.arrays import is_classification, label_names
from innerloop.data.class_images import ClassArrays
from innerloop.data.counts import is_sparse
from innerloop.data.texts import preprocessing_of, read_texts
from innerloop.errors import ConfigError, InputError
from innerloop.models.embeddings import frozen
from innerloop.tasks.in_memory import IN_MEMORY
from innerloop.tasks.own_rows import given_sides, rows_family
from innerloop.tasks.own_texts import SENTENCES
from innerloop.tasks.pictures.own import Changes, OwnArrayTasks, OwnTasks, cut, embedded_pictures, own_family
from innerloop.tasks.precision import DtypeName, dtype_named
from innerloop.tasks.split_sizes import Sizes


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    task: Any = None,
    order: Any = None,
    groups: Any = None,
    ways: int | None = None,
    shots: int | None = None,
    queries: int | None = None,
    support_size: int | None = None,
    train_ways: int | None = None,
    train_shots: int | None = None,
    train_queries: int | None = None,
    splits: Mapping[str, Sequence[Any]] | None = None,
    valid_classes: int | Sequence[str] | None = None,
    test_classes: int | Sequence[str] | None = None,
    valid_share: float = 0.15,
    test_share: float = 0.15,
    split_seed: int = 0,
    size: int | Sequence[int] | None = None,
    channels: int | None = None,
    changes: Changes = "none",
    shuffled: bool = False,
    dtype: DtypeName | None = None,
    embedding: str | None = None,
    name: str = "arrays",
) -> TaskFamily:
    """Few-shot tasks from examples in memory: of the classes in them, or of rows that say which task they belong to.

    Without ``task``, a task tells a few classes apart, and the classes are split. With ``task``, the rows of one id are one
    task, of classes or of values, and the tasks are split. Two classes alone, without ``task``, are one task: the sides of the
    split have different rows of it.

    Args:
        x: inputs (examples, *shape), numpy or torch: uint8 is taken for pictures, (examples, height, width) or with 1 or 3
            channels first or last; floats are taken as they are (embeddings, say). Or a whole data set, with ``y`` left out:
            anything with a length whose items are (input, label), or a Hugging Face data set with the columns image (or text, or
            columns of numbers) and label. Or a data frame of pandas, polars or Arrow. Or texts. Streams are refused. With
            ``task`` also sparse rows, `il.Counts` or a matrix of scipy's, which stay sparse.
        y: labels, one an example: integers or texts; or the name of ``x``'s column that holds them; None: "label" or the like.
            With ``task`` also values (examples,) or (examples, targets), floats that are taken as they are; a NaN among several
            targets is a missing one.
        task: (examples,) ids, integers or texts: which task each row belongs to; it, ``order`` and ``groups`` may be names of
            columns of a data frame.
        order: (examples,) numbers: the first rows of a task are its support set, later ones are asked for; of classes with
            ``support_size``.
        groups: (examples,) ids, the same in all rows of a task: tasks of one group lie on one side of the split.
        ways: classes of a task; None: five, or as many as the smallest split has; with ``task`` all of a task.
        shots: support examples of each class, with ``task`` and values of the task; None: 1, with ``task`` 5.
        queries: query examples likewise; None: fifteen, or as many as nine classes in ten have left. Beside ``support_size``
            of the whole task, None: all the rest, in training 256 at most.
        support_size: with ``task``: support examples of the whole task, its classes as frequent as in the task itself, in place
            of ``shots``.
        train_ways, train_shots, train_queries: those of training tasks, where they differ.
        splits: the labels, or ids of tasks, of "train", "valid" and "test"; None: by a hash of their names.
        valid_classes, test_classes: how many classes, or which (names or patterns); None: a fifth; 0: none of their own.
        valid_share, test_share: with ``task``: of the tasks.
        split_seed: of which classes or tasks go where, together with their names.
        size, channels: of pictures that come as PIL images; None: from the data.
        changes: of training pictures: "none", "drawings" (shifts, turns, sizes), "photos" (mirror images and light too), "pens"
            or "brush" (grey pictures of ink: slant, thickness, edges, grain; see `pens`).
        shuffled: examples in random order instead of class by class.
        dtype: of the inputs, "float32" or "float64"; None: torch's default.
        embedding: a trained network that turns pictures or texts into features, frozen (`il.models.pretrained`); None: texts
            are read by "sentences", pictures stay as they are.
        name: shown in messages and reports.

    Returns:
        Pictures (channels, height, width) in [0, 1], or inputs of ``x``'s own shape; sparse rows as `il.Counts.packed`.

    A run trained on it cannot make it again: evaluate and resume it from Python.

    Raises:
        InputError: labels that do not fit, one class only, too few classes, tasks or examples, values that are not finite, an
            id or a place in the order that is missing.
        ConfigError: options that do not go together.
    """
    x, y = labelled.pair_of(x, y)
    columns = {"task": task, "order": order, "groups": groups}
    named = {what: given for what, given in columns.items() if isinstance(given, str)}
    if named:
        x, found = labelled.taken_out(x, named)
        task, order, groups = (found.get(what, given) for what, given in columns.items())
    x, y = labelled.pair_of(x, y)
    plain = embedding is None and changes == "none" and not isinstance(x, list | tuple)
    if task is None and y is not None and plain and order is None and groups is None:
        task, splits = _one_task(y, splits, valid_classes, test_classes, valid_share, test_share, split_seed)
    if task is not None:
        if y is None:
            raise InputError(f"{name} expected targets y beside x and task, got none; give them")
        if any(v is not None for v in (valid_classes, test_classes, size, channels, embedding)) or changes != "none":
            raise ConfigError(
                f"{name}: task expected no valid_classes, test_classes, size, channels, changes or embedding, got one; leave "
                "it out"
            )
        return rows_family(
            x,
            y,
            task,
            order=order,
            groups=groups,
            splits=splits,
            valid_share=valid_share,
            test_share=test_share,
            split_seed=split_seed,
            dtype=dtype,
            name=name,
            options={
                "ways": ways,
                "shots": shots,
                "queries": queries,
                "support_size": support_size,
                "train_ways": train_ways,
                "train_shots": train_shots,
                "train_queries": train_queries,
            },
        )
    if order is not None or groups is not None or support_size is not None or is_sparse(x):
        raise ConfigError(
            f"{name}: order, groups, support_size and sparse rows expected task, the id of each row's task, got none; give it"
        )
    shots = 1 if shots is None else shots
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
        Sizes(ways, shots, queries, train_ways, train_shots, train_queries),
        title=name,
        make=OwnTasks if pictures else OwnArrayTasks,
        changes=changes,
        shuffled=shuffled,
        dtype=dtype_named(dtype),
        **more,
        options={"ways": ways, "shots": shots, "queries": queries, "classes": images.num_classes, "of": digest},
    )


def _one_task(
    y: Any,
    splits: Mapping[str, Sequence[Any]] | None,
    valid: Any,
    test: Any,
    valid_share: float,
    test_share: float,
    seed: int,
) -> tuple[list[str] | None, Mapping[str, Sequence[Any]] | None]:
    """(ids of rows, splits) where two classes alone make one task, whose rows are split; (None, splits) where they do not."""
    if splits is not None or valid is not None or test is not None or not is_classification(y):
        return None, splits
    labels = label_names(y)
    if len(set(labels)) != 2:
        return None, splits
    of: list[str] = ["train"] * len(labels)
    for label in set(labels):
        own = [i for i, other in enumerate(labels) if other == label]
        own = [own[i] for i in torch.randperm(len(own), generator=torch.Generator().manual_seed(seed)).tolist()]
        tested, validated = round(test_share * len(own)), round(valid_share * len(own))
        for i in own[:tested]:
            of[i] = "test"
        for i in own[tested : tested + validated]:
            of[i] = "valid"
    return of, {split: [split] for split in ("train", "valid", "test")}


def _given(name: str, names: Sequence[str], splits: Mapping[str, Sequence[Any]]) -> dict[str, list[int]]:
    """Class numbers of splits that name their labels."""
    unknown = set(splits) - {"train", "valid", "test"}
    if unknown or "train" not in splits:
        raise InputError(
            f"{name}: splits expected train, valid and test, got {', '.join(map(str, splits))}; rename them"
        )
    number = {label: i for i, label in enumerate(names)}
    sides = given_sides(name, "class", "labels of y", names, splits)
    return {split: [number[label] for label in own] for split, own in sides.items()}
