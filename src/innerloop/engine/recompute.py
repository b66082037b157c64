"""Loops whose graph is not kept: the backward pass computes segments of them again.

A second-order inner loop keeps every intermediate result of every step for the outer backward pass. Here only the state
between segments is kept, and each segment's graph is built again when the backward pass reaches it, one at a time (Griewank
and Walther 2000, "Algorithm 799: Revolve"). The numbers are the same; a step is computed twice or three times.

torch.utils.checkpoint does not do under vmap, where the tensors that a step sees do not outlive the forward pass. A
`torch.autograd.Function` with a vmap rule does: the rule moves the vmap inside, so that what is kept, and differentiated
again, is the segment of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import Function
from torch.utils import _pytree as pytree

from innerloop.engine.inner_loops import run_by

# Steps whose graph is held at once when the caller does not say. The state between segments takes a quarter (Conv4) to two
# thirds (the sine MLP) of the memory of a step's graph, so where there would be many segments they are nested.
_STEPS = 4
_MOST_SEGMENTS = 8
_wanted: list[bool | int] = [False]


@contextmanager
def recomputing(wanted: bool | int) -> Iterator[None]:
    """Whether `loop` computes segments again in the backward pass.

    Args:
        wanted: True: segments of a length chosen by `segment_lengths`; a number: of that many steps; False: no.
    """
    _wanted.append(wanted)
    try:
        with run_by(loop):
            yield
    finally:
        _wanted.pop()


def wanted() -> bool | int:
    """What the innermost `recomputing` asks for."""
    return _wanted[-1]


def segment_lengths(steps: int, wanted: bool | int) -> tuple[int, ...]:
    """Steps in a segment, and in the segments within it, and so on; empty where the whole graph is kept."""
    if wanted is False:
        return ()
    if wanted is not True:
        return (wanted,) if steps > wanted else ()
    lengths: tuple[int, ...] = (_STEPS,) if steps > _STEPS else ()
    while lengths and math.ceil(steps / lengths[0]) > _MOST_SEGMENTS:
        # A segment is computed again as a whole, and what its parts begin from is kept meanwhile: as many parts as steps in each
        # (the square root) makes the two together smallest.
        inside = math.ceil(math.sqrt(steps / lengths[0]))
        lengths = (lengths[0] * min(inside, _MOST_SEGMENTS), *lengths)
    return lengths


def loop(
    step: Callable[[Any, Any, int], Any],
    state: Any,
    given: Any,
    steps: int,
    observe: Callable[[Any, int], None] | None = None,
) -> Any:
    """`core.inner_loop`, in segments where `recomputing` asks for them.

    Args:
        step: a pure function. What it is differentiated by has to come in ``state`` or ``given``.
        state: a pytree.
        given: a pytree, the same at every step.
        steps: how many.
        observe: called with the state and the number of steps done, at the beginning and after every step. Its graph is the
            caller's, so with it each step is a segment.
    """
    lengths = segment_lengths(steps, _wanted[-1]) if torch.is_grad_enabled() else ()
    if observe is None:
        return _run(step, state, given, 0, steps, lengths)
    observe(state, 0)
    for i in range(steps):
        state = _run(step, state, given, i, i + 1, (1,) if lengths else ())
        observe(state, i + 1)
    return state


def _run(
    step: Callable[[Any, Any, int], Any],
    state: Any,
    given: Any,
    first: int,
    end: int,
    lengths: Sequence[int],
    within: bool = False,
) -> Any:
    """Steps ``first`` to ``end``, in segments where a graph is built; ``within`` another segment or not."""
    if not lengths or not torch.is_grad_enabled():
        for i in range(first, end):
            state = step(state, given, i)
        return state
    for start in range(first, end, lengths[0]):
        last = min(start + lengths[0], end)

        def part(state: Any, given: Any, start: int = start, last: int = last) -> Any:
            return _run(step, state, given, start, last, lengths[1:], True)

        # Within a segment that is computed again the backward pass comes right after, so its last part need not wait.
        state = part(state, given) if within and last == end else computed_again(part, state, given)
    return state


def computed_again(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, of which only the arguments are kept for the backward pass.

    Args:
        function: a pure function of pytrees, to a pytree. What it is differentiated by has to be an argument.
        args: its arguments.
    """
    if not torch.is_grad_enabled():
        return function(*args)
    tensors, build_args = _taken_apart(args)
    build_result: list[Callable[[Sequence[Tensor]], Any]] = []
    generators = _Generators([t.device for t in tensors])

    def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
        with generators.as_the_first_time():
            found, build = _taken_apart(function(*build_args(tensors)))
        build_result[:] = [build]
        return tuple(found)

    found = _Segment.apply(flat, *tensors)
    return build_result[0](found)


