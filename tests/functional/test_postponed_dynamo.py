"""torch._dynamo is left alone until something needs it, and then it is the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEFORE = """
import sys, torch
import innerloop.functional
def imported(): return {"torch._dynamo", "torch._inductor"} & set(sys.modules)
x = torch.tensor([1.0, 2.0])
def cube(x): return (x**3).sum()
assert torch.equal(torch.func.grad(cube)(x), 3 * x**2)
assert torch.equal(torch.func.grad(lambda x: torch.func.grad(cube)(x).sum())(x), 6 * x)
assert torch.equal(torch.vmap(torch.func.grad(lambda v: v**3))(x), 3 * x**2)
assert torch.equal(torch.func.vjp(cube, x)[1](torch.tensor(2.0))[0], 6 * x**2)
assert not imported(), imported()
"""
_AFTER = """
import types, torch._dynamo
assert torch._dynamo is sys.modules["torch._dynamo"] and type(torch._dynamo) is types.ModuleType
assert torch._dynamo.compiled_autograd is sys.modules["torch._dynamo.compiled_autograd"]
assert torch.equal(torch.func.grad(cube)(x), 3 * x**2)
assert torch.equal(torch.compile(torch.func.grad(cube), backend="eager", fullgraph=True)(x), 3 * x**2)
"""
# How a program comes to need it.
_NEEDS = {
    "nothing": "",
    "an import": "import torch._dynamo",
    "a name of it": "from torch import _dynamo; assert callable(_dynamo.disable)",
    "an attribute": "assert callable(torch._dynamo.disable) and imported()",
    "its compiled autograd": "assert callable(torch._dynamo.compiled_autograd._enable) and imported()",
    "an optimizer": "torch.optim.Adam([x.clone().requires_grad_()])",
    "a compiled function": "assert torch.equal(torch.compile(torch.sin, backend='eager')(x), x.sin())",
    "one who held the stand-in": "kept = torch._dynamo.compiled_autograd; import torch._dynamo; "
    "assert kept._disable is torch._dynamo.compiled_autograd._disable",
}


@pytest.mark.parametrize("need", _NEEDS)
def test_gradients_do_without_it_and_whatever_needs_it_has_the_real_one(need):
    code = _BEFORE + _NEEDS[need] + (_AFTER if need != "nothing" else "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_it_is_there_already_nothing_is_changed():
    code = (
        "import torch, torch._dynamo; real = torch._dynamo; import innerloop.functional; assert torch._dynamo is real"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
