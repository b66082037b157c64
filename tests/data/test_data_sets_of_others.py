"""Data frames and data sets of torch and Hugging Face give the tasks that their arrays give; streams are refused in one line."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils import data as torch_data

import innerloop as il

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before datasets is imported

LABELS = np.repeat(np.arange(12), 5)
X = (np.random.default_rng(0).normal(size=(60, 4)) * 0.1 + LABELS[:, None]).astype(np.float32)
COLUMNS = {f"c{i}": X[:, i] for i in range(4)}
NAMES = [f"kind {i}" for i in range(12)]
NAMED = [NAMES[i] for i in LABELS]


def same(family: il.TaskFamily, y=LABELS, x=X) -> bool:
    """Whether these are the tasks of the plain arrays, to the last bit."""
    one, other = (f.train.at(0, 0, 3) for f in (family, il.tasks.from_arrays(x, y)))
    alike = family.train.images.names == il.tasks.from_arrays(x, y).train.images.names
    return alike and one.support.x.equal(other.support.x) and one.query.y.equal(other.query.y)


@pytest.fixture(params=["pandas", "polars"])
def frames(request):
    return pytest.importorskip(request.param)


@pytest.fixture
def hf():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return datasets


# ---- data frames ---------------------------------------------------------------------------------------------------
def test_frames_are_their_numbers(frames):
    numbers, whole = frames.DataFrame(COLUMNS), frames.DataFrame({"label": LABELS, **COLUMNS})
    assert same(il.tasks.from_arrays(numbers, frames.Series(LABELS)))
    assert same(il.tasks.from_arrays(numbers, frames.Series(NAMED)), NAMED)
    assert same(il.tasks.from_arrays(whole)) and same(il.tasks.from_arrays(whole, "label"))
    assert same(il.tasks.from_arrays(frames.DataFrame({**COLUMNS, "sort": NAMED}), "sort"), NAMED)
    assert same(il.tasks.from_arrays(frames.DataFrame({"e": X.tolist(), "label": LABELS})))


def test_arrow_tables_too():
    arrow = pytest.importorskip("pyarrow")
    assert same(il.tasks.from_arrays(arrow.table({**COLUMNS, "label": LABELS})))


def test_frames_are_adapted_to_and_asked_about(frames):
    torch.manual_seed(0)
    learner = il.protonet(il.models.mlp(4, 4))
    expected = learner.adapt(X, NAMED).predict_proba(X)
    x, whole = frames.DataFrame(COLUMNS), frames.DataFrame({**COLUMNS, "sort": NAMED})
    for fitted in (
        learner.adapt(x, frames.Series(NAMED)),
        learner.adapt(whole, "sort"),
        learner.adapt(whole, target="sort"),
    ):
        assert np.array_equal(fitted.predict_proba(x), expected) and fitted.score(x, frames.Series(NAMED)) == 1.0
    with pytest.raises(il.ConfigError, match="targets once"):
        learner.adapt(whole, NAMED, target="sort")
    with pytest.raises(il.InputError, match="has no column 'other'"):
        learner.adapt(whole, "other")


def test_what_a_frame_may_not_hold(frames):
    x = frames.DataFrame({**COLUMNS, "when": np.full(60, "2024-01-01", "M8[us]")})
    with pytest.raises(il.InputError, match=r"x (column 'when'|row 1) expected numbers, got"):
        il.tasks.from_arrays(x, LABELS)
    with pytest.raises(il.InputError, match="expected a column label, got c0, c1, c2, c3"):
        il.tasks.from_arrays(frames.DataFrame(COLUMNS))
    gap = frames.DataFrame({**COLUMNS, "c0": [None, *X[1:, 0].tolist()]})
    with pytest.raises(il.InputError, match="finite"):
        il.tasks.from_arrays(gap, LABELS)


def test_a_lazy_frame_is_to_be_collected():
    polars = pytest.importorskip("polars")
    lazy, learner = polars.DataFrame({**COLUMNS, "label": LABELS}).lazy(), il.protonet(il.models.mlp(4, 4))
    asks = [
        lambda: il.tasks.from_arrays(lazy),
        lambda: il.tasks.from_arrays(lazy, "label"),
        lambda: learner.adapt(lazy, LABELS),
        lambda: learner.adapt(lazy, target="label"),
        lambda: learner.adapt(X, LABELS).predict(lazy),
    ]
    for ask in asks:
        with pytest.raises(il.InputError, match=r"rows in memory, got a LazyFrame; collect it first: x\.collect\(\)"):
            ask()
    assert same(il.tasks.from_arrays(lazy.collect()))


# ---- torch -----------------------------------------------------------------------------------------------------------
class Own(torch_data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i], int(LABELS[i])


class Stream(torch_data.IterableDataset):
    def __iter__(self):
        return iter(zip(X, LABELS.tolist(), strict=True))


class Counted(Stream):
    def __len__(self):
        return 60


def test_torch_data_sets():
    whole = torch_data.TensorDataset(torch.tensor(X), torch.tensor(LABELS))
    halves = [torch_data.Subset(whole, range(30)), torch_data.Subset(whole, range(30, 60))]
    for data in (whole, torch_data.ConcatDataset(halves), torch_data.Subset(whole, range(60)), Own()):
        assert same(il.tasks.from_arrays(data))
    part = il.tasks.from_arrays(torch_data.Subset(whole, range(0, 60, 2)))
    assert same(part, LABELS[::2], X[::2])


@pytest.mark.parametrize("data", [Stream(), Counted(), torch_data.ChainDataset([Stream(), Stream()])])
def test_a_stream_of_torch_is_refused_with_what_to_write(data):
    with pytest.raises(il.InputError, match=r"a data set with a length .*list\(itertools\.islice\(data, 10_000\)\)"):
        il.tasks.from_arrays(data)
    assert same(il.tasks.from_arrays(list(itertools.islice(Stream(), 10_000))))


def test_a_loader_is_no_data_set():
    with pytest.raises(il.InputError, match=r"got a DataLoader; give what it loads: loader\.dataset"):
        il.tasks.from_arrays(torch_data.DataLoader(Own(), batch_size=4))


# ---- Hugging Face ----------------------------------------------------------------------------------------------------
def pictures(hf, labels=LABELS, column="label"):
    given = [Image.new("RGB", (12, 10), (int(i) * 20, 9, 9)) for i in LABELS]
    kinds = hf.Features({"image": hf.Image(), column: hf.ClassLabel(names=NAMES)})
    return hf.Dataset.from_dict({"image": given, column: list(map(int, labels))}, features=kinds)


def test_pictures_keep_their_class_names(hf):
    data = pictures(hf)
    assert same(il.tasks.from_arrays(data), NAMED, np.stack([np.asarray(p) for p in data["image"]]))
    for other in (data.with_format("numpy"), data.with_format("torch")):
        assert il.tasks.from_arrays(other).train.images.names == tuple(sorted(NAMES))
    renamed = pictures(hf, column="species")
    assert il.tasks.from_arrays(renamed, "species").train.images.names == tuple(sorted(NAMES))
    with pytest.raises(il.InputError, match="expected a column label, got image, species"):
        il.tasks.from_arrays(renamed)


def test_lists_and_columns_of_numbers(hf):
    lists = hf.Dataset.from_dict({"embedding": X.tolist(), "label": LABELS.tolist()})
    columns = hf.Dataset.from_dict({**{k: v.tolist() for k, v in COLUMNS.items()}, "label": LABELS.tolist()})
    assert same(il.tasks.from_arrays(lists)) and same(il.tasks.from_arrays(columns))
    assert same(il.tasks.from_arrays(lists["embedding"], lists["label"]))


def test_texts_go_through_an_embedding(hf, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    texts = [f"{'abcdefghijkl'[i] * 3} {n}" for n, i in enumerate(LABELS)]
    kinds = hf.Features({"text": hf.Value("string"), "label": hf.ClassLabel(names=NAMES)})
    data = hf.Dataset.from_dict({"text": texts, "label": LABELS.tolist()}, features=kinds)
    expected = il.tasks.from_arrays(texts, NAMED, embedding="own_embeddings:Letters")
    for given in ((data,), (data, "label"), (data["text"], NAMED), (data.to_pandas().text, NAMED)):
        family = il.tasks.from_arrays(*given, embedding="own_embeddings:Letters")
        assert family.train.at(0, 0, 2).support.x.equal(expected.train.at(0, 0, 2).support.x)


def test_streams_and_split_data_sets_are_refused(hf):
    data = pictures(hf)
    with pytest.raises(il.InputError, match=r"got one for each of train, test; give one, such as data\['train'\]"):
        il.tasks.from_arrays(hf.DatasetDict({"train": data, "test": data}))
    data = data.to_iterable_dataset()
    with pytest.raises(il.InputError, match=r"got a stream \(IterableDataset\)") as error:
        il.tasks.from_arrays(data)
    advice = str(error.value).partition("memory: ")[2]
    taken = eval(advice, {"datasets": hf, "data": data})
    assert il.tasks.from_arrays(taken).train.images.names == tuple(sorted(NAMES))


def test_rows_without_label_or_picture(hf):
    with pytest.raises(il.InputError, match="row 3 expected a label, got -1"):
        il.tasks.from_arrays(pictures(hf, [0, 0, -1, *LABELS[3:]]))
    bare = pictures(hf).to_dict()
    bare["image"][1] = None
    with pytest.raises(il.InputError, match="row 2 expected an input, got none"):
        il.tasks.from_arrays(hf.Dataset.from_dict(bare, features=pictures(hf).features))
