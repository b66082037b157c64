"""Rows become tasks by the rule the user names; what is learned of columns comes from training tasks alone."""

import json

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.table_support import support_of
from innerloop.data.tables import read_table, table_from_bytes
from innerloop.errors import CheckpointError, ConfigError, InputError
from innerloop.tasks.tables.own import check, table_family

pytest.importorskip("pandas")
RNG = np.random.default_rng(0)


@pytest.fixture
def patients(tmp_path):
    """12 patients of 2 to 13 visits: y = offset + 2 x; columns of every awkward kind beside x."""
    lines = ["patient,x,colour,same,gone,sometimes,y"]
    for p in range(12):
        for v in range(p + 2):
            x = RNG.normal()
            sometimes = "" if v % 3 else f"{x:.3f}"
            lines.append(f"p{p},{x:.5f},{'red' if v % 2 else 'blue'},7,,{sometimes},{10 * p + 2 * x:.5f}")
    path = tmp_path / "patients.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def animals(tmp_path):
    """Nine classes of 3 to 11 rows."""
    lines = ["a,b,kind"]
    for c in range(9):
        lines += [f"{c + RNG.normal() / 10:.4f},{RNG.normal():.4f},kind{c}" for _ in range(c + 3)]
    path = tmp_path / "animals.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def folder(tmp_path):
    """Six tables of 2 to 7 columns; the first column tells the classes apart, in units of its own."""
    where = tmp_path / "tables"
    where.mkdir()
    for t in range(6):
        names = [f"t{t}c{i}" for i in range(t + 1)]
        rows = [",".join([*names, "target"])]
        for i in range(40):
            y = i % 2
            cells = [*(f"{RNG.normal():.4f}" for _ in names[1:]), f"{10.0**t * (y + RNG.normal() / 10):.6g}"]
            rows.append(",".join([*cells, "no" if y else "yes"]))
        (where / f"table{t}.csv").write_text("\n".join(rows))
    return where


def test_a_task_is_one_patient_and_unequal_numbers_are_masked(patients):
    family = table_family(patients, target="y", task_column="patient", shots=5, queries=4, seed=3)
    names = [set(getattr(family, s).task_names) for s in ("train", "valid", "test")]
    assert [len(n) for n in names] == [8, 2, 2] and not names[0] & names[1] and not names[0] & names[2]
    record = family.train.record
    tasks = family.train.at(0, 0, 200)
    assert tasks.support.mask is not None and not bool(tasks.support.mask.all())
    shown, asked = tasks.support.mask.sum(1), tasks.query.mask.sum(1)
    assert int(shown.min()) >= 1 and int(asked.min()) >= 1 and int(shown.max()) == 5
    assert int(tasks.support.x[~tasks.support.mask].abs().sum()) == 0
    at = [c.name for c in record.columns].index("x")
    x = tasks.support.x[..., at] * record.columns[at].std + record.columns[at].mean
    y = tasks.support.y[..., 0] * record.target_std[0] + record.target_mean[0]
    offset = (y - 2 * x)[tasks.support.mask].double()
    assert torch.allclose(offset, (offset / 10).round() * 10, atol=1e-2)
    for t in range(20):  # one patient a task, and no row on both sides
        own = (y - 2 * x)[t][tasks.support.mask[t]]
        assert float(own.max() - own.min()) < 1e-2
        pairs = torch.cdist(tasks.support.x[t][tasks.support.mask[t]], tasks.query.x[t][tasks.query.mask[t]])
        assert float(pairs.min()) > 0


def test_scales_come_from_training_tasks_alone(patients):
    family = table_family(patients, target="y", task_column="patient")
    table = read_table(patients)
    training = np.isin(table.labels("patient"), family.train.task_names)
    assert family.train.record.target_mean[0] == pytest.approx(table.columns["y"][training].mean())
    x = next(c for c in family.train.record.columns if c.name == "x")
    assert (x.mean, x.std) == pytest.approx((table.columns["x"][training].mean(), table.columns["x"][training].std()))
    changed = patients.with_name("changed.csv")
    lines = patients.read_text().splitlines()
    test = tuple(f"{name}," for name in family.test.task_names)
    changed.write_text("\n".join(line + "99" if line.startswith(test) else line for line in lines))
    again = table_family(changed, target="y", task_column="patient")
    assert again.train.record == family.train.record


def test_tasks_are_functions_of_their_keys_and_the_split_of_its_seed(patients):
    options = {"target": "y", "task_column": "patient"}
    one, two = table_family(patients, **options), table_family(patients, **options)
    assert torch.equal(one.train.at(1, 2, 6).support.x, two.train.at(1, 2, 6).support.x)
    assert torch.equal(one.train.at(1, 2, 6).query.x[2:4], one.train.at(1, 2, 2, start=2).query.x)
    others = {table_family(patients, **options, seed=s).test.task_names for s in range(4)}
    assert len(others) > 1
    assert table_family(patients, **json.loads(json.dumps(one.options))).train.record == one.train.record


