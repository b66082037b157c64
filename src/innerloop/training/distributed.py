"""Several processes: only the meta-gradient crosses between them."""

from __future__ import annotations

import torch
from torch import nn


def sync_gradients(learner: nn.Module) -> None:
    """Average ``.grad`` and running statistics over all processes, in one flat all_reduce; nothing with one process.

    Call it after `MetaLearner.backward`. Wrappers such as DistributedDataParallel do not see functional inner loops.
    """
    world = processes()
    shared = [p.grad for p in learner.parameters() if p.grad is not None]
    shared += [b for name, b in learner.named_buffers() if name.endswith(("running_mean", "running_var"))]
    if world == 1 or not shared:
        return
    flat = torch.cat([g.reshape(-1) for g in shared])
    torch.distributed.all_reduce(flat)
    flat /= world
    start = 0
    for g in shared:
        g.copy_(flat[start : start + g.numel()].view_as(g))
        start += g.numel()


def processes() -> int:
    """How many processes torch.distributed joins; 1 without it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()
