"""Every problem: tasks are pure functions of their keys, splits and sides are disjoint, values are what they should be."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.utils import _pytree

from innerloop import keys as random_keys
from innerloop import tasks as problems
from innerloop.data import architecture_tables
from innerloop.data.architecture_tables import OPERATIONS, ArchitectureTable
from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import Omniglot
from innerloop.objectives.losses import METRICS, OBJECTIVES


@dataclasses.dataclass(frozen=True)
class DeclaredProblem:
    """Attributes:
    options: that make it small.
    assays: its tasks are assays of molecules: sparse rows, and classes (active or not) that all tasks share.
    """

    options: dict = dataclasses.field(default_factory=dict)
    assays: bool = False


DECLARED = {
    "fsmol": DeclaredProblem({"support_size": 6, "queries": 5, "train_queries": 5}, assays=True),
    "sider": DeclaredProblem({"shots": 2, "queries": 3, "train_queries": 3}, assays=True),
    "tox21": DeclaredProblem({"shots": 2, "queries": 3, "train_queries": 3}, assays=True),
    "glyphs": DeclaredProblem({"queries": 3, "size": 12}),
    "nas201": DeclaredProblem({"queries": 3}),
    "omniglot": DeclaredProblem({"queries": 3, "valid_alphabets": 2}),
    "synthetic_tables": DeclaredProblem({"queries": 3, "coarse": 0.0}),  # rows of few values may be alike by chance
}
ASSAYS = {name for name, own in DECLARED.items() if own.assays}
NAMES = sorted(problems.TASKS)
SPLITS = ("train", "valid", "test")
pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def small_archives(monkeypatch):
    """Archives are not at hand in a test; noise in their layout stands for them."""
    from innerloop.tasks.pictures import omniglot

    def part(alphabets: int, letters: int, prefix: str) -> ClassImages:
        generator = torch.Generator().manual_seed(ord(prefix))
        images = torch.randint(0, 256, (alphabets * letters, 20, 28, 28), generator=generator, dtype=torch.uint8)
        names = [(f"{prefix}{a}", f"{prefix}{a}/{c}") for a in range(alphabets) for c in range(letters)]
        return ClassImages(images, tuple(n for _, n in names), tuple(a for a, _ in names))

    first, second = part(8, 10, "B"), part(3, 12, "E")
    images = torch.cat([first.images, second.images])
    both = Omniglot(ClassImages(images, first.names + second.names, first.groups + second.groups), first.num_classes)
    monkeypatch.setattr(omniglot, "load_omniglot", lambda size: both)
    monkeypatch.setattr(omniglot, "TRAINING_CHARACTERS", 60)
    # Nor is NAS-Bench-201's table: random errors of some of its cells.
    drawn = torch.randperm(5**6, generator=torch.Generator().manual_seed(0))[:300]
    edges = torch.stack([drawn // 5**i % 5 for i in range(6)], 1).numpy()
    words = ("|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*(OPERATIONS[o] for o in row)) for row in edges)
    spread = torch.randn(3, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64).numpy()
    names = ("ImageNet16-120", "cifar10", "cifar100")
    table = ArchitectureTable(tuple(words), edges, dict(zip(names, 50 + 9 * spread, strict=True)))
    monkeypatch.setattr(architecture_tables, "load_nas201", lambda: table)


@pytest.fixture(autouse=True)
def small_assays(monkeypatch):
    """Nor are measured molecules: counts drawn at random."""
    import numpy as np

    from innerloop.data.counts import as_counts
    from innerloop.tasks.molecules import assay_tables, fsmol

    random = np.random.default_rng(0)

    def molecules(number: int):
        return as_counts(
            (random.random((number, 2048)) < 0.02) * random.integers(1, 5, (number, 2048)).astype(np.float32)
        )

    tasks = [f"{split}{i}" for split in ("train", "valid", "test") for i in range(3) for _ in range(30)]
    splits = {split: [f"{split}{i}" for i in range(3)] for split in ("train", "valid", "test")}
    assays = molecules(len(tasks)), tasks, random.integers(0, 2, len(tasks)), splits
    monkeypatch.setattr(fsmol, "_read", lambda folder: assays)
    tables = {
        name: assay_tables.AssayTable(
            molecules(120), tuple(f"a{i}" for i in range(n)), (random.random((120, n)) < 0.5).astype(float)
        )
        for name, n in (("tox21", 12), ("sider", 27))
    }
    monkeypatch.setattr(assay_tables, "load", lambda name: tables[name])


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    """Nor are tables of searches."""
    import numpy as np

    from innerloop.data.search_tables import SearchTable
    from innerloop.tasks.searches import hpo_tables

    random = np.random.default_rng(0)
    data_sets = np.repeat([f"set {i}" for i in range(7)], 80)
    made = SearchTable("error", ("a", "b", "c"), random.random((560, 3)), random.random(560), data_sets)
    monkeypatch.setattr(hpo_tables, "search_table", lambda name: made)


def family(name: str, **options):
    declared = DECLARED.get(name, DeclaredProblem()).options
    return getattr(problems, name)(**{**declared, **options})


def same(first, second) -> bool:
    a, b = _pytree.tree_leaves(first), _pytree.tree_leaves(second)
    return len(a) == len(b) and all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def take(task, rows):
    return _pytree.tree_map(lambda v: v[rows], task)


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_are_functions_of_their_keys(name, split):
    tasks = getattr(family(name), split)
    keys = random_keys.task_keys(0, split, 0, 0, 7)
    whole = tasks.from_keys(keys)
    for rows in (slice(0, 1), slice(2, 5), slice(6, 7)):
        assert same(tasks.from_keys(keys[rows]), take(whole, rows))
    order = torch.tensor([3, 0, 6])
    assert same(tasks.from_keys(keys[order]), take(whole, order))
    assert same(tasks.from_keys(keys), whole)
    assert same(getattr(family(name), split).from_keys(keys), whole)
    assert not same(tasks.from_keys(keys + 1), whole)


def test_batches_are_at_step_by_step(name):
    """`batches` draws ahead in blocks of growing size; that must not be seen."""
    train = family(name).train
    for start in (0, 5):
        for step, drawn in enumerate(itertools.islice(train.batches(3, seed=4, start=start), 70), start):
            if step < start + 4 or step % 13 == 0:
                assert same(drawn, train.at(4, step, 3)), step


def test_seed_split_step_and_start_decide(name):
    tasks = family(name)
    first = tasks.train.at(0, 0, 3)
    assert same(first, tasks.train.at(0, 0, 3)) and same(take(first, slice(1, 3)), tasks.train.at(0, 0, 2, start=1))
    for other in (tasks.train.at(1, 0, 3), tasks.train.at(0, 1, 3), tasks.train.at(0, 0, 3, start=3)):
        assert not same(first, other)
    drawn = [tasks.train.sample(2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert same(drawn[0], drawn[1]) and not same(drawn[0], drawn[2])
    assert not same(tasks.valid.at(0, 0, 3).query, tasks.test.at(0, 0, 3).query)


@settings(deadline=None, max_examples=4, derandomize=True, database=None, phases=[Phase.generate])
@given(ways=st.integers(2, 6), shots=st.integers(1, 3), queries=st.integers(1, 3), num_tasks=st.integers(1, 5))
def test_shapes_types_and_balance(name, ways, shots, queries, num_tasks):
    if name in ASSAYS:
        pytest.skip("its sizes are tried below")
    for dtype in (torch.float32, torch.float64):
        options = {"shots": shots, "queries": queries, "dtype": str(dtype).removeprefix("torch.")}
        classes = family(name).train.objective == "cross_entropy"
        if name == "omniglot":
            options.pop("dtype")
        tasks = family(name, **options, **({"ways": ways} if classes else {}))
        each = ways if classes else 1
        for split in SPLITS:
            one = getattr(tasks, split)
            batch = one.at(0, 0, num_tasks)
            for side, count in ((batch.support, shots * each), (batch.query, queries * each)):
                assert side.x.shape == (num_tasks, count, *one.input_shape) and side.x.isfinite().all()
                assert side.x.dtype == (dtype if "dtype" in options else torch.get_default_dtype())
                if classes:
                    assert side.y.dtype == torch.int64 and side.y.shape == (num_tasks, count)
                    for y in side.y:
                        assert torch.bincount(y, minlength=ways).tolist() == [count // ways] * ways
                else:
                    assert side.y.dtype == side.x.dtype and side.y.shape == (num_tasks, count, one.output_size)
            assert batch.noise is not None and batch.noise.shape == (num_tasks,)
            assert one.objective in OBJECTIVES and batch.objective == one.objective
            assert set(one.metrics) <= set(METRICS) and one.split == split and one.name == name


def test_assays_are_of_their_size_and_type(name):
    if name not in ASSAYS:
        pytest.skip("no assays")
    for dtype in (torch.float32, torch.float64):
        tasks = family(name, dtype=str(dtype).removeprefix("torch."))
        for split in SPLITS:
            one = getattr(tasks, split)
            batch = one.at(0, 0, 3)
            for side, count in (
                (batch.support, 4 if name != "fsmol" else 6),
                (batch.query, 6 if name != "fsmol" else 5),
            ):
                assert side.x.shape == (3, count, *one.input_shape) and side.x.dtype == dtype
                assert side.y.shape == (3, count) and (name == "fsmol" or (side.y.sum(1) == count // 2).all())
            assert set(one.metrics) <= set(METRICS) and one.split == split and one.name == name


def test_support_and_query_are_disjoint(name):
    batch = family(name).train.at(0, 0, 20)
    for x, q in zip(batch.support.x.flatten(2), batch.query.x.flatten(2), strict=True):
        distance = (x[:, None] - q[None]).abs().amax(-1)
        assert distance.min() > 0


def test_classes_of_the_splits_are_disjoint(name):
    tasks = family(name)
    if name in ASSAYS:  # of which each is on one side
        names = [set(getattr(tasks, split).task_names) for split in SPLITS]
        assert all(names) and not any(a & b for a, b in itertools.combinations(names, 2))
        return
    if tasks.train.num_classes is None:
        inputs = [getattr(tasks, split).at(0, 0, 5).query.x for split in SPLITS]
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(inputs, 2))
        return
    found = []
    for split in SPLITS:
        one = getattr(tasks, split)
        batch = one.at(0, 0, 60)
        assert batch.class_ids is not None and batch.num_classes == one.num_classes
        assert batch.class_ids.min() >= 0 and batch.class_ids.max() < one.num_classes
        assert all(len(set(row)) == len(row) for row in batch.class_ids.tolist())
        found.append({one.class_name(i).split(" turned ")[0] for i in set(batch.class_ids.flatten().tolist())})
    assert all(found) and not any(a & b for a, b in itertools.combinations(found, 2))


def test_local_labels_are_permuted_from_task_to_task(name):
    tasks = family(name).train
    if tasks.num_classes is None:
        pytest.skip("no classes that tasks share")
    ids = tasks.at(0, 0, 400).class_ids
    ascending = (ids[:, 1:] > ids[:, :-1]).double().mean()
    assert 0.4 < ascending < 0.6, "labels must not follow the classes' order"
    assert ids.unique().numel() > min(tasks.num_classes, 2000) / 2


def test_values_are_in_range(name):
    batch = family(name).train.at(0, 0, 10)
    if name in ASSAYS:  # numbers of entries, then counts
        index, count = batch.support.x.unbind(2)
        assert index.min() >= 0 and index.max() < 2048 and count.min() >= 0 and 1 < count.max() < 100
        return
    if len(family(name).train.input_shape) == 3:
        assert batch.support.x.min() >= 0 and 0.5 < batch.support.x.max() <= 1
    else:
        assert batch.support.x.abs().max() < 100 and batch.support.x.std() > 0.1


def test_options_make_it_again(name):
    tasks = family(name)
    again = getattr(problems, name)(**json.loads(json.dumps(dict(tasks.options))))
    assert same(again.test.at(0, 0, 3), tasks.test.at(0, 0, 3)) and again.name == name == tasks.name


def test_the_default_model_fits(name):
    tasks = family(name)
    batch = tasks.train.at(0, 0, 2)
    torch.manual_seed(0)
    assert tasks.train.default_model()(batch.support.x[0]).shape == (batch.support.x.shape[1], tasks.train.output_size)
