"""Whether the derivatives of a derivative are there and right: products of second derivatives against differences.

What is differenced is the gradient that autograd gives, not the function: so a ``.detach()`` or a straight-through estimator
contradicts the differences as a wrong formula does. Which of them it is shows each function by itself, at the values it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils import _pytree as pytree

from innerloop.errors import first_line

# Steps of the differences, as a share of each tensor's own size: the best agreement counts, since a larger one crosses kinks
# (ReLU, max-pooling) and a smaller one is rounding. A wrong product agrees at none.
_STEPS = (1e-6, 1e-7, 1e-8, 1e-5)
APART = 1e-3  # more than this is a contradiction; float64 leaves 1e-6 of a right product
_NEGLIGIBLE = 1e-6  # of the gradient: second derivatives that are smaller are as good as none
_POINTS = 2  # where a contradiction shows at only one of them, it is a kink
_CALLS = 300  # of a model, tried one by one

Function = Callable[[Sequence[Tensor]], Tensor]


def contradiction(function: Function, at: Sequence[Tensor], inner: Sequence[int], seed: int = 0) -> float:
    """How far, relatively, a product of the second derivatives of ``function`` is from differences of its gradient.

    Args:
        function: of these tensors, to a scalar; the same at every call.
        at: float64.
        inner: which of them the first derivative is taken by; the second is by all that the function's graph reaches.

    Raises:
        RuntimeError, NotImplementedError: there is none.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(_POINTS):
        found.append(_contradiction(function, at, inner, generator))
        if found[-1] <= APART:
            return found[-1]
        at = [x + 1e-2 * _direction(x, generator) for x in at]
    return min(found)


def _contradiction(function: Function, at: Sequence[Tensor], inner: Sequence[int], generator: torch.Generator) -> float:
    at = [x.detach().requires_grad_() for x in at]
    with torch.enable_grad():
        slopes = _slopes(function(at), at, inner)
        reached = [i for i, slope in enumerate(slopes) if slope is not None]
        weights = {i: _direction(at[i], generator) for i in inner if i in reached}
        slope = _dot(weights, slopes)
        if not weights or not slope.requires_grad:
            products: Sequence[Tensor | None] = [None] * len(at)
        else:
            products = torch.autograd.grad(slope, at, allow_unused=True)
    along = {i: _direction(at[i], generator) for i in reached}
    product = float(_dot(along, products))
    size = float(sum(slopes[i].detach().norm() * w.norm() for i, w in weights.items()))  # type: ignore[union-attr]
    best = float("inf")
    for step in _STEPS:
        ends = []
        for sign in (1, -1):
            there = [x.detach() + sign * step * along[i] if i in along else x for i, x in enumerate(at)]
            there = [x.detach().requires_grad_() for x in there]
            with torch.enable_grad():
                ends.append(float(_dot(weights, _slopes(function(there), there, inner, create=False))))
        measured = (ends[0] - ends[1]) / (2 * step)
        best = min(best, abs(measured - product) / max(abs(measured), abs(product), _NEGLIGIBLE * size, 1e-300))
        if best <= APART:
            break
    return best


def _slopes(value: Tensor, at: Sequence[Tensor], inner: Sequence[int], create: bool = True) -> list[Tensor | None]:
    if not value.requires_grad:
        return [None] * len(at)
    wanted = range(len(at)) if create else inner  # beyond the inner ones, only which are reached is of interest
    found = dict(
        zip(
            wanted,
            torch.autograd.grad(value, [at[i] for i in wanted], create_graph=create, allow_unused=True),
            strict=True,
        )
    )
    return [found.get(i) for i in range(len(at))]


def _dot(weights: dict[int, Tensor], values: Sequence[Tensor | None]) -> Tensor:
    parts = [(w * v).sum() for i, w in weights.items() if (v := values[i]) is not None]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def _direction(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random, and of the tensor's own size."""
    drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    size = float(x.detach().square().mean().sqrt()) if x.numel() else 0.0
    return drawn * (size if size > 1e-2 else 1.0)


# ---- which function it is --------------------------------------------------------------------------------------------
class _Found(Exception):
    """The function that has no right second derivative, and why."""


def culprit(run: Callable[[], Any]) -> tuple[str, str, Sequence[Tensor]] | None:
    """(name, what is wrong with it, its tensors) of the first function in ``run`` whose second derivative is missing or wrong
    by itself; None: each is what it says, so what contradicts the differences is how they are put together."""
    judge = _Judge()
    try:
        with torch.enable_grad(), _own_functions(judge), judge:
            run()
    except _Found as found:
        return found.args  # type: ignore[return-value]
    return None


class _Judge(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        # In place, or about a tensor and no function of its values.
        if not (name.endswith("_") or name in ("detach", "backward", "grad", "type", "to")):
            self.judge(func, resolve_name(func) or name, args, kwargs, result)
        return result

    def judge(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        leaves, tree = pytree.tree_flatten((args, kwargs))
        places = [
            i for i, v in enumerate(leaves) if isinstance(v, Tensor) and v.requires_grad and v.dtype == torch.float64
        ]
        outputs = [v for v in pytree.tree_leaves(result) if isinstance(v, Tensor) and v.requires_grad]
        outputs = [v for v in outputs if v.is_floating_point()]
        if not places or not outputs or not torch.is_grad_enabled() or self.calls >= _CALLS:
            return
        self.calls += 1

        def weighted(at: Sequence[Tensor]) -> Tensor:
            given = list(leaves)
            for i, value in zip(places, at, strict=False):
                given[i] = value
            args, kwargs = pytree.tree_unflatten(given, tree)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                found = [v for v in pytree.tree_leaves(func(*args, **kwargs)) if isinstance(v, Tensor)]
            found = [v for v in found if v.is_floating_point() and v.requires_grad]
            return torch.stack([(v * w).sum() for v, w in zip(found, at[len(places) :], strict=False)]).sum()

        generator = torch.Generator().manual_seed(1)
        at = [leaves[i].detach().clone() for i in places]
        weights = [torch.randn(v.shape, generator=generator, dtype=v.dtype).to(v.device) for v in outputs]
        tensors = [leaves[i] for i in places]
        with torch._C.DisableTorchFunction():
            try:
                apart = contradiction(weighted, [*at, *weights], range(len(at)))
            except (RuntimeError, NotImplementedError) as error:
                raise _Found(name, first_line(error), tensors) from None
            except Exception:  # of a call that cannot be made again with other tensors, nothing is known
                return
        if apart > APART:
            raise _Found(name, f"its second derivative contradicts differences by {min(apart, 1):.1%}", tensors)


@contextmanager
def _own_functions(judge: _Judge) -> Iterator[None]:
    """Show `judge` what is called of `torch.autograd.Function`, which no mode sees, by whatever name it was called."""
    beneath = torch._C._FunctionBase.__dict__[
        "apply"
    ]  # where `Function.apply` ends, also one that was kept from before

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        call = beneath.__get__(None, cls)
        result = call(*args, **kwargs)
        judge.judge(call, cls.__name__, args, kwargs, result)
        return result

    _SingleLevelFunction.apply = classmethod(apply)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del _SingleLevelFunction.apply  # type: ignore[attr-defined]
