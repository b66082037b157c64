"""NAS-Bench-201 as tasks: the file, cells that compute the same, who is left out, and scales."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.architecture_tables import EDGES, FILE, OPERATIONS, edges_of, load_nas201, reachable
from innerloop.data.locations import data_folder
from innerloop.errors import ConfigError, InputError

HEADER = "hp_x0,arch_str,metric_error,task"
CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
OTHER = CELL.replace("avg_pool_3x3", "none")


def written(path, rows, header=HEADER):
    path.write_bytes(lzma.compress("\n".join([header, *rows]).encode()))
    return path


def test_the_file_is_read_by_its_columns(tmp_path):
    rows = [f"0,{OTHER},{12.5},b", f"0,{CELL},{90},a", f"0,{CELL},{11},b", f"0,{OTHER},{30},a"]
    table = load_nas201(written(tmp_path / "table.csv.xz", rows))
    assert table.names == tuple(sorted([CELL, OTHER])) and list(table.errors) == ["a", "b"]
    at = table.names.index(CELL)
    assert [table.errors[k][at] for k in "ab"] == [90, 11]
    assert [OPERATIONS[o] for o in table.operations[at]] == [
        "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "none"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([f"0,{CELL},1,a"], "hp_x0,arch,metric_error,task", "expected a column arch_str"),
        ([f"0,{CELL},wrong,a", f"0,{CELL},1,b"], HEADER, "is damaged"),
        ([f"0,{CELL},1,a"], HEADER, "at least two data sets"),
        ([f"0,{CELL},1,a", f"0,{OTHER},1,b"], HEADER, "all architectures on"),
        ([f"0,{CELL},nan,a", f"0,{CELL},1,b"], HEADER, "finite errors"),
        ([f"0,{CELL[:-4]},1,a", f"0,{CELL[:-4]},1,b"], HEADER, "expected a cell such as"),
        (["0,|conv~0|,1,a", "0,|conv~0|,1,b"], HEADER, "expected a cell such as"),
    ],
)
def test_what_is_no_such_file_is_told_in_a_line(tmp_path, rows, header, message):
    with pytest.raises(InputError, match=message) as told:
        load_nas201(written(tmp_path / "table.csv.xz", rows, header))
    assert "\n" not in str(told.value)


def test_files_that_are_missing_or_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    with pytest.raises(InputError, match="found nothing there; put the file there, or set INNERLOOP_DATA"):
        il.tasks.nas201()
    whole = written(tmp_path / "table.csv.xz", [f"0,{CELL},1,{task}" for task in "ab"] * 50)
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InputError, match="is damaged"):
        load_nas201(whole)


def outputs(row, x):
    """What a cell computes, with a function of its own for each operation."""
    functions = (lambda v: 0 * v, lambda v: v, np.sin, np.exp, np.tanh)
    states = [x, *(np.zeros_like(x) for _ in range(3))]
    for (a, b), operation in zip(EDGES, row, strict=True):
        if operation:
            states[b] = states[b] + functions[operation](states[a] + 0.1 * a)
    return states[3]


def test_edges_that_do_nothing_are_none():
    generator = np.random.default_rng(0)
    cells = generator.integers(0, 5, (200, 6))
    cells[generator.random((200, 6)) < 0.4] = 0
    found = reachable(cells)
    assert (found != cells).any()
    assert np.array_equal(reachable(found), found) and ((found == cells) | (found == 0)).all()
    # By hand: node 1 is not reached, so what it feeds is nothing; node 2 leads nowhere, so what feeds it is nothing.
    assert reachable(np.array([[0, 2, 3, 3, 1, 4]])).tolist() == [[0, 2, 0, 3, 0, 4]]
    assert reachable(np.array([[1, 2, 3, 3, 1, 0]])).tolist() == [[1, 0, 0, 3, 1, 0]]
    assert reachable(np.array([[2, 2, 2, 0, 0, 0]])).tolist() == [[0] * 6]
    # An edge that is kept lies on a way from the input to the output.
    ways = [(3,), (0, 4), (1, 5), (0, 2, 5)]
    for row in found:
        for edge in np.flatnonzero(row):
            assert any(edge in way and all(row[e] for e in way) for way in ways)


@pytest.fixture
def real():
    if not (data_folder() / FILE).is_file():
        pytest.skip(f"needs {FILE} in INNERLOOP_DATA")
    return load_nas201()


def test_the_real_table(real):
    """Its published numbers: the best network of each data set (Dong and Yang 2020, table 4, "optimal")."""
    assert len(real.names) == 15_625 and len(np.unique(real.operations, axis=0)) == 15_625
    best = {name: 100 - own.min() for name, own in real.errors.items()}
    assert best["cifar10"] == pytest.approx(94.37, abs=0.2)
    assert best["cifar100"] == pytest.approx(73.51, abs=1.0)
    assert best["ImageNet16-120"] == pytest.approx(47.31, abs=0.2)
    assert len(np.unique(reachable(real.operations), axis=0)) == 9_445
    assert np.array_equal(edges_of(real.names), real.operations)


def test_the_test_set_is_left_out_and_validation_has_architectures_of_its_own(real):
    tasks = il.tasks.nas201(test="cifar100", shots=6, queries=4, scale="none")
    seen = {}
    for split in ("train", "valid", "test"):
        batch = getattr(tasks, split).at(0, 0, 300)
        x = torch.cat([batch.support.x, batch.query.x], 1)
        y = torch.cat([batch.support.y, batch.query.y], 1)[..., 0]
        codes = x.reshape(300, 10, 6, 5).argmax(-1).numpy()
        place = {tuple(row): i for i, row in enumerate(real.operations.tolist())}
        rows = np.array([[place[tuple(row)] for row in task] for task in codes.tolist()])
        assert all(len(set(row)) == 10 for row in rows.tolist())
        sets = {
            next(name for name, own in real.errors.items() if np.allclose(own[row], values, atol=1e-4))
            for row, values in zip(rows, y.numpy(), strict=True)
        }
        seen[split] = sets, set(rows.flatten().tolist())
    assert seen["test"][0] == {"cifar100"}
    assert seen["train"][0] == seen["valid"][0] == {"cifar10", "ImageNet16-120"}
    assert not seen["train"][1] & seen["valid"][1]


def test_scales_and_inputs(real):
    plain = il.tasks.nas201(shots=20, queries=10, scale="none").test.at(0, 0, 5)
    scaled = il.tasks.nas201(shots=20, queries=10).test.at(0, 0, 5)
    middle, spread = plain.support.y.mean(1, keepdim=True), plain.support.y.std(1, keepdim=True, correction=0)
    torch.testing.assert_close(scaled.query.y, (plain.query.y - middle) / spread, rtol=1e-4, atol=1e-4)
    assert plain.query.y.min() > 50 and plain.query.y.max() < 100  # percent
    other = il.tasks.nas201(shots=20, queries=10, inputs="reachable").test.at(0, 0, 5)
    cells = scaled.query.x.reshape(-1, 6, 5).argmax(-1).numpy()
    assert np.array_equal(other.query.x.reshape(-1, 6, 5).argmax(-1).numpy(), reachable(cells))
    assert torch.equal(other.query.y, scaled.query.y)


def test_a_learner_takes_it(real):
    tasks = il.tasks.nas201(shots=10, queries=10)
    learner = il.cnp(il.models.mlp(30, 1, hidden=(8,)))
    il.fit(learner, tasks, steps=3, num_tasks=4, validate_every=0, quiet=True)
    report = il.evaluate(learner, tasks.test, num_tasks=8)
    assert report.metric == "mse" and len(report.per_task) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": "cifar1000"}, "did you mean 'cifar100'"),
        ({"scale": "points"}, "scale expected one of support, none, got 'points'"),
        ({"inputs": "paths"}, "inputs expected one of operations, reachable"),
        ({"shots": 0}, "shots expected"),
        ({"shots": 3000, "queries": 200}, "at most 3125 architectures, got 3200; lower them"),
    ],
)
def test_bad_options(real, options, message):
    with pytest.raises((ConfigError, InputError), match=message):
        il.tasks.nas201(**options)
