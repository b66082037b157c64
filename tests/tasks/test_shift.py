"""Shifted tasks: the same keys, moved by the distance and by nothing else; MNIST's files; clear errors."""

from __future__ import annotations

import gzip
import math
import struct

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.class_images import ClassImages
from innerloop.data.mnist_files import FILES, load_mnist, read_idx
from innerloop.tasks.pictures.few_shot import few_shot_family
from innerloop.tasks.pictures.shifted import TurnedPictures
from innerloop.tasks.shift import SHIFTS, kinds_of, parse_shift, shifted
from innerloop.tasks.split_sizes import Sizes

KEYS = torch.arange(5) * 7919


def pictures(side: int = 28):
    """Six classes of three alphabets, four random drawings each."""
    images = torch.randint(0, 256, (6, 4, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    named = ClassImages(images, tuple("abcdef"), ("Greek", "Greek", "Latin", "Latin", "Latin", "Thai"))
    splits = {"train": [0, 1], "valid": [2, 3], "test": [4, 5]}
    return few_shot_family("toy", named, splits, Sizes(2, 1, 2))


def write_mnist(folder, pictures: np.ndarray, labels: np.ndarray, packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(FILES, (pictures, labels), strict=True):
        data = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)


def digits(each: int = 5) -> tuple[np.ndarray, np.ndarray]:
    labels = np.tile(np.arange(10, dtype=np.uint8), each)
    return np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8), labels


@pytest.mark.parametrize(("kind", "distance"), [("phase", 1.5), ("amplitude", 7.0), ("range", -3.0)])
def test_a_sine_moves_by_the_distance_and_all_else_stays(kind, distance):
    plain = il.tasks.sinusoid(shots=3, queries=4).test
    far = shifted(plain, kind, distance)
    before, after = plain.parameters(KEYS), far.parameters(KEYS)
    moves = {"phase": after.phase - before.phase, "amplitude": after.amplitude - before.amplitude}
    moves["range"] = (far.from_keys(KEYS).query.x - plain.from_keys(KEYS).query.x).flatten()
    for name, found in moves.items():
        wanted = distance if name == kind else 0.0
        assert torch.allclose(found, torch.full_like(found, wanted), atol=1e-5), name
    task = far.from_keys(KEYS)
    y = after.amplitude[:, None] * torch.sin(task.support.x[..., 0] - after.phase[:, None])
    assert torch.allclose(task.support.y[..., 0], y, atol=1e-5)
    assert plain.phase == (0.0, math.pi) and plain.input_range == (-5.0, 5.0)  # untouched


def test_of_a_family_only_the_test_split_moves():
    family = il.tasks.sinusoid()
    far = il.tasks.shifted(family, "phase", 2.0)
    assert far.train is family.train and far.valid is family.valid
    assert far.test.phase == (2.0, math.pi + 2.0)
    assert far.test.at(0, 0, 2).noise.equal(family.test.at(0, 0, 2).noise)


def test_no_distance_changes_nothing():
    for plain, kinds in (
        (il.tasks.sinusoid().test, ("phase", "amplitude", "range")),
        (pictures().test, ("rotation", "invert", "mnist")),
    ):
        for kind in kinds:
            for side in ("support", "query"):
                a, b = (getattr(t.from_keys(KEYS), side) for t in (plain, shifted(plain, kind, 0)))
                assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


def test_pictures_are_inverted_and_turned():
    plain = pictures().test
    task = plain.from_keys(KEYS)
    swapped = shifted(plain, "invert", 1).from_keys(KEYS)
    assert torch.equal(swapped.support.x, 1 - task.support.x) and torch.equal(swapped.query.y, task.query.y)
    for degrees, quarters in ((90, 1), (180, 2), (-90, 3), (450, 1)):
        turned = shifted(plain, "rotation", degrees).from_keys(KEYS)
        assert torch.equal(turned.query.x, torch.rot90(task.query.x, quarters, (-2, -1)))
    assert torch.equal(shifted(plain, "rotation", 360).from_keys(KEYS).query.x, task.query.x)


@pytest.mark.parametrize(("height", "width"), [(21, 21), (15, 25)])
def test_an_angle_between_the_quarters(height, width):
    """A dot at a known place comes out where the rotation says, and the way back restores the middle."""
    split = TurnedPictures(pictures().test, 30.0)
    dot = torch.zeros(1, 1, height, width)
    dot[0, 0, height // 2, width // 2 + 6] = 1.0  # six pixels to the right of the middle
    found = split.change(dot)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    mean = [float((found * place).sum() / found.sum()) for place in (rows, columns)]
    # Anticlockwise on the page: up, which is towards smaller rows.
    assert mean == pytest.approx([-6 * math.sin(math.pi / 6), 6 * math.cos(math.pi / 6)], abs=0.3)
    assert float(found.sum()) == pytest.approx(1.0, abs=0.25)
    close = TurnedPictures(pictures().test, 89.999).change(torch.rand(1, 1, 21, 21))
    torch.manual_seed(3)
    x = torch.rand(1, 1, 21, 21)
    close, exact = (TurnedPictures(pictures().test, d).change(x) for d in (89.999, 90.0))
    assert (close - exact).abs().max() < 0.01


def test_an_alphabet_gives_all_classes_of_a_task():
    plain = pictures().test
    split = shifted(plain, "alphabet", "Latin")
    assert {split.class_name(int(i)) for i in split.at(0, 0, 20).class_ids.flatten()} == {"c", "d", "e"}
    with pytest.raises(il.InputError, match="unknown alphabet 'Latim': did you mean 'Latin'"):
        shifted(plain, "alphabet", "Latim")
    with pytest.raises(il.InputError, match="ways expected at most 1"):
        shifted(plain, "alphabet", "Thai")


@pytest.mark.parametrize("packed", [True, False])
def test_mnists_digits_become_the_classes(tmp_path, monkeypatch, packed):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    drawn, labels = digits()
    write_mnist(tmp_path / "mnist", drawn, labels, packed)
    split = shifted(pictures().test, "mnist", 1)
    assert split.num_classes == 10 and split.ways == 2
    task = split.at(0, 0, 4)
    names = [split.class_name(int(i)) for i in task.class_ids[0]]
    known = drawn[labels == int(names[1].removeprefix("digit "))] / 255
    shown = task.support.x[0, task.support.y[0] == 1][0, 0].numpy()
    assert any(np.allclose(shown, picture, atol=1e-6) for picture in known)
    assert load_mnist(14).example_shape == (1, 14, 14)
    assert shifted(pictures(16).test, "mnist", 1).input_shape == (1, 16, 16)


def test_damaged_mnist_files(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    with pytest.raises(il.InputError, match=r"expected MNIST's t10k-images-idx3-ubyte\.gz in .*INNERLOOP_DATA"):
        load_mnist()
    drawn, labels = digits()
    path = tmp_path / "mnist" / f"{FILES[0]}.gz"
    write_mnist(path.parent, drawn, labels[:-1])
    with pytest.raises(il.InputError, match="as many labels"):
        load_mnist()
    write_mnist(path.parent, drawn, np.minimum(labels, 8))
    with pytest.raises(il.InputError, match="all ten digits, got none of one"):
        load_mnist()
    whole = gzip.decompress(path.read_bytes())
    for bad, said in (
        (path.read_bytes()[:-50], "expected an IDX file, got"),
        (gzip.compress(whole[:-1]), "bytes for the shape"),
        (gzip.compress(b"\x00\x00\x0d\x03" + whole[4:]), "of bytes with 3 axes, got another"),
        (b"", "got another"),
    ):
        path.write_bytes(bad)
        with pytest.raises(il.InputError, match=said):
            read_idx(path, 3)


def test_real_mnist():
    from innerloop.data.locations import data_folder

    if not (data_folder() / "mnist" / f"{FILES[0]}.gz").is_file():
        pytest.skip("MNIST's files are not in INNERLOOP_DATA/mnist")
    images = load_mnist()
    assert tuple(images.images.shape) == (10, 892, 28, 28)
    ink = images.images.float().mean((1, 2, 3))
    assert int(ink.argmax()) == 0 and int(ink.argmin()) == 1  # zeros have the most ink and ones the least


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("phaze=1", il.ConfigError, "unknown shift 'phaze': did you mean 'phase'"),
        ("phase", il.ConfigError, "expected KIND=AMOUNT"),
        ("phase=", il.ConfigError, "expected KIND=AMOUNT"),
        ("phase=1,,2", il.ConfigError, "expected KIND=AMOUNT"),
        ("phase=1,1.0", il.ConfigError, "different amounts, got 1.0 twice"),
        ("phase=much", il.InputError, r"phase expected a finite number \(radians\), got 'much'"),
        ("rotation=inf", il.InputError, "rotation expected a finite number"),
    ],
)
def test_a_wrong_shift_is_told(text, error, said):
    with pytest.raises(error, match=said):
        parse_shift(text)


def test_shifts_that_these_tasks_do_not_have():
    assert parse_shift("phase=0, 0.5,-1") == ("phase", (0.0, 0.5, -1.0))
    assert parse_shift("alphabet=Latin,Greek") == ("alphabet", ("Latin", "Greek"))
    sine = il.tasks.sinusoid().test
    assert kinds_of(sine) == ["phase", "amplitude", "range"]
    assert set(kinds_of(sine)) | set(kinds_of(pictures().test)) == set(SHIFTS)
    with pytest.raises(il.ConfigError, match="sinusoid has no shift 'rotation'; its shifts: phase, amplitude, range"):
        shifted(sine, "rotation", 30)
    with pytest.raises(il.ConfigError, match="quadratics has no shift 'phase'; its shifts: none"):
        shifted(il.tasks.quadratics().test, "phase", 1)
    with pytest.raises(il.ConfigError, match="unknown shift 'colour'"):
        shifted(sine, "colour", 1)
    with pytest.raises(il.InputError, match="whole circle"):
        shifted(il.tasks.sinusoid(preset="grid").test, "phase", 1)
    with pytest.raises(il.InputError, match=r"invert expected 0 \(as it is\) or 1, got 0.5"):
        shifted(pictures().test, "invert", 0.5)
