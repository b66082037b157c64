"""Records: frozen dataclasses of tensors that vmap and grad can look into."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, dataclass_transform

from torch.utils import _pytree

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that vmap and grad can look into.

    Fields are pytrees of tensors; a field declared with ``static()`` is carried along unseen (a name, a number of steps).
    Fields that are None are left out, because vmap refuses to batch None.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    statics = tuple(f.name for f in fields if f.metadata.get("static"))
    dynamic = tuple(f.name for f in fields if not f.metadata.get("static"))

    def flatten(value: Any) -> tuple[list[Any], Any]:
        present = tuple(name for name in dynamic if getattr(value, name) is not None)
        context = (present, tuple(getattr(value, name) for name in statics))
        return [getattr(value, name) for name in present], context

    def unflatten(children: Any, context: Any) -> Any:
        # Not by the constructor: vmap also rebuilds records of plain integers (its in_dims), which have no tensors' types.
        present, static_values = context
        new = object.__new__(made)
        for name in dynamic:
            object.__setattr__(new, name, None)
        for names, values in ((present, children), (statics, static_values)):
            for name, value in zip(names, values, strict=True):
                object.__setattr__(new, name, value)
        return new

    _pytree.register_pytree_node(made, flatten, unflatten)
    return made


def static(default: Any = dataclasses.MISSING) -> Any:
    """A record's field that is not a tensor and is the same for all tasks of a batch."""
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata={"static": True})
    return dataclasses.field(default=default, metadata={"static": True})
