"""A function of tensors as one flat graph of tensor operations, as compilers want it.

torch.compile traces Python; vmap and nested gradients are traced here by running them once on tensors without values
(make_fx), which takes any code that does not look at a tensor's values. What comes out has no views that change nothing and
no transposes that a matrix product can take in itself: CPU products are fastest on operands as they lie.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from innerloop.core import inner_loops
from innerloop.engine.inner_loops import run_by
from innerloop.functional.derivatives import tracing

aten: Any = torch.ops.aten
_VIEWS = (aten.view.default, aten.expand.default, aten._unsafe_view.default, aten.reshape.default)
_PRODUCTS = (aten.bmm.default, aten.mm.default)
_SIMPLIFIED = 2  # a graph has at most so many times the operations that are left once it is simplified
_LINEAR = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default)


class TooLarge(Exception):
    """A graph has become larger, or has taken longer, than it may."""


def trace(
    function: Callable[..., Any], args: Any, nodes: int | None = None, seconds: float | None = None
) -> tuple[fx.GraphModule, list[Tensor], Any]:
    """(graph, its example inputs, structure of the results) of ``function(*args)``.

    Args:
        function: of pytrees of tensors, to a pytree of tensors.
        args: example arguments, a tuple; their shapes, dtypes and devices become those of the graph.
        nodes: the most operations that the graph may have; None: any number.
        seconds: the most that its inner loop may take to be traced; None: any time.

    Raises:
        TooLarge: more than that; an inner loop is left as soon as it is certain.
        Exception: whatever the function raises where it looks at values.
    """
    # The decomposition of max pooling needs this module and does not load it itself.
    import torch._inductor.lowering  # noqa: F401
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    leaves, spec = pytree.tree_flatten(args)
    out_spec = None

    def flat(*leaves: Tensor) -> tuple[Tensor, ...]:
        nonlocal out_spec
        found, out_spec = pytree.tree_flatten(function(*pytree.tree_unflatten(list(leaves), spec)))
        return tuple(found)

    with tracing(), _watched(nodes, seconds):
        graph = make_fx(flat, tracing_mode="fake", decomposition_table=select_decomp_table())(*leaves)
    simplify(graph)
    if nodes is not None and len(graph.graph.nodes) > nodes:
        raise TooLarge(f"the step has {len(graph.graph.nodes)} operations, more than {nodes}")
    return graph, leaves, out_spec


@contextlib.contextmanager
def _watched(nodes: int | None, seconds: float | None) -> Iterator[None]:
    """Within it, the inner loop is left before a step that would make a graph larger than can be simplified to ``nodes``."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    before, started = inner_loops[-1], time.monotonic()

    def loop(step: Any, state: Any, given: Any, steps: int, observe: Any = None) -> Any:
        def watched(state: Any, given: Any, i: int) -> Any:
            mode = get_proxy_mode()
            size = 0 if mode is None else len(mode.tracer.graph.nodes)
            if nodes is not None and size > _SIMPLIFIED * nodes:
                raise TooLarge(f"the step has more than {nodes} operations: {size} after {i} of {steps} inner steps")
            if seconds is not None and time.monotonic() - started > seconds:
                raise TooLarge(f"tracing took more than {seconds:.0f} s, for {i} of {steps} inner steps")
            return step(state, given, i)

        return before(watched, state, given, steps, observe)

    with run_by(loop):
        yield


def simplify(module: fx.GraphModule) -> None:
    """Take out views that change nothing, and transposes that products and sums can do without; the values stay the same."""
    graph = module.graph
    graph.eliminate_dead_code()
    nodes: list[Any] = list(graph.nodes)
    for node in nodes:
        if node.op == "call_function" and node.target in _VIEWS and _shape(node.args[0]) == _shape(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        if _is_transpose(node) and _can_be_transposed(node.args[0], _shape(node.args[0])):
            node.replace_all_uses_with(_transposed(graph, node.args[0]))
            _erase(graph, node)  # a look at the whole graph each time would take the square of its length
    while _cancel(graph):
        graph.eliminate_dead_code()
    graph.lint()
    module.recompile()


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """Take out an operation that nothing uses, and those that it alone used."""
    waiting = [node]
    while waiting:
        last = waiting.pop()
        if last.op == "call_function" and not last.users and not last._erased:
            before = last.all_input_nodes
            graph.erase_node(last)
            waiting += before


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _is_transpose(node: Any) -> bool:
    """Whether it swaps the last two of two or three dimensions."""
    return (
        node.op == "call_function" and node.target is aten.permute.default and list(node.args[1]) in ([1, 0], [0, 2, 1])
    )


def _can_be_transposed(node: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value used only here can be computed transposed, down to the products that it is a combination of."""
    if not isinstance(node, fx.Node):
        return True
    if node.op != "call_function" or len(node.users) != 1 or _shape(node) != shape:
        return False
    return node.target in _PRODUCTS or (
        node.target in _LINEAR and all(_can_be_transposed(argument, shape) for argument in node.args)
    )


def _transposed(graph: fx.Graph, node: Any) -> Any:
    """The same value, computed transposed: (ab)' = b'a'."""
    if not isinstance(node, fx.Node):
        return node
    operation: Any = node.target
    if operation in _PRODUCTS:
        left, right = node.args
        with graph.inserting_before(node):
            turned = tuple(_permuted(graph, argument) for argument in (right, left))
            made = graph.call_function(operation, turned)
    else:
        turned = tuple(_transposed(graph, argument) for argument in node.args)
        with graph.inserting_before(node):
            made = graph.call_function(operation, turned, node.kwargs)
    made.meta["val"] = _turn(node.meta["val"]).contiguous()
    return made


def _permuted(graph: fx.Graph, node: Any) -> fx.Node:
    order = [1, 0] if len(_shape(node)) == 2 else [0, 2, 1]
    made = graph.call_function(aten.permute.default, (node, order))
    made.meta["val"] = _turn(node.meta["val"])
    return made


def _turn(value: Tensor) -> Tensor:
    return value.transpose(-1, -2)


def _cancel(graph: fx.Graph) -> bool:
    """Replace permutations of permutations that undo each other; whether there were any."""
    found = False
    nodes: list[Any] = list(graph.nodes)
    for node in nodes:
        if node.op != "call_function" or node.target is not aten.permute.default:
            continue
        before = node.args[0]
        if before.op == "call_function" and before.target is aten.permute.default:
            first, second = before.args[1], node.args[1]
            if [first[i] for i in second] == list(range(len(first))):
                node.replace_all_uses_with(before.args[0])
                found = True
    return found
