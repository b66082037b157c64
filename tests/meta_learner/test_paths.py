"""`adapt` and `predict` take paths of pictures as well as tensors and arrays."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import innerloop as il
from innerloop.core import TaskSpec


@pytest.fixture(scope="module")
def learner():
    made = il.maml(il.models.mlp((1, 8, 8), 2), inner_lr=0.5, inner_steps=5)
    made.spec = TaskSpec(input_shape=(1, 8, 8))
    return made


@pytest.fixture
def folder(tmp_path):
    for name, rows in (("upper", slice(0, 4)), ("lower", slice(4, 8))):
        (tmp_path / name).mkdir()
        for i in range(3):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[rows] = 200 + i
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_of_class_folders(learner, folder):
    fitted = learner.adapt(folder, steps=20)
    assert fitted.classes_ == ["lower", "upper"]
    assert fitted.predict(folder / "upper").tolist() == ["upper"] * 3
    assert fitted.predict([folder / "lower" / "0.png", str(folder / "upper" / "1.png")]).tolist() == ["lower", "upper"]


def test_a_list_of_pictures_with_labels(learner, folder):
    paths = [folder / "lower" / "0.png", folder / "upper" / "0.png"]
    fitted = learner.adapt(paths, [7, 9], steps=20)
    assert fitted.predict(paths).tolist() == [7, 9]


def test_the_shape_of_inputs_travels_with_a_run(tmp_path):
    learner = il.maml(il.models.mlp((1, 28, 28), 5, hidden=()), inner_lr=0.1)
    il.fit(learner, il.tasks.glyphs(queries=1), steps=1, num_tasks=1, valid_tasks=1, out=tmp_path / "run", quiet=True)
    assert il.load(tmp_path / "run").input_shape == (1, 28, 28)


def test_what_cannot_be_read(learner, folder, tmp_path):
    with pytest.raises(il.InputError, match="found nothing there"):
        learner.adapt([tmp_path / "none.png"], ["a"])
    with pytest.raises(il.InputError, match="expected targets y"):
        learner.adapt(np.zeros((2, 1, 8, 8), np.float32))
    with pytest.raises(il.InputError, match="not known"):
        il.maml(il.models.mlp((1, 8, 8), 2)).adapt(folder)
    with pytest.raises(il.InputError, match=r"0\.png expected a folder with one subfolder a class"):
        learner.adapt(folder / "lower" / "0.png")
    with pytest.raises(il.InputError, match=r"pictures by class, got nothing at .*none"):
        learner.adapt(tmp_path / "none")


@pytest.mark.parametrize("make", [il.maml, il.protonet])
def test_one_class_is_refused_in_one_line(make, folder):
    learner = make(il.models.mlp((1, 8, 8), 2))
    learner.spec = TaskSpec(input_shape=(1, 8, 8))
    with pytest.raises(
        il.InputError, match=r"^expected examples of at least two classes, got one class \('a'\); add examples of"
    ):
        learner.adapt(np.zeros((3, 1, 8, 8), np.float32), ["a", "a", "a"])
    for file in (folder / "upper").iterdir():
        file.unlink()
    (folder / "upper").rmdir()
    with pytest.raises(il.InputError, match=r"at least two classes, got one class \('lower'\)"):
        learner.adapt(folder)


def test_a_table_of_plain_numbers(tmp_path):
    fitted = il.protonet(il.models.mlp(2, 3)).adapt(np.array([[0.0, 0], [1, 1]], np.float32), ["no", "yes"])
    (tmp_path / "new.csv").write_text("a,b\n0,0.1\n1,0.9\n")
    expected = fitted.predict_proba(np.array([[0, 0.1], [1, 0.9]], np.float32))
    assert np.array_equal(fitted.predict_proba(tmp_path / "new.csv"), expected)
    (tmp_path / "wide.csv").write_text("a,b,c\n0,0.1,1\n")
    with pytest.raises(il.ShapeError, match=r"expected shape \(examples, 2\) .*, got \(1, 3\)"):
        fitted.predict(str(tmp_path / "wide.csv"))
    with pytest.raises(il.InputError, match=r"expected a table, got nothing at .*none.csv"):
        fitted.predict(tmp_path / "none.csv")


def test_how_deep_pictures_are_is_kept_however_they_are_given(learner, folder, tmp_path_factory):
    deep = tmp_path_factory.mktemp("deep")
    for name in ("upper", "lower"):
        (deep / name).mkdir()
        for path in sorted((folder / name).iterdir()):
            Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 4).save(deep / name / path.name)
    paths = sorted(deep.rglob("*.png"))
    names = [path.parent.name for path in paths]
    (deep / "list.csv").write_text(
        "path;label\n" + "".join(f"{n}\\{p.name};{n}\n" for p, n in zip(paths, names, strict=True))
    )
    whole = learner.adapt(deep)
    assert whole.preprocessing["levels"] == [0, 1023]
    for fitted in (learner.adapt(paths, names), learner.adapt(deep / "list.csv"), learner.adapt(folder).learn(deep)):
        assert fitted.preprocessing == whole.preprocessing
    np.testing.assert_array_equal(learner.adapt(deep / "list.csv").predict_proba(paths), whole.predict_proba(paths))
