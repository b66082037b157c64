"""Cutting numbered things into splits by a seed, the same on every machine and version of Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def seeded_order(items: Sequence[T], seed: int) -> list[T]:
    """The items in an order that depends on the seed and their texts alone, not on the order they come in."""
    return sorted(items, key=lambda item: hashlib.blake2b(f"{seed}/{item}".encode(), digest_size=16).digest())