def test_the_check_says_what_was_understood_and_left_out(patients):
    found = check(patients, target="y", task_column="patient")
    text = "\n".join(found.lines)
    assert "8 train, 2 valid, 2 test" in text
    assert "'same' is left out: it is constant" in text and "'gone' is left out: all its cells are missing" in text
    assert "'sometimes' lacks" in text and "masks mark" in text
    assert found.facts["categories"] == {"colour": 2} and found.facts["with_missing"] == ["sometimes"]
    assert found.command == f"innerloop train maml {patients} --target y --task-column patient"
    guess = check(patients)
    assert guess.facts["guess"] == {"target": "y", "task_column": "patient"}
    json.dumps([found.facts, guess.facts])


def test_pairs_of_classes_of_one_table(animals):
    family = table_family(animals, target="kind", tasks_by="class_pairs", shots=2, queries=3)
    tasks = family.test.at(0, 0, 50)
    assert tasks.class_ids.shape == (50, 2) and family.test.num_classes == 2 and family.train.num_classes == 5
    assert (tasks.class_ids[:, 0] != tasks.class_ids[:, 1]).all()
    learner = il.protonet(il.models.mlp(2, 8, hidden=(16,)))
    result = il.fit(learner, family, steps=3, num_tasks=4, quiet=True, valid_tasks=4, strategy="vmapped")
    assert result.steps == 3


def test_a_table_without_a_rule_names_the_rules(animals):
    with pytest.raises(ConfigError, match=r"task-column.*class_pairs.*ranges.*innerloop adapt"):
        table_family(animals, target="kind")


def test_ranges_of_a_column_are_tasks(patients):
    family = table_family(patients, target="y", tasks_by="ranges:x:6", ignore=["patient"])
    assert sum(len(getattr(family, s).task_names) for s in ("train", "valid", "test")) == 6
    with pytest.raises(ConfigError, match="ranges:COLUMN:N"):
        table_family(patients, target="y", tasks_by="ranges:x")


def test_several_targets(patients):
    family = table_family(patients, target=["y", "x"], task_column="patient", ignore=["sometimes"])
    assert family.train.output_size == 2 and family.train.at(0, 0, 1).query.y.shape[-1] == 2
    one_each = table_family(patients, target=["colour", "sometimes"], task_column="patient", kind="classification")
    assert any(name.endswith(": colour") for name in one_each.train.task_names)


