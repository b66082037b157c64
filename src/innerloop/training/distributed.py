"""Several processes: only the meta-gradient crosses between them."""

from __future__ import annotations

import torch
from torch import nn


def sync_gradients(learner: nn.Module) -> None:
    """Average ``.grad`` over all processes of torch.distributed, in one flat all_reduce; nothing with one process.

    Call it after `MetaLearner.backward`. Wrappers such as DistributedDataParallel do not see functional inner loops.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    world = torch.distributed.get_world_size()
    grads = [p.grad for p in learner.parameters() if p.grad is not None]
    if world == 1 or not grads:
        return
    flat = torch.cat([g.reshape(-1) for g in grads])
    torch.distributed.all_reduce(flat)
    flat /= world
    start = 0
    for g in grads:
        g.copy_(flat[start : start + g.numel()].view_as(g))
        start += g.numel()
