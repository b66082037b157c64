"""The ways to take the same outer step, by name; none is imported before it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from innerloop.registry import Entry, load

if TYPE_CHECKING:
    from benchmarks.speed.contenders.contender import Contender

_HERE = "benchmarks.speed.contenders"

CONTENDERS: dict[str, Entry] = {
    "ours": Entry(f"{_HERE}.ours:Ours", "innerloop as fit runs it"),
    "ours_looped": Entry(f"{_HERE}.ours:Looped", "innerloop, one task after the other"),
    "ours_vmapped": Entry(f"{_HERE}.ours:Vmapped", "innerloop, all tasks at once"),
    "ours_per_task": Entry(f"{_HERE}.ours:PerTask", "innerloop, all tasks at once but for convolutions"),
    "ours_compiled": Entry(f"{_HERE}.ours:Compiled", "innerloop, all tasks at once, compiled"),
    "ours_recompute": Entry(f"{_HERE}.ours:Recompute", "innerloop, inner steps recomputed to save memory"),
    "ours_implicit": Entry(
        f"{_HERE}.ours:Implicit", "innerloop, implicit MAML: another meta-gradient, of the end alone"
    ),
    "plain_loop": Entry(f"{_HERE}.plain_loop:PlainLoop", "PyTorch by hand: a loop over tasks, torch.autograd.grad"),
    "torch_func": Entry(f"{_HERE}.torch_func:TorchFunc", "PyTorch by hand: torch.func.vmap and grad"),
    "higher": Entry(f"{_HERE}.higher_peer:Higher", "higher"),
    "torchopt": Entry(f"{_HERE}.torchopt_peer:TorchOpt", "TorchOpt"),
    "parallel_metalearn": Entry(f"{_HERE}.parallel_metalearn_peer:ParallelMetalearn", "parallel-metalearn"),
    "learn2learn": Entry(f"{_HERE}.learn2learn_peer:Learn2Learn", "learn2learn"),
    "jax": Entry(f"{_HERE}.jax_peer:JaxOptax", "JAX jit over vmap, with optax"),
    "jax_map": Entry(f"{_HERE}.jax_peer:JaxMap", "JAX jit over lax.map, with optax"),
    "easyfsl_style": Entry(f"{_HERE}.easyfsl_style:EasyfslStyle", "one task after the other, written as easyfsl does"),
}

GRADIENT = (
    "ours",
    "ours_looped",
    "ours_vmapped",
    "ours_per_task",
    "ours_compiled",
    "plain_loop",
    "torch_func",
    "higher",
    "torchopt",
    "parallel_metalearn",
    "learn2learn",
    "jax",
    "jax_map",
)


def make(names: Sequence[str]) -> list[Contender]:
    """A fresh contender for each name.

    Raises:
        ConfigError: an unknown name.
    """
    return [load("contender", CONTENDERS, name)() for name in names]