class _Generators:
    """torch's own random numbers, the same each time: a model may draw some by itself."""

    def __init__(self, devices: Sequence[torch.device]) -> None:
        self.gpus = sorted({d for d in devices if d.type == "cuda"}, key=str)
        self.states: list[Tensor] = []

    @contextmanager
    def as_the_first_time(self) -> Iterator[None]:
        if not self.states:
            self.states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in self.gpus)]
            yield
            return
        with torch.random.fork_rng(self.gpus):
            torch.set_rng_state(self.states[0])
            for state, device in zip(self.states[1:], self.gpus, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def _taken_apart(tree: Any) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], Any]]:
    """A pytree's tensors, and what puts others in their places; it holds on to none of them."""
    leaves, spec = pytree.tree_flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def build(tensors: Sequence[Tensor]) -> Any:
        values = list(others)
        for i, tensor in zip(places, tensors, strict=True):
            values[i] = tensor
        return pytree.tree_unflatten(values, spec)

    return [leaves[i] for i in places], build


class _Segment(Function):
    """``flat(*tensors)``, differentiated by computing it again."""

    generate_vmap_rule = False

    @staticmethod
    def forward(flat: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> tuple[Tensor, ...]:
        # What is handed through unchanged becomes a tensor of its own: autograd gives each result a place in the graph.
        given = {id(t) for t in tensors}
        return tuple(t.view_as(t) if id(t) in given else t for t in flat(*tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.flat, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(t for t in output if not t.is_floating_point()))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[1:]
        # Inside a transform of torch.func the graph is torch.func's own.
        again = _by_vjp if peek_interpreter_stack() is not None else _by_autograd
        found = iter(again(ctx.flat, tensors, wanted, grads))
        return None, *(next(found) if needed else None for needed in wanted)

    @staticmethod
    def vmap(info: Any, in_dims: Any, flat: Callable[..., Any], *tensors: Tensor) -> Any:
        batched = torch.vmap(flat, in_dims=tuple(in_dims[1:]), randomness=info.randomness)
        found = _Segment.apply(batched, *tensors)
        return found, tuple(0 for _ in found)


def _by_autograd(
    flat: Callable[..., Any], tensors: Sequence[Tensor], wanted: Sequence[bool], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """The products of ``grads`` with the derivatives of ``flat`` by the tensors that are wanted."""
    create = torch.is_grad_enabled()  # somebody differentiates this gradient in turn
    with torch.enable_grad():
        # One tensor may come in several places (meta, and where the inner loop begins): each has a gradient of its own.
        here = [
            (t.view_as(t) if create else t.detach().requires_grad_()) if needed else t.detach()
            for t, needed in zip(tensors, wanted, strict=True)
        ]
        results = flat(*here)
    pairs = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None and r.requires_grad]
    asked = [t for t, needed in zip(here, wanted, strict=True) if needed]
    if not pairs:
        return [None] * len(asked)
    outputs, weights = zip(*pairs, strict=True)
    del results, pairs
    return torch.autograd.grad(outputs, asked, weights, create_graph=create, allow_unused=True)


def _by_vjp(
    flat: Callable[..., Any], tensors: Sequence[Tensor], wanted: Sequence[bool], grads: Sequence[Tensor | None]
) -> Sequence[Tensor | None]:
    """As `_by_autograd`, inside a transform of torch.func."""
    places = [i for i, g in enumerate(grads) if g is not None]

    def of_wanted(*asked: Tensor) -> tuple[Tensor, ...]:
        rest = iter(asked)
        results = flat(*(next(rest) if needed else t for t, needed in zip(tensors, wanted, strict=True)))
        return tuple(results[i] for i in places)

    asked = [t for t, needed in zip(tensors, wanted, strict=True) if needed]
    product = torch.func.vjp(of_wanted, *asked)[1]
    return product(tuple(grads[i] for i in places))