def test_a_column_may_say_the_split_or_keep_tasks_together(tmp_path):
    lines = ["task,side,house,x,y"]
    for t in range(9):
        lines += [f"t{t},{('train', 'valid', 'test')[t % 3]},h{t // 2},{i},{i + t}" for i in range(4)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    family = table_family(path, target="y", task_column="task", split_by="side", kind="regression")
    assert family.valid.task_names == ("t1", "t4", "t7")
    houses = table_family(path, target="y", task_column="task", split_by="house", ignore=["side"], kind="regression")
    sides = [{int(n[1:]) // 2 for n in getattr(houses, s).task_names} for s in ("train", "valid", "test")]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_tables_of_different_columns_are_scaled_by_their_support_and_padded(folder):
    family = table_family(
        folder, target="target", ranked=True, max_columns=3, shots=8, queries=8, together=["table[12]"]
    )
    for side in (family.train, family.valid, family.test):
        assert len({"table1", "table2"} & set(side.task_names)) in (0, 2)
    tasks = family.train.at(0, 0, 40)
    assert tasks.support.x.shape[-1] == 3 and family.train.output_size == 2
    # The column that tells the classes apart comes first, whatever its place and its units.
    means = [tasks.query.x[t, tasks.query.y[t] == c, 0].mean() for t in range(40) for c in (0, 1)]
    gap = (torch.stack(means).reshape(40, 2)[:, 0] - torch.stack(means).reshape(40, 2)[:, 1]).abs()
    assert float(gap.min()) > 1.5
    assert float(tasks.support.x[..., 0].mean(1).abs().max()) < 1e-5


@pytest.mark.parametrize("ranked", [True, False])
def test_adapting_treats_a_table_as_training_did(folder, ranked):
    """The rows of a training task, handed over as a support table, become the very inputs that training had."""
    family = table_family(folder, target="target", ranked=ranked, max_columns=4, shots=20, queries=1)
    record = TablePreprocessing.from_dict(json.loads(json.dumps(family.train.preprocessing)))
    name = family.train.task_names[-1]  # of five columns or more, the telling one last
    table = read_table(folder / f"{name}.csv")
    x, y, own = support_of(record, table, "target")
    assert sorted(set(y)) == ["no", "yes"] and x.shape == (40, 4)
    again = TablePreprocessing.from_dict(json.loads(json.dumps(own.to_dict())))
    np.testing.assert_array_equal(again.encode(table), x)
    tasks = family.train.at(0, 0, 60)  # 19 of 20 rows a class are shown: nearly the same scales
    assert tasks.support.mask is not None
    sides = [rows[mask] for rows, mask in zip(tasks.support.x, tasks.support.mask, strict=True)]
    close = [float(torch.cdist(rows, torch.as_tensor(x)).amin(1).max()) for rows in sides]
    # The row that is not shown moves the scales: 0.07 to 0.19 from task to task; columns in another order are 0.65 and more away.
    assert min(close) < 0.3 < max(close)


def test_a_records_columns_are_matched_by_name(patients):
    record = table_family(patients, target="y", task_column="patient").train.record
    header = patients.read_text().splitlines()[0].split(",")
    rows = [line.split(",") for line in patients.read_text().splitlines()[1:5]]
    turned = "\n".join(",".join(reversed(cells)) for cells in [header, *rows])
    straight = "\n".join(",".join(cells) for cells in [header, *rows])
    np.testing.assert_array_equal(
        record.encode(table_from_bytes(turned.encode(), "a.csv")),
        record.encode(table_from_bytes(straight.encode(), "b.csv")),
    )
    with pytest.raises(InputError, match=r"got none named 'x'"):
        record.encode(table_from_bytes(b"z,colour,sometimes\n1,red,2\n", "c.csv"))
    with pytest.raises(InputError, match=r"column 'x' expected numbers as in training, got 'high'"):
        record.encode(table_from_bytes(b"x,colour,sometimes\nhigh,red,2\nlow,red,2\n", "c.csv"))
    unseen = record.encode(table_from_bytes(b"x,colour,sometimes\n1,green,\n", "c.csv"))
    assert np.isfinite(unseen).all()


def test_predictions_come_back_in_the_tables_units(patients):
    record = table_family(patients, target="y", task_column="patient", center_target=True).train.record
    table = read_table(patients)
    _, y, own = support_of(record, table)
    np.testing.assert_allclose(own.original(y)[:, 0], table.columns["y"], rtol=1e-4, atol=1e-3)
    assert abs(float(y.mean())) < 1e-5


@pytest.mark.parametrize(
    ("change", "says"),
    [({"kind": "pictures"}, "learner of tables"), ({"version": 9}, "upgrade"), ({"width": 0}, "damaged"),
     ({"target_std": [0.0]}, "damaged"), ({"columns": [{"name": 1}]}, "damaged"), ({"scaling": "no"}, "damaged"),
     ({"nonsense": 1}, "damaged")],
)  # fmt: skip
def test_a_foreign_record_is_refused(patients, change, says):
    good = table_family(patients, target="y", task_column="patient").train.preprocessing
    with pytest.raises(CheckpointError, match=says):
        TablePreprocessing.from_dict({**good, **change})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "z"}, "no column 'z'"),
        ({"target": None}, "--target"),
        ({"target": "y", "task_column": "patient", "tasks_by": "class_pairs"}, "got both"),
        ({"target": "y", "tasks_by": "patient"}, "task_column='patient'"),
        ({"target": "y", "task_column": "patient", "ways": 3}, "ways"),
        ({"target": "colour", "task_column": "patient", "kind": "regression"}, "expected numbers"),
        ({"target": "y", "task_column": "colour", "ignore": ["patient"]}, "at least 3 tasks"),
        ({"target": "y", "task_column": "patient", "test_share": 1.5}, "test_share"),
        ({"target": "y", "task_column": "patient", "kind": "both"}, "kind expected one of"),
    ],
)
def test_options_that_cannot_work_are_one_sentence(patients, options, says):
    with pytest.raises((ConfigError, InputError), match=says):
        table_family(patients, **options)


def test_every_ending_that_the_reader_knows_is_a_problem(tmp_path):
    from innerloop.data.tables import SUFFIXES
    from innerloop.tasks import own_data

    assert {".tab", ".pq", ".tab.gz", ".tsv.xz"} <= set(SUFFIXES)
    for suffix in SUFFIXES:
        assert own_data.looks_like_path(f"visits{suffix}")
        (tmp_path / f"one{suffix}").write_bytes(b"")
        assert own_data.holds(tmp_path / f"one{suffix}") == "tables"
        (tmp_path / suffix).mkdir()
        (tmp_path / suffix / f"one{suffix}").write_bytes(b"")
        assert own_data.holds(tmp_path / suffix) == "tables"
    assert not own_data.looks_like_path("tables")
