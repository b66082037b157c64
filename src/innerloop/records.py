"""Records: frozen dataclasses of tensors that vmap and grad can look into."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

from torch.utils import _pytree

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that vmap and grad can look into.

    Fields are pytrees of tensors; a field declared with ``static()`` is carried along unseen (a name, a number of steps), and
    so is one declared with ``shared()``, a pytree of tensors that has no tasks axis.
    Fields that are None are left out, because vmap refuses to batch None.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    statics = tuple(f.name for f in fields if f.metadata.get("static"))
    carried = tuple(f.name for f in fields if f.metadata.get("shared"))
    dynamic = tuple(f.name for f in fields if not f.metadata)

    def flatten(value: Any) -> tuple[list[Any], Any]:
        present = tuple(name for name in dynamic if getattr(value, name) is not None)
        unseen = tuple(_Carried(getattr(value, name)) for name in carried if getattr(value, name) is not None)
        context = (present, tuple(getattr(value, name) for name in statics), unseen)
        return [getattr(value, name) for name in present], context

    def unflatten(children: Any, context: Any) -> Any:
        # Not by the constructor: vmap also rebuilds records of plain integers (its in_dims), which have no tensors' types.
        present, static_values, unseen = context
        new = object.__new__(made)
        for name in (*dynamic, *carried):
            object.__setattr__(new, name, None)
        for name, held in zip(carried, unseen, strict=False):
            object.__setattr__(new, name, held.value)
        for names, values in ((present, children), (statics, static_values)):
            for name, value in zip(names, values, strict=True):
                object.__setattr__(new, name, value)
        return new

    def flatten_with_keys(value: Any) -> tuple[list[Any], Any]:
        children, context = flatten(value)
        names = map(_pytree.GetAttrKey, context[0])
        return list(zip(names, children, strict=True)), context

    _pytree.register_pytree_node(made, flatten, unflatten, flatten_with_keys_fn=flatten_with_keys)
    return made


def shared() -> Any:
    """A record's field of tensors that all tasks of a batch have in common: never batched, repeated or cut."""
    return dataclasses.field(default=None, metadata={"shared": True}, kw_only=True)


class _Carried:
    """Tensors in a place where Python compares and prints: equal where they are the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Carried) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __repr__(self) -> str:
        return f"shared({', '.join(str(tuple(leaf.shape)) for leaf in _pytree.tree_leaves(self.value))})"


def static(default: Any = dataclasses.MISSING) -> Any:
    """A record's field that is not a tensor and is the same for all tasks of a batch."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"static": True})
    return dataclasses.field(default=default, metadata={"static": True})
