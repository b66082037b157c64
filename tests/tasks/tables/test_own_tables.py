"""Rows become tasks by the rule the user names; what is learned of columns comes from training tasks alone."""

import json

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.table_preprocessing import TablePreprocessing
from innerloop.data.table_support import support_of
from innerloop.data.tables import read_table, table_from_bytes
from innerloop.errors import CheckpointError, ConfigError, InnerloopWarning, InputError
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


@pytest.fixture
def assays(tmp_path):
    """40 rows of six labels and three numbers with gaps: label t is there where (row + t) % 3, and says whether x > t / 3 - 1."""
    x = np.linspace(-2, 2, 40)
    lines = ["x," + ",".join(f"t{t}" for t in range(6)) + ",z0,z1,z2"]
    for i, v in enumerate(x):
        labels = [str(int(v > t / 3 - 1)) if (i + t) % 3 else "" for t in range(6)]
        numbers = [f"{1000**t * (v + t):.6f}" if (i + t) % 4 else "" for t in range(3)]
        lines.append(",".join([f"{v:.4f}", *labels, *numbers]))
    path = tmp_path / "assays.csv"
    path.write_text("\n".join(lines))
    return path, x


def test_each_of_several_targets_is_a_task_of_the_rows_that_have_it(assays):
    path, x = assays
    names = [f"t{t}" for t in range(6)]
    family = table_family(path, target=",".join(names), ignore=["z0", "z1", "z2"], shots=3, queries=3)
    assert table_family(path, target=names, ignore=["z0", "z1", "z2"]).train.task_names == family.train.task_names
    sides = [family.train, family.valid, family.test]
    assert sorted(name for side in sides for name in side.task_names) == names
    column = family.train.record.columns[0]
    for side in sides:
        tasks, which = side.at(0, 0, 30), side.which(il.keys.task_keys(0, side.split, 0, 0, 30))
        v = tasks.query.x[..., 0].double() * column.std + column.mean
        for task, number in enumerate(which.tolist()):
            t = int(side.task_names[number][1:])
            for value in v[task].tolist():
                row = int(np.abs(x - value).argmin())
                assert abs(x[row] - value) < 1e-3 and (row + t) % 3, "no row without this label"
            one = {
                bool(value > t / 3 - 1)
                for value, y in zip(v[task].tolist(), tasks.query.y[task].tolist(), strict=True)
                if y
            }
            assert len(one) == 1, "a class is one side of the target's own threshold"
    text = "\n".join(check(path, target=names, ignore=["z0", "z1", "z2"]).lines)
    assert "one task a target" in text and "80 missing labels, each in its own task alone" in text


def test_targets_of_numbers_have_units_of_their_own(assays):
    path, _ = assays
    options = {"target": ["z0", "z1", "z2"], "ignore": [f"t{t}" for t in range(6)], "kind": "regression", "shots": 8}
    family = table_family(path, **options)
    record = family.train.record
    tasks = family.test.at(0, 0, 5)
    assert tasks.query.y.shape[-1] == 1 and record.targets == () and float(tasks.support.y.mean(1).abs().max()) < 1e-5
    table = read_table(path)
    rows = table.take(np.flatnonzero(~np.isnan(table.columns["z2"])))
    _, y, own = support_of(TablePreprocessing.from_dict(json.loads(json.dumps(record.to_dict()))), rows, "z2")
    assert abs(float(y.std()) - 1) < 1e-3
    np.testing.assert_allclose(own.original(y)[:, 0], rows.columns["z2"], rtol=1e-4, atol=1)
    together = table_family(path, target=["z0", "z2"], tasks_by="ranges:x:4", ignore=["z1"], kind="regression").train
    y = together.at(0, 0, 20).query.y
    back = together.record.original(y.reshape(-1, 2).numpy())
    assert together.target_scale == list(together.record.target_std) and back[:, 1].std() > 1e5 * back[:, 0].std()


def test_twelve_targets_of_tox21():
    from innerloop.data.locations import data_folder

    path = data_folder() / "molecules" / "tox21.csv.gz"
    if not path.is_file():
        pytest.skip("no Tox21 here")
    table = read_table(path)
    targets = [name for name in table.columns if name != "smiles"]
    lines = ["size,rings," + ",".join(targets)]
    for i, smiles in enumerate(table.texts["smiles"][:1500]):
        lines.append(f"{len(smiles)},{smiles.count('1')}," + ",".join(table.texts[t][i] or "" for t in targets))
    family = table_family_of_text("\n".join(lines), targets)
    groups = [name for side in (family.train, family.valid, family.test) for name in side.task_names]
    assert sorted(groups) == sorted(targets) and len(targets) == 12


def table_family_of_text(text, targets):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(text)
        return table_family(path, target=targets, shots=5, queries=5)


