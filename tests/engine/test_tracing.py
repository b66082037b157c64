"""What is handed to a compiler: the same values, from fewer operations."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import fx

from innerloop.core import inner_loops
from innerloop.engine.tracing import TooLarge, aten, trace


def count(graph, *targets) -> int:
    return sum(node.target in targets for node in graph.graph.nodes)


def products(a, b, c):
    """Transposed products in sums, as the backward pass of a linear layer makes them; one is used as it is, too."""
    ab = torch.bmm(a, b)
    both = (0.5 * torch.bmm(a, b) - torch.bmm(a, c)).transpose(-1, -2)
    return both.transpose(1, 2) + ab, torch.bmm(both, a).t_() if a.ndim == 2 else torch.bmm(both, a), ab.mT


def test_values_stay_the_same_and_transposes_go():
    torch.manual_seed(0)
    args = tuple(torch.randn(3, 4, 4, dtype=torch.float64) for _ in range(3))
    graph, leaves, _ = trace(products, args)
    for found, expected in zip(graph(*leaves), products(*args), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-14)


def test_a_transposed_product_is_computed_transposed():
    args = tuple(torch.randn(2, 3, 3) for _ in range(2))
    graph, leaves, _ = trace(lambda a, b: torch.bmm(a.mT, b).mT * 2, args)
    # bmm(b', a): the transpose of a has gone, that of the product has become one of b
    assert count(graph, aten.permute.default, aten.transpose.int) == 1
    assert torch.allclose(graph(*leaves)[0], torch.bmm(args[0].mT, args[1]).mT * 2)


def test_views_that_change_nothing_go():
    x = torch.randn(2, 3)
    graph, leaves, _ = trace(lambda x: x.view(2, 3).expand(2, 3).view(6).sin(), (x,))
    assert count(graph, aten.view.default, aten.expand.default) == 1
    assert torch.equal(graph(*leaves)[0], x.view(6).sin())


def test_structures_come_back():
    from torch.utils._pytree import tree_unflatten

    graph, leaves, spec = trace(
        lambda d, x: {"sum": d["a"] + x, "pair": (x, d["a"])}, ({"a": torch.ones(2)}, torch.zeros(2))
    )
    found = tree_unflatten(graph(*leaves), spec)
    assert found["sum"].tolist() == [1, 1] and found["pair"][1].tolist() == [1, 1]


def test_code_that_looks_at_values_cannot_be_traced():
    with pytest.raises(Exception, match=r"data-dependent|Unbacked|item"):
        trace(lambda x: x * (2 if x.sum() > 0 else 1), (torch.ones(2),))


POOLED = """
import torch
from innerloop.core import inner_loops
from innerloop.engine.tracing import TooLarge, trace

def slope(x):
    return torch.func.grad(lambda z: torch.nn.functional.max_pool2d(z, 2).square().sum())(x)

x = torch.randn(2, 1, 8, 8)
torch.testing.assert_close(trace(slope, (x,))[0](x)[0], slope(x))
"""


@pytest.mark.slow
def test_max_pooling_is_traced_in_a_process_that_has_not_compiled_yet():
    done = subprocess.run([sys.executable, "-c", POOLED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]


def _descended(steps: int):
    """A function of a matrix whose value after so many inner steps depends on every one of them."""

    def step(state, given, i):
        return state - 0.1 * (state @ given).T.contiguous() @ given

    return lambda x, a: inner_loops[-1](step, x, a, steps, None)


def test_nothing_dead_is_left_and_the_time_grows_with_the_length(monkeypatch):
    looks = []
    whole = fx.Graph.eliminate_dead_code
    monkeypatch.setattr(fx.Graph, "eliminate_dead_code", lambda graph, *a: looks.append(1) or whole(graph, *a))
    counts = {}
    for steps in (4, 24):
        looks.clear()
        graph, *_ = trace(_descended(steps), (torch.randn(5, 5), torch.randn(5, 5)))
        counts[steps] = len(looks)
        assert not whole(graph.graph)
    assert counts[24] <= counts[4] + 2  # looks at the whole graph, each of its length


def test_a_graph_that_is_too_large_is_left_within_its_inner_loop():
    args = (torch.randn(5, 5), torch.randn(5, 5))
    assert trace(_descended(3), args, nodes=40)
    seen = []

    def counted(x, a):
        return inner_loops[-1](lambda s, g, i: (seen.append(i), s - s @ g)[1], x, a, 1000, None)

    with pytest.raises(TooLarge, match=r"more than 40 operations: \d+ after \d+ of 1000 inner steps"):
        trace(counted, args, nodes=40)
    assert len(seen) < 60
    seen.clear()
    with pytest.raises(TooLarge, match="tracing took more than 0 s, for 0 of 1000 inner steps"):
        trace(counted, args, seconds=0)
    assert not seen and len(inner_loops) == 1
