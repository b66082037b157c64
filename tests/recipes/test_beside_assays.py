"""FS-Mol's files as tasks, and what is measured on them."""

import dataclasses
import lzma

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.core import Examples, Task
from innerloop.data.counts import dense
from innerloop.errors import InputError
from innerloop.evaluation.evaluate import task_metrics
from innerloop.recipes import beside_assays
from innerloop.tasks.molecules.fsmol import fsmol, seen_in_training


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Nine assays of twenty molecules each; molecule "Ck" has k of entry 2 k."""
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    place = tmp_path / "fsmol"
    place.mkdir()
    used = set()
    for number, split in enumerate(("train", "valid", "test")):
        lines = ["task,smiles,label,value"]
        for task in range(3):
            for i in range(20):
                molecule = f"C{number * 7 + task + i:02}"
                used.add(molecule)
                lines.append(f"{split}{task},{molecule},{float(i % 4 == 0)},0.5")
        with lzma.open(place / f"fsmol_{split}.csv.xz", "wt") as opened:
            opened.write("\n".join(lines) + "\n")
    known = sorted(used)
    index = np.array([2 * int(molecule[1:]) for molecule in known], dtype=np.uint16)
    counts = np.array([int(molecule[1:]) + 1 for molecule in known], dtype=np.uint8)
    np.savez(place / "fsmol_fingerprints.npz", nnz=np.ones(len(known), np.uint16), idx=index, cnt=counts)
    return place


def test_assays_are_tasks_of_their_own_molecules(folder):
    family = fsmol(support_size=8, train_queries=4)
    assert family.train.task_names == ("train0", "train1", "train2") and family.test.size == 3
    task = family.test.each(torch.arange(3), torch.arange(3))
    active = beside_assays.active(task)
    assert (task.support.y == active[:, None]).sum(1).tolist() == [2, 2, 2] and task.query.y.shape == (3, 12)
    full = dense(task.query.x, 2048)
    molecule = full.argmax(-1) // 2
    assert bool((full.amax(-1) == molecule + 1).all())  # each molecule has its own fingerprint
    for i in range(3):
        assert bool(((molecule[i] - 14 - i) % 4 == 0).eq(task.query.y[i] == active[i]).all())  # and its own label
    assert family.train.at(0, 0, 2).query.y.shape == (2, 4)
    (folder / "fsmol_test.csv.xz").unlink()
    with pytest.raises(InputError, match=r"got no fsmol_test\.csv\.xz"):
        fsmol()


def test_a_molecule_is_seen_where_a_training_assay_has_it(folder):
    family = fsmol(support_size=8)
    seen = seen_in_training(family)
    molecule = family.test.x.dense().argmax(1) // 2
    known = set(molecule[family.train.rows].tolist())
    assert seen.tolist() == [one in known for one in molecule.tolist()]
    drawn = list(beside_assays.drawn_once(family))
    assert len(drawn) == 3 and 0 < sum(int(one.seen.sum()) for one in drawn) < sum(len(one.seen) for one in drawn)


def test_the_beside_rows_are_paired(folder):
    pytest.importorskip("sklearn")
    learner = il.dkt(il.models.counts_mlp(2048, None, hidden=(4,)), kernel="tanimoto+rbf", scale_steps=2)
    rows = {row["metric"]: row for row in beside_assays.beside(learner, 8 * 2)}
    own, forest = (rows[f"delta-AUPRC, 16 measurements: {name}"] for name in ("dkt", "random forest"))
    lead = rows["delta-AUPRC, 16 measurements: dkt less random forest"]
    assert lead["value"] == pytest.approx(own["value"] - forest["value"], abs=2e-4) and forest["published"]
    assert own["num_tasks"] == 3


def test_delta_auprc_is_the_average_precision_of_the_second_class_above_chance():
    y = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    score = torch.tensor([[0.9, 0.1, 0.2, 0.3], [0.5, 0.1, 0.3, 9.0]])
    logits = torch.stack([-score, score], -1)
    task = Task(Examples(y, y), Examples(y, y, mask), class_ids=torch.tensor([[0, 1], [0, 1]]))
    found = task_metrics(["delta_auprc"], logits, task)["delta_auprc"]
    # The same tasks with their labels the other way round.
    turned = dataclasses.replace(task, query=Examples(y, 1 - y, mask), class_ids=torch.tensor([[1, 0], [1, 0]]))
    assert torch.equal(task_metrics(["delta_auprc"], logits.flip(-1), turned)["delta_auprc"], found)
    assert torch.allclose(found, torch.tensor([1 - 0.25, (1 + 2 / 3) / 2 - 2 / 3], dtype=torch.float64))
