"""N-way K-shot tasks from pictures by class: which classes, drawings and turns, all from the task's key."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.class_images import ClassImages
from innerloop.errors import InputError
from innerloop.tasks.pictures.changes import INK, Changes, changed, pixel_sources, turned_blocks, turned_gather
from innerloop.tasks.split_sizes import Sizes


class NoTasks(TaskDistribution):
    """The validation split of a problem that holds nothing out: shaped as its training tasks, and empty.

    Args:
        train: the problem's training split.
    """

    name: str
    split: str
    objective: Any
    metrics: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_size: int

    def __init__(self, train: TaskDistribution) -> None:
        self.train = train
        self.name, self.split = train.name, "valid"
        self.objective, self.metrics = train.objective, train.metrics
        self.input_shape, self.output_size = train.input_shape, train.output_size

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{self.name}: validation expected classes that were held out, got none; train with validate_every=0 "
            "or hold some out"
        )

    def default_model(self) -> nn.Module:
        """That of the training split."""
        return self.train.default_model()


# Salts: each decision of a task has its own stream, so that adding one changes no other.
_CLASSES, _DRAWINGS, _GROUP, _SUPPORT_ORDER, _QUERY_ORDER, _NOISE = range(1, 7)
_LAST = torch.iinfo(torch.int64).max


class TaskIndex(NamedTuple):
    """Which drawings make up a batch of tasks.

    Attributes:
        classes: numbers of the classes in `ClassImages`, by local label.
        rotations: quarter turns, by local label.
        class_ids: numbers of the classes within the split (rotations counted as classes), by local label.
        drawings: distinct drawing numbers of each class; the first ``shots`` are the support set.
    """

    classes: Int64[Tensor, "tasks ways"]
    rotations: Int64[Tensor, "tasks ways"]
    class_ids: Int64[Tensor, "tasks ways"]
    drawings: Int64[Tensor, "tasks ways examples"]


class _Tables(NamedTuple):
    """What drawing a task looks up, on one device.

    Attributes:
        classes: numbers of the split's classes in `ClassImages`.
        members: positions in the split, (groups, largest), padded with -1, of the groups with ``ways`` classes or more.
        sizes: how many of each group's positions are no padding.
        turned: `pixel_sources`, where there are turns.
        starts: row of the first drawing of every class of `ClassImages`.
        counts: drawings of every class of `ClassImages`.
    """

    classes: Tensor
    members: Tensor
    sizes: Tensor
    turned: Tensor
    starts: Tensor
    counts: Tensor


def draw_without_replacement(
    key: Tensor, n: int, count: int, salt: int, sizes: Tensor | None = None
) -> Int64[Tensor, "*keys count"]:
    """``count`` distinct numbers of 0..n-1 for each key, in random order, (*key.shape, count); all below its ``sizes``."""
    order = random_keys.bits(key, (n,), salt)
    if sizes is not None:
        order = order.masked_fill(torch.arange(n, device=key.device) >= sizes[..., None], _LAST)
    return order.topk(count, dim=-1, largest=False, sorted=True).indices


class FewShotImages(TaskDistribution):
    """Tasks of ``ways`` classes with ``shots`` support and ``queries`` query drawings of each.

    A task's classes are drawn without replacement and in random order, so a class has another local label in
    each task. A class's drawings are drawn without replacement, so support and query are disjoint. Examples
    stand in blocks, those of label 0 first; learners that read them as a sequence should ask for
    ``shuffled=True``.

    Args:
        images: all classes.
        classes: numbers of the classes of this split.
        name, split: what and which ("train", "valid", "test").
        ways, shots, queries: classes of a task; support and query drawings of each class.
        rotations: each class turned by 0, 90, 180 and 270 degrees counts as four classes (Santoro et al.
            2016, arXiv:1605.06065). A task may hold a class and the same class turned.
        within_group: all classes of a task come from one group (alphabet), turned alike; groups with at least
            ``ways`` classes are equally likely.
        shuffled: support and query examples each in random order.
        invert: 1 is the background and 0 the ink.
        dtype: of the pictures; None: torch's default dtype.
        changes: of the pictures each time they are drawn: "none", "drawings" (shifts, turns, sizes), "photos"
            (mirror images and light too), "pens" or "brush" (see `pens`).
        preprocessing: how a user's files become such pictures; None: nobody said.

    Raises:
        InputError: more ways than classes, more examples than drawings, or rotations of pictures that are
            not square.
    """

    on_device = True
    objective = "cross_entropy"
    metrics: tuple[str, ...] = ("accuracy",)
    least_ways = 2  # a class is told from others
    name: str
    split: str
    ways: int
    shots: int
    queries: int
    rotations: bool
    within_group: bool
    shuffled: bool
    invert: bool
    dtype: torch.dtype | None
    images: ClassImages
    classes: Tensor

    def __init__(
        self,
        images: ClassImages,
        classes: Sequence[int],
        *,
        name: str = "few_shot",
        split: str = "train",
        ways: int = 5,
        shots: int = 1,
        queries: int = 15,
        rotations: bool = False,
        within_group: bool = False,
        shuffled: bool = False,
        invert: bool = False,
        dtype: torch.dtype | None = None,
        changes: Changes = "none",
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.split = name, split
        self.changes: Changes = changes
        self.preprocessing = preprocessing
        self.ways, self.shots, self.queries = ways, shots, queries
        self.rotations, self.within_group = rotations, within_group
        self.shuffled, self.invert, self.dtype = shuffled, invert, dtype
        self.images, self.classes = images, torch.tensor(list(classes), dtype=torch.int64)
        self._settle()

    def _settle(self) -> None:
        """Derive all else from the settings, once they have been checked."""
        images = self.images
        self.turns = 4 if self.rotations else 1
        self.num_classes: int | None = len(self.classes) * self.turns
        self.input_shape: tuple[int, ...] = images.example_shape
        self.output_size: int = self.ways
        self._check()
        self.most: int = max(images.sizes[number] for number in self.classes.tolist())
        self._tables = self._looked_up()

    def altered(self, **settings: Any) -> FewShotImages:
        """The same split with some attributes set anew; its tasks have the same keys."""
        new = copy.copy(self)
        vars(new).update(settings)
        new._settle()
        return new

    def _looked_up(self) -> dict[torch.device, _Tables]:
        members, sizes = self._groups_large_enough() if self.within_group else (torch.empty(0, 0), torch.empty(0))
        turned = pixel_sources(self.input_shape[-1]) if self.rotations else torch.empty(0, 0)
        counts = torch.tensor(self.images.sizes, dtype=torch.int64)
        starts = counts.cumsum(0) - counts
        return {self.classes.device: _Tables(self.classes, members, sizes, turned, starts, counts)}

    def resized(self, ways: int, shots: int, queries: int) -> FewShotImages:
        """See `TaskDistribution.resized`; the classes stay the same."""
        return self.altered(ways=ways, shots=shots, queries=queries)

    def _check(self) -> None:
        where = f"{self.name} ({self.split})"
        for what, value, least in (
            ("ways", self.ways, self.least_ways),
            ("shots", self.shots, 1),
            ("queries", self.queries, 1),
        ):
            if value < least:
                raise InputError(f"{where}: {what} expected at least {least}, got {value}; raise {what}")
        num = len(self.classes)
        for number in self.classes.tolist():
            if not 0 <= number < self.images.num_classes:
                raise InputError(
                    f"{where}: class numbers expected 0 to {self.images.num_classes - 1}, got {number}; "
                    "correct the split"
                )
        if len(torch.unique(self.classes)) != num:
            raise InputError(f"{where}: class numbers expected to be distinct, got repetitions; correct the split")
        if self.ways > num * self.turns:
            raise InputError(
                f"{where}: ways expected at most {num * self.turns}, the classes of this split, "
                f"got {self.ways}; use fewer ways or a split with more classes"
            )
        sizes = self.images.sizes
        fewest = min(self.classes.tolist(), key=sizes.__getitem__)
        if self.shots + self.queries > sizes[fewest]:
            whose = "of each class" if self.images.counts is None else f"of class {self.images.names[fewest]!r}"
            raise InputError(
                f"{where}: shots + queries expected at most {sizes[fewest]}, the drawings {whose}, "
                f"got {self.shots} + {self.queries}; use fewer shots or queries"
            )
        if self.changes in INK and self.input_shape[0] != 1:
            raise InputError(
                f"{where}: changes {self.changes!r} expected grey pictures of ink, got {self.input_shape[0]} channels; make them "
                "grey or choose other changes"
            )
        if self.rotations and self.input_shape[1] != self.input_shape[2]:
            raise InputError(
                f"{where}: rotations expected square pictures, got {self.input_shape[1]} x "
                f"{self.input_shape[2]}; make them square or set rotations=False"
            )

    def _groups_large_enough(self) -> tuple[Tensor, Tensor]:
        """Positions in the split, (groups, largest), padded with -1, of groups of ``ways`` or more; sizes."""
        members: dict[str, list[int]] = {}
        for position, number in enumerate(self.classes.tolist()):
            members.setdefault(self.images.groups[number], []).append(position)
        enough = [group for group in members.values() if len(group) >= self.ways]
        if not enough:
            largest = max(map(len, members.values()), default=0)
            raise InputError(
                f"{self.name} ({self.split}): ways within one group expected at most {largest}, "
                f"the size of the largest, got {self.ways}; use fewer ways or tasks across groups"
            )
        padded = torch.full((len(enough), max(map(len, enough))), -1)
        for row, group in enumerate(enough):
            padded[row, : len(group)] = torch.tensor(group)
        return padded, torch.tensor([len(group) for group in enough])

    def _on(self, device: torch.device) -> _Tables:
        """The tables on this device; copied there once."""
        found = self._tables.get(device)
        if found is None:
            found = _Tables(*(table.to(device) for table in self._tables[self.classes.device]))
            self._tables[device] = found
        return found

    def indices(self, keys: Int64[Tensor, " tasks"]) -> TaskIndex:
        """The classes, rotations and drawings of the tasks that belong to these keys, on the keys' device."""
        tables = self._on(keys.device)
        if self.within_group:
            members, sizes = tables.members, tables.sizes
            # All classes of such a task are turned alike: a group and its turn are drawn as one number.
            choice = random_keys.integers(keys, len(members) * self.turns, salt=_GROUP)
            group = choice // self.turns
            rotations = (choice % self.turns)[:, None].expand(-1, self.ways)
            drawn = draw_without_replacement(keys, members.shape[1], self.ways, _CLASSES, sizes[group])
            positions = members[group].gather(1, drawn)
        else:
            assert self.num_classes is not None
            # Drawn in random order: the place in the order is the label, so labels are permuted from task to task.
            ids = draw_without_replacement(keys, self.num_classes, self.ways, _CLASSES)
            positions, rotations = ids // self.turns, ids % self.turns
        # A key for each class of a task. Support and query are cut from one draw, so no drawing is in both.
        each_class = random_keys.fold(keys[:, None], torch.arange(self.ways, device=keys.device))
        count = self.shots + self.queries
        classes = tables.classes[positions]
        sizes = None if self.images.counts is None else tables.counts[classes]
        drawings = draw_without_replacement(each_class, self.most, count, _DRAWINGS, sizes)
        return TaskIndex(classes, rotations, positions * self.turns + rotations, drawings)

    def pictures(self, index: TaskIndex) -> Float[Tensor, "tasks ways examples channels height width"]:
        """The drawings of an index, values in [0, 1]."""
        rows = self._on(index.classes.device).starts[index.classes][..., None] + index.drawings
        turns = index.rotations[..., None].expand(rows.shape)
        return self._decoded(rows.reshape(-1), turns.reshape(-1)).reshape(*rows.shape, *self.input_shape)

    def _decoded(
        self, rows: Int64[Tensor, " pictures"], turns: Int64[Tensor, " pictures"]
    ) -> Float[Tensor, "pictures channels height width"]:
        """Pictures by their rows in `ClassImages.rows`, turned by quarters, values in [0, 1]."""
        stored = self.images.rows(rows.device)
        if self.turns == 1:
            chosen = stored.index_select(0, rows)
        elif rows.device.type == "cpu":
            chosen = turned_blocks(stored, rows, turns)
        else:
            chosen = turned_gather(stored, rows, turns, self._on(rows.device).turned)
        values = chosen.to(self.dtype or torch.get_default_dtype()).div_(255)
        return 1 - values if self.invert else values

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The tasks of these keys, on the keys' device; the same tasks on every device.

        x is (tasks, ways * examples, channels, height, width) in [0, 1], y is (tasks, ways * examples).
        """
        index = self.indices(keys)
        (support, support_y), (query, query_y) = (
            self._chosen(keys, index, slice(None, self.shots), _SUPPORT_ORDER),
            self._chosen(keys, index, slice(self.shots, None), _QUERY_ORDER),
        )
        # Both sides at once: for a task or two, what a call costs is more than what a picture costs.
        turns = [index.rotations.gather(1, y).reshape(-1) for y in (support_y, query_y)]
        pictures = self._decoded(torch.cat([support.reshape(-1), query.reshape(-1)]), torch.cat(turns))
        cut = support.numel()
        support_x = pictures[:cut].reshape(*support.shape, *self.input_shape)
        query_x = pictures[cut:].reshape(*query.shape, *self.input_shape)
        if self.changes != "none":
            both = changed(torch.cat([support_x, query_x], 1), keys, self.changes)
            support_x, query_x = both.split([support.shape[1], query.shape[1]], 1)
        return Task(
            support=Examples(support_x, support_y),
            query=Examples(query_x, query_y),
            objective=self.objective,
            class_ids=index.class_ids,
            num_classes=self.num_classes,
            noise=random_keys.fold(keys, _NOISE),
        )

    def _chosen(
        self, keys: Tensor, index: TaskIndex, part: slice, salt: int
    ) -> tuple[Int64[Tensor, "tasks examples"], Int64[Tensor, "tasks examples"]]:
        """Rows in `ClassImages.rows` and local labels of one side: of each class the drawings in this part of the index."""
        drawings = index.drawings[..., part]
        tasks, ways, each = drawings.shape
        rows = (self._on(keys.device).starts[index.classes][..., None] + drawings).reshape(tasks, -1)
        # Class by class, unless shuffled: a learner that reads the order of examples would read the labels off it.
        y = torch.arange(ways, device=keys.device).repeat_interleave(each).repeat(tasks, 1)
        if self.shuffled:
            order = random_keys.permutation(keys, ways * each, salt)
            rows, y = rows.gather(1, order), y.gather(1, order)
        return rows, y

    def class_name(self, class_id: int) -> str:
        """The name of a class of this split, by the number that `Task.class_ids` gives."""
        name = self.images.names[int(self.classes[class_id // self.turns])]
        turn = class_id % self.turns
        return f"{name} turned {90 * turn}°" if turn else name

    def default_model(self) -> nn.Module:
        """The four-layer convolutional network of Vinyals et al. (2016), arXiv:1606.04080."""
        from innerloop import models

        return models.conv4(self.input_shape, self.ways)


def few_shot_family(
    name: str,
    images: ClassImages,
    splits: Mapping[str, Sequence[int]],
    sizes: Sizes,
    *,
    rotations: bool = False,
    rotate_test: bool = False,
    within_group: bool = False,
    shuffled: bool = False,
    invert: bool = False,
    dtype: torch.dtype | None = None,
    changes: Changes = "none",
    test_changes: Changes = "none",
    preprocessing: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> TaskFamily:
    """The three splits of a few-shot problem.

    Args:
        name: of the problem.
        images: all classes.
        splits: class numbers of "train", "valid" and "test"; they must not overlap. Without a class in "valid" there is no
            validation.
        sizes: of tasks.
        rotations: turned training classes are classes of their own.
        rotate_test: turned validation and test classes too.
        within_group, shuffled, invert, dtype: see `FewShotImages`.
        changes, test_changes: of training pictures, and of those of validation and test; see `FewShotImages`.
        preprocessing: how a user's files become such pictures; None: nobody said.
        options: what makes the family again; written to run directories.

    Raises:
        InputError: a class in two splits, or what `FewShotImages` refuses.
    """
    owner: dict[int, str] = {}
    for split in ("train", "valid", "test"):
        for number in splits[split]:
            if owner.setdefault(number, split) != split:
                raise InputError(
                    f"{name}: each class expected in one split, got {images.names[number]!r} in "
                    f"{owner[number]} and {split}; take it out of one"
                )

    def distribution(split: str) -> FewShotImages:
        training = split == "train"
        return FewShotImages(
            images,
            splits[split],
            name=name,
            split=split,
            **sizes.of(split),
            rotations=rotations if training else rotate_test,
            within_group=within_group,
            shuffled=shuffled,
            invert=invert,
            dtype=dtype,
            changes=changes if training else test_changes,
            preprocessing=preprocessing,
        )

    train = distribution("train")
    valid = distribution("valid") if splits["valid"] else NoTasks(train)
    return TaskFamily(name, train, valid, distribution("test"), dict(options or {}))
