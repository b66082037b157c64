"""Inner mini-batches hold rows that count, and no padding, whatever the longest task of a batch is."""

import pytest
import torch

import innerloop as il
from innerloop import keys
from innerloop.core import Examples, Task


def padded(rows: int, places: int) -> Task:
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(1, places, 2, generator=generator, dtype=torch.float64)
    mask = (torch.arange(places) < rows)[None]
    side = Examples(torch.where(mask[..., None], x, 0.0), torch.where(mask, x[..., 0], 0.0)[..., None], mask)
    return Task(side, side, "mse", noise=keys.task_keys(0, "test", 0, 0, 1))


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("rows", "size"), [(3, 4), (7, 3), (12, 5)])
def test_a_pass_is_of_the_rows_that_count(rows, size):
    learner = il.reptile(il.models.mlp(2, 1), inner_batch=size, inner_steps=6).learner
    task = padded(rows, 40)
    one = torch.utils._pytree.tree_map(lambda v: v[0], task)
    seen = torch.cat([learner.batch(one, i).x for i in range(6)])
    known = {tuple(row) for row in one.support.x[:rows].tolist()}
    assert {tuple(row) for row in seen.tolist()} <= known  # no padding
    for first in range(0, 6 * size - rows + 1, rows):
        assert {tuple(row) for row in seen[first : first + rows].tolist()} == known  # each pass has each row once
    again = torch.cat([learner.batch(one, torch.tensor(i)).x for i in range(6)])
    assert torch.equal(seen, again)


@pytest.mark.usefixtures("double")
def test_what_a_task_learns_does_not_depend_on_its_padding():
    learner = il.reptile(il.models.mlp(2, 1), inner_batch=4, inner_steps=10, inner_lr=0.02)
    steps = []
    for places in (6, 40):
        task = padded(5, places)
        before, after = (learner.predict_queries(task, n)[0, :5] for n in (0, 10))
        steps.append((after - before).abs().mean())
    assert 0.5 < float(steps[1] / steps[0]) < 2
    looped, vmapped = [], []
    both = torch.utils._pytree.tree_map(lambda a, b: torch.cat([a, b]), padded(5, 40), padded(30, 40))
    for strategy, found in (("looped", looped), ("vmapped", vmapped)):
        learner.strategy = strategy
        found.append(learner.predict_queries(both, 10))
    assert torch.allclose(looped[0], vmapped[0], rtol=1e-9)