def test_what_is_not_used_or_read_in_a_special_way_is_said_where_a_table_is_trained_on(tmp_path):
    lines = ["who,row,when,mass,note,y"]
    for i in range(60):
        lines.append(f"w{i % 6},{i},{i % 28 + 1:02d}.{i % 12 + 1:02d}.2024,{i % 9} kg,text {i},{i * i % 17 + 0.5}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines))
    with pytest.warns(il.InnerloopWarning) as said:
        family = table_family(path, target="y", task_column="who")
    text = "\n".join(str(w.message) for w in said)
    assert "'row' is left out: " in text and "'note' is left out: " in text
    assert "'when' is read as dates written as day.month.year" in text and "'mass' is read as numbers in kg" in text
    record = json.loads(json.dumps(family.train.preprocessing))
    assert [c["name"] for c in record["columns"]] == ["when", "mass"] and record["version"] == 2
    path.write_text(path.read_text().replace("3 kg", "3 g"))
    with pytest.warns(il.InnerloopWarning, match=r"'mass' holds no numbers \('0 kg'\) and is taken as categories"):
        assert table_family(path, target="y", task_column="who", ignore=["row", "note", "when"])
    path.write_text(
        "\n".join(f"{line},{i} {'kg' if i % 2 else 'g'}" if i else f"{line},size" for i, line in enumerate(lines))
    )
    with pytest.raises(InputError, match=r"column 'size' holds numbers in several units.*--ignore"):
        table_family(path, target="y", task_column="who", ignore=["row", "note", "when"])


def test_a_target_that_may_be_two_numbers_is_refused_and_one_in_euros_is_a_number(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"w{i % 6};{i % 7}.5;{i % 9 + 1}.{i * 37 % 900 + 100},50 €" for i in range(60)]
    path.write_text("\n".join(["who;x;y", *rows]))
    with pytest.warns(il.InnerloopWarning, match="'y' is read as numbers in € with decimal commas"):
        record = table_family(path, target="y", task_column="who").train.record
    assert not record.classification and record.target_mean[0] > 1000
    again = TablePreprocessing.from_dict(record.to_dict())
    y = again.values(table_from_bytes("x;y\n1.5;1.234 €\n".encode(), "t.csv"))
    assert again.original(y)[0, 0] == pytest.approx(1234, rel=1e-5)
    path.write_text(
        "\n".join(["who,x,y", *(f'w{i % 6},{i % 7}.5,"{i % 9 + 1},{i * 37 % 900 + 100}"' for i in range(60))])
    )
    with pytest.raises(InputError, match=r"column 'y' holds .* which may be"):
        table_family(path, target="y", task_column="who")


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


def test_tables_draw_at_the_base_rate_and_in_order(tmp_path):
    path = tmp_path / "visits.csv"
    lines = ["patient,day,x,ill"]
    for p in range(8):
        days = np.random.default_rng(p).permutation(12)
        lines += [f"p{p},{day},{day}.5,{'yes' if day % 4 == 0 else 'no'}" for day in days]
    path.write_text("\n".join(lines))
    family = table_family(path, target="ill", task_column="patient", support_size=8)
    task = family.test.at(0, 0, 4)
    ill = (task.class_ids == 1).long().argmax(1)[:, None]
    assert task.support.y.shape == (4, 8) and (task.support.y == ill).sum(1).tolist() == [2] * 4  # of 12 rows 3 are ill
    assert task.query.y.shape == (4, 4) and (task.query.y == ill).sum(1).tolist() == [1] * 4
    later = table_family(path, target="ill", task_column="patient", support_size=8, order_by="day", scaling="support")
    task = later.test.at(0, 0, 3)
    day = later.test.record.columns[0]
    assert (day.name, task.support.x.shape[1], task.query.x.shape[1]) == ("day", 8, 4)
    assert bool((task.support.x[:, :, 0].max(1).values < task.query.x[:, :, 0].min(1).values).all())
    values = table_family(path, target="x", task_column="patient", shots=5, queries=3, order_by="day", ignore=["ill"])
    task = values.valid.at(0, 0, 1)
    both = torch.cat([task.support.x[0, :, 0], task.query.x[0, :, 0]])
    assert bool((both.diff() > 0).all()) and len(both) == 8


def test_an_order_with_ties_or_gaps_is_said(tmp_path):
    rows = [f"t{i % 6},{i // 6},{i * 0.1}" for i in range(60)]
    path = tmp_path / "t.csv"
    path.write_text("task,time,y\n" + "\n".join([*rows, "t0,3,9.0"]))
    with pytest.warns(InnerloopWarning, match="1 rows of 1 tasks come at the same time"):
        table_family(path, target="y", task_column="task", order_by="time")
    path.write_text("task,time,y\n" + "\n".join([*rows, "t0,,9.0"]))
    with pytest.raises(
        InputError, match=r"expected a value of 'time' in each row, got none in 1 of 61 rows, the first row 61"
    ):
        table_family(path, target="y", task_column="task", order_by="time")
    path.write_text("task,time,y\n" + "\n".join(row.replace(",", ",on day ", 1) for row in rows))
    with pytest.raises(InputError, match="order_by expected a column of dates, times or numbers, got 'on day 0'"):
        table_family(path, target="y", task_column="task", order_by="time")
