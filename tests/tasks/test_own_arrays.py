"""Arrays, tensors and data sets as a problem."""

import types

import numpy as np
import pytest
import torch
from PIL import Image

import innerloop as il
from innerloop.errors import ConfigError, InputError

LABELS = np.repeat(np.arange(12), 5)
RNG = np.random.default_rng(0)
EMBEDDINGS = (RNG.normal(size=(60, 7)) * 0.1 + LABELS[:, None]).astype(np.float32)


def nearest_is_right(task):
    near = torch.cdist(task.query.x.flatten(2), task.support.x.flatten(2)).argmin(-1)
    return bool(task.support.y.gather(1, near).equal(task.query.y))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_embeddings_keep_their_values_whatever_the_order(kind):
    order = RNG.permutation(60)
    family = il.tasks.from_arrays(kind(EMBEDDINGS[order]), kind(LABELS[order]), shots=2)
    task = family.test.at(0, 0, 10)
    assert task.support.x.shape == (10, 6, 7) and nearest_is_right(task)
    rows = {tuple(row) for row in EMBEDDINGS.tolist()}
    assert all(tuple(row) in rows for row in task.support.x.flatten(0, 1).tolist())
    assert il.evaluate(il.protonet(il.models.mlp(7, 7)), family.test, num_tasks=5).mean > 0.5


def test_bytes_are_pictures_with_channels_first_or_last():
    pictures = np.broadcast_to((LABELS * 20)[:, None, None, None], (60, 8, 9, 3)).astype(np.uint8)
    last = il.tasks.from_arrays(pictures, LABELS).train.at(0, 0, 2)
    first = il.tasks.from_arrays(pictures.transpose(0, 3, 1, 2), LABELS).train.at(0, 0, 2)
    assert last.support.x.shape[2:] == (3, 8, 9) and last.support.x.equal(first.support.x)
    assert nearest_is_right(last)
    assert il.tasks.from_arrays(pictures[..., 0], LABELS).train.input_shape == (1, 8, 9)


def test_a_torch_data_set_gives_the_same_tasks_as_its_arrays():
    data = torch.utils.data.TensorDataset(torch.as_tensor(EMBEDDINGS), torch.as_tensor(LABELS))
    a, b = (
        family.train.at(0, 0, 3) for family in (il.tasks.from_arrays(data), il.tasks.from_arrays(EMBEDDINGS, LABELS))
    )
    assert a.query.x.equal(b.query.x) and a.query.y.equal(b.query.y)


class Columns:
    """What Hugging Face's data sets look like from outside."""

    column_names = ("image", "label")
    features = {"label": types.SimpleNamespace(names=[f"animal {i}" for i in range(12)])}  # noqa: RUF012

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return {"image": Image.new("RGB", (20 + i % 2, 16), (int(LABELS[i]) * 20, 9, 9)), "label": int(LABELS[i])}


def test_columns_of_pictures_keep_their_class_names():
    family = il.tasks.from_arrays(Columns())
    assert family.train.input_shape == (3, 16, 20)
    assert set(family.train.images.names) == {f"animal {i}" for i in range(12)}
    assert nearest_is_right(family.valid.at(0, 0, 5))


def test_splits_may_be_named():
    splits = {"train": range(6), "valid": [6, 7, 8], "test": ["9", 10, 11]}
    family = il.tasks.from_arrays(EMBEDDINGS, LABELS, splits=splits)
    assert [family.test.images.names[c] for c in family.test.classes.tolist()] == ["9", "10", "11"]
    with pytest.raises(InputError, match=r"got '6' in train and valid"):
        il.tasks.from_arrays(EMBEDDINGS, LABELS, splits={**splits, "train": range(7)})


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (EMBEDDINGS, LABELS[:-1], "got 59 for 60"),
        (EMBEDDINGS, np.zeros(60, int), "at least two classes"),
        (EMBEDDINGS, LABELS + 0.5, "got fractions"),
        (EMBEDDINGS * np.nan, LABELS, "finite"),
        (EMBEDDINGS[:, 0], LABELS, "one row an example"),
        (np.array(["a"] * 60)[:, None], LABELS, "expected numbers"),
        (EMBEDDINGS, np.eye(12)[LABELS], "argmax"),
        ({"train": 1}, None, "one data set, got one for each"),
        (iter([1]), None, "with a length"),
        ([1, 2, 3], None, "a pair of input and label"),
    ],
)
def test_what_does_not_fit_is_told(x, y, said):
    with pytest.raises(InputError, match=said):
        il.tasks.from_arrays(x, y)


def test_a_run_on_arrays_says_that_it_cannot_make_them_again(tmp_path):
    from innerloop.assemble import from_run

    family = il.tasks.from_arrays(EMBEDDINGS, LABELS)
    il.fit(il.protonet(il.models.mlp(7, 4)), family, steps=1, num_tasks=1, out=tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match="arrays that a run does not hold"):
        from_run(tmp_path / "run")
