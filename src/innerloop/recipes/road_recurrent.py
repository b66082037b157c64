"""A recurrent network on the drives of `beside_road`, with a wider sweep and a longer training than it has there.

There the best rate lay at the edge of the grid. Here three rates train for a third of the steps, the one that is best on
validation drives for all of them, and the same test drives are gone through once.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F

from innerloop.recipes import beside_road

_RATES, _STEPS, _SHORT = (1e-2, 3e-2, 1e-1), 900, 300


def trained(train: beside_road.Drives, rate: float, steps: int) -> beside_road.Recurrent:
    """The network after so many steps of 32 drives at a falling rate."""
    torch.manual_seed(0)
    net = beside_road.Recurrent()
    optimizer = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(train.x), (32,))
        loss = F.mse_loss(net(train.x[rows], train.y[rows]), train.y[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        falling.step()
    return net.requires_grad_(False)


def rows() -> list[dict[str, Any]]:
    """Squared errors by phase on the test drives, and the seconds of training."""
    from innerloop import tasks as problems
    from innerloop.evaluation.online import PHASES, scores

    world = problems.road()
    train = beside_road.drives(world.train, beside_road._TRAIN)
    valid, test = beside_road.drives(world.valid, beside_road.VALID), beside_road.drives(world.test, beside_road.TEST)
    begun = time.process_time()

    def errors(net: beside_road.Recurrent, side: beside_road.Drives) -> torch.Tensor:
        return (net(side.x, side.y) - side.y).square().mean(-1)

    tried = {rate: beside_road.total(errors(trained(train, rate, _SHORT), valid), valid.changes) for rate in _RATES}
    rate = min(tried, key=tried.__getitem__)
    found = scores(errors(trained(train, rate, _STEPS), test), test.changes)
    seconds = time.process_time() - begun
    made = [
        {
            "metric": f"squared error, {beside_road._said(phase)}: gru, {_STEPS} steps (rate {rate})",
            "value": float(f"{found[phase].mean:.4g}"),
            "ci95": round(found[phase].ci95, 4),
            "num_tasks": beside_road.TEST,
            "transductive": False,
        }
        for phase in PHASES
    ]
    sweep = {
        "metric": f"processor seconds of training: gru, {_STEPS} steps",
        "value": float(f"{seconds:.4g}"),
        "ci95": "",
        "num_tasks": 1,
        "transductive": False,
    }
    return [*made, sweep]
