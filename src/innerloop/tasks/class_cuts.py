"""Which classes of a user's data are for training, validation and the test."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from innerloop.data.class_splits import seeded_order
from innerloop.errors import InputError

Wanted = int | Sequence[str] | None
_LEAST = 2  # a task tells at least two classes apart


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
            from innerloop.errors import nearest

            raise InputError(
                f"{where}: {split}_classes has {pattern!r}, which no class is called: {nearest(pattern, names)}"
            )
        found.update(hits)
    return [name for name in names if name in found]
