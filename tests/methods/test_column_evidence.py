"""Column evidence: its parts against plain loops, and what must not matter to it."""

from __future__ import annotations

import pytest
import torch
from metric_tasks import drawn, padded
from torch.nn.functional import one_hot

import innerloop as il
from innerloop.methods.column_evidence import (
    evidence_of_columns,
    grown,
    leaf_shares,
    leaves_of,
    ridge_left_out,
    soft_ranks,
)

pytestmark = pytest.mark.usefixtures("double")


def learner(columns: int = 4, **options) -> il.MetaLearner:
    torch.manual_seed(3)
    made = il.column_evidence(il.models.mlp(columns, None, hidden=()), **{"trees": 6, "depth": 2, **options})
    with torch.no_grad():  # as after some training: what a column shows must count
        for p in made.parameters():
            p += 0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
    return made


def test_evidence_of_one_column_is_the_written_formula():
    x, labels = torch.tensor([0.0, 1.0, 3.0, 3.5, -1.0]), torch.tensor([0, 0, 1, 1, 1])
    query, width, a = 0.4, 0.7, 1.5
    found = evidence_of_columns(
        (torch.tensor([query]) - x).abs()[None, :, None], torch.ones(1, 5), one_hot(labels, 3).to(x.dtype),
        torch.tensor([width]), torch.tensor([a]),
    )[0, 0, :, 0]  # fmt: skip
    kernel = torch.exp(-(query - x).abs() / width)
    anywhere = kernel.mean() + 0.01
    density = torch.stack([(kernel[labels == c].sum() + a * anywhere) / ((labels == c).sum() + a) for c in (0, 1)])
    assert torch.allclose(found[:2], torch.log(density / density.mean()))


def test_ridge_leaves_a_row_out_as_a_fit_without_it():
    x, members = torch.randn(7, 3), one_hot(torch.tensor([0, 1, 0, 2, 1, 2, 0])).double()
    _, found = ridge_left_out(x @ x.T, members, torch.tensor(0.4))
    y = members - members.mean(0)
    for i in range(7):
        rest = torch.arange(7) != i
        weights = torch.linalg.solve(x[rest].T @ x[rest] + 0.4 * torch.eye(3), x[rest].T @ y[rest])
        assert torch.allclose(found[i], x[i] @ weights)


def test_kernel_ridge_leaves_a_row_out_as_a_fit_without_it():
    x, members = torch.randn(7, 3), one_hot(torch.tensor([0, 1, 0, 2, 1, 2, 0])).double()
    kernel = torch.exp(-torch.cdist(x, x, p=1))
    _, found = ridge_left_out(kernel, members, torch.tensor(0.4))
    y = members - members.mean(0)
    for i in range(7):
        rest = torch.arange(7) != i
        solution = torch.linalg.solve(kernel[rest][:, rest] + 0.4 * torch.eye(6), y[rest])
        assert torch.allclose(found[i], kernel[i, rest] @ solution)


def test_soft_ranks_are_ranks_where_they_are_hard_and_heed_only_rows_that_count():
    support = torch.tensor([[0.0], [1.0], [1.0], [1e6], [-5.0]])
    counted = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    x = torch.tensor([[-2.0], [0.0], [1.0], [50.0], [1e9]])
    found = soft_ranks(x, support, counted, torch.tensor(1e-12))[:, 0]
    assert torch.allclose(found, torch.tensor([-4.0, -3.0, 0.0, 2.0, 4.0]) / 4)
    wide = soft_ranks(x[:3], support[:3], torch.ones(3), torch.tensor(1e6))[:, 0] * 1e6
    assert torch.allclose(wide, x[:3, 0] - support[:3].mean(), atol=1e-4), "a large softness keeps the numbers"


