"""Made-up tables: they can be learned from, are as wide and as coarse as said, and lead to learners of real tables."""

from __future__ import annotations

import pytest
import torch

import innerloop as il


def test_columns_tell_about_classes_and_widths_differ():
    tasks = il.tasks.synthetic_tables(ways=2, shots=40, queries=20, columns=8).test.at(0, 0, 40)
    used = (tasks.support.x.abs().sum(1) > 0).sum(1)
    assert used.min() <= 3 and used.max() == 8
    means = torch.stack([tasks.support.x[tasks.support.y == c].reshape(40, 40, 8).mean(1) for c in (0, 1)])
    nearest = torch.stack([(tasks.query.x - m[:, None]).square().sum(-1) for m in means], -1).argmin(-1)
    right = (nearest == tasks.query.y).float().mean(1)
    assert right.mean() > 0.6 and right.min() < 0.6, "some tables are easy, some are not"


def test_coarse_columns_have_few_values():
    for share, few in ((0.0, False), (1.0, True)):
        x = il.tasks.synthetic_tables(ways=2, shots=50, queries=1, columns=4, coarse=share).train.at(0, 0, 20).support.x
        counts = [len(column.unique()) for task in x for column in task.T if column.abs().sum() > 0]
        assert (max(counts) < 30) if few else (min(counts) == 100)


def test_a_learner_of_made_up_tables_takes_anybodys(tmp_path):
    """Trained for two steps on made-up tables, saved, and given a table with texts and gaps as the support of a new task."""
    from innerloop.cli.main import main

    torch.manual_seed(0)
    family = il.tasks.synthetic_tables(ways=3, shots=3, queries=2, columns=6)
    learner = il.column_evidence(il.models.mlp(6, None, hidden=()), trees=4, depth=2)
    il.fit(
        learner, family, steps=2, num_tasks=2, validate_every=0, quiet=True, out=tmp_path / "run", strategy="vmapped"
    )
    rows = [
        "bitter,vessel,kind",
        "0.1,glass,ale",
        "-0.2,tin,ale",
        "3,tin,stout",
        "2.8,,stout",
        "-3,glass,wheat",
        ",tin,wheat",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(rows))
    (tmp_path / "new.csv").write_text("vessel,bitter\nglass,2.9\ntin,0.0\n")
    adapt = [
        "adapt",
        str(tmp_path / "run"),
        str(tmp_path / "rows.csv"),
        "--target",
        "kind",
        "--out",
        str(tmp_path / "task.il"),
    ]
    assert main(adapt) == 0
    assert (
        main(["predict", str(tmp_path / "task.il"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    )
    labels = [line.split(",")[1] for line in (tmp_path / "p.csv").read_text().splitlines()[1:]]
    assert labels == ["stout", "ale"]


@pytest.mark.parametrize(
    ("options", "message"), [({"ways": 1}, "ways expected at least 2"), ({"columns": 1}, "columns expected at least 2"),
                             ({"coarse": 1.5}, "coarse expected a share")]
)  # fmt: skip
def test_sizes_that_make_no_table(options, message):
    with pytest.raises(il.InputError, match=message):
        il.tasks.synthetic_tables(**options)