def test_trees_cut_where_classes_part_and_keep_to_columns_that_vary():
    x = torch.zeros(12, 3)
    x[:, 1] = torch.arange(12.0)
    members = one_hot((torch.arange(12) >= 5).long(), 3).double()
    trees = grown(x, members, torch.tensor([False, True, False]), trees=40, depth=4, candidates=8)
    assert set(trees.columns.flatten().tolist()) == {1}
    assert torch.equal(trees.counts.sum(1), members.sum(0).expand(40, -1)), "each row is in one leaf of each tree"
    found = leaf_shares(trees, x)
    assert found[:4, 0].min() > 0.9 and found[6:, 1].min() > 0.9 and found[:, 2].max() < 0.05
    own = leaves_of(trees, x)
    assert torch.equal(trees.counts.gather(1, own[..., None].expand(-1, -1, 3)).sum(-1) > 0, own >= 0)
    # A row alone in its leaf knows nothing without itself: classes with rows are alike there.
    alone = grown(x[4:6], members[4:6], torch.tensor([False, True, False]), trees=3, depth=1, candidates=2)
    assert torch.allclose(leaf_shares(alone, x[4:6], members[4:6]), torch.tensor([0.5, 0.5, 0.0]))


def test_padding_of_rows_columns_and_classes_changes_nothing():
    task = drawn(3, 4, 2)
    plain = learner().predict_queries(task)
    rows = learner().predict_queries(padded(task))
    assert torch.allclose(rows[:, : plain.shape[1]], plain, atol=1e-9)
    wide = il.Task(*(il.Examples(torch.nn.functional.pad(s.x, (0, 3)), s.y) for s in (task.support, task.query)))
    assert torch.allclose(learner(7).predict_queries(wide), plain, atol=1e-9)
    more = il.Task(task.support, task.query, class_ids=torch.arange(5).expand(3, -1))
    found = learner().predict_queries(more)
    assert torch.allclose(found[..., :3], plain, atol=1e-9) and bool((found[..., 3:] == -torch.inf).all())


def test_a_telling_column_is_trusted_more_after_meta_training():
    """Two of four columns are noise in every task; the others differ from task to task in what they say."""
    torch.manual_seed(0)
    made = il.column_evidence(il.models.mlp(4, None, hidden=()), trees=2, depth=1)
    test = drawn(3, 3, 5, num_tasks=60, seed=9, nuisance=1.0)

    def right() -> float:
        return float((made.predict_queries(test).argmax(-1) == test.query.y).double().mean())

    before, optimizer = right(), torch.optim.Adam(made.parameters(), lr=0.03)
    for step in range(20):
        optimizer.zero_grad()
        made.backward(drawn(3, 3, 3, num_tasks=8, seed=100 + step, nuisance=1.0))
        optimizer.step()
    assert right() > before + 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": ()}, "widths expected at least one number"),
        ({"widths": (0.1, -1.0)}, "all above 0"),
        ({"depth": 20}, "depth expected at most 12"),
        ({"trees": 0}, "trees expected an integer of at least 1"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(il.ConfigError, match=message):
        il.column_evidence(il.models.mlp(4, None, hidden=()), **options)


def test_many_rows_are_taken_in_parts_to_the_same_answer(monkeypatch):
    """Rows beyond what is held at once, of support and queries alike, change nothing but rounding."""
    from innerloop.methods import column_evidence as file

    torch.manual_seed(0)
    learner = il.column_evidence(il.models.mlp(3, None, hidden=()), trees=4, depth=2)
    x, z = torch.randn(20, 3), torch.randn(30, 3)
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).long()
    found = []
    for at_once in (1 << 25, 400):
        monkeypatch.setattr(file, "_AT_ONCE", at_once)
        held: list[int] = []
        evidence = file.evidence_of_columns
        monkeypatch.setattr(
            file, "evidence_of_columns", lambda d, *rest, e=evidence, h=held: (h.append(d.numel()), e(d, *rest))[1]
        )
        found.append(learner.adapt(x, y).predict_proba(z))
        assert max(held) * 3 <= at_once
        monkeypatch.setattr(file, "evidence_of_columns", evidence)
    assert torch.allclose(*found, rtol=1e-9)
