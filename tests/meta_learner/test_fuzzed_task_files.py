"""Task files against foreign bytes: a task that predicts, or one of our errors; never another one."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import innerloop as il
from fuzzing import fuzzed
from innerloop.data.support_files import preprocessing_of
from innerloop.errors import InnerloopError
from innerloop.meta_learner import files as bundle
from innerloop.meta_learner.unknown_inputs import Threshold

LIMIT = Threshold("energy", 0.5, 0.95, 0.95, 0.1, 0.9, 2, 1, 50, "glyphs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[bytes]:
    """One file of adapted weights, one of class means."""
    import dataclasses

    torch.manual_seed(0)
    x, y = torch.rand(4, 1, 2, 2), ["no", "yes", "no", "yes"]
    found = []
    for learner in (
        il.maml(il.models.mlp((1, 2, 2), 2, hidden=(3,), batch_norm=True), inner_steps=1),
        il.protonet(il.models.mlp((1, 2, 2), None, hidden=(3,))),
    ):
        one = dataclasses.replace(learner.adapt(x, y), preprocessing=preprocessing_of(True), threshold=LIMIT)
        data = one.save(tmp_path_factory.mktemp("task") / "task.il").read_bytes()
        outer = header(data)
        del outer["__metadata__"]["sha256"]  # a stranger takes the right one: what is behind it has to stand by itself
        found.append(with_header(data, outer))
    return found


def header(data: bytes) -> dict:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def with_header(data: bytes, changed: object) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    text = json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """The ways to everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way for key, inner in items for way in [(*path, key), *places(inner, (*path, key))]]


def changed(value: object, way: tuple, new: object, gone: bool) -> object:
    copied = json.loads(json.dumps(value))
    inside = copied
    for key in way[:-1]:
        inside = inside[key]
    if gone:
        del inside[way[-1]]
    else:
        inside[way[-1]] = new
    return copied


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """Bytes changed, or a value of the header, or of the JSON text that the header holds."""
    kind = draw(st.sampled_from(["bytes", "header", "inside"]))
    if kind == "bytes":
        found = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
        return bytes(found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found)
    outer = header(data)
    if kind == "header":
        way = draw(st.sampled_from(places(outer)))
        return with_header(data, changed(outer, way, draw(JSON), draw(st.booleans())))
    key = draw(st.sampled_from(sorted(outer["__metadata__"])))
    text = outer["__metadata__"][key]
    try:
        inner = json.loads(text)
    except ValueError:
        inner = None
    ways = places(inner)
    new = json.dumps(changed(inner, draw(st.sampled_from(ways)), draw(JSON), draw(st.booleans()))) if ways else "{"
    return with_header(data, changed(outer, ("__metadata__", key), new, False))


@fuzzed(60)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_fuzzed_task_file_predicts_or_is_refused(data, whole, tmp_path):
    file = tmp_path / "task.il"
    file.write_bytes(data.draw(damaged(data.draw(st.sampled_from(whole)))))
    try:
        fitted = il.load(file)
        assert isinstance(fitted, il.Fitted)
        found = fitted.predict(torch.rand(2, *fitted.support.x.shape[1:]))
        assert len(found) == 2
    except InnerloopError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("way", "new"),
    [
        (("model", "arguments", "hidden"), [2_000_000_000]),
        (("model", "arguments", "hidden"), [9_000, 9_000]),
        (("algorithm", "options", "inner_steps"), 10**12),
        (("support", "x", 0), [4, 1, 1 << 20, 1 << 20]),
        (("support", "y", 0), [4, 1 << 40]),
    ],
)
def test_a_header_asks_for_no_memory_that_the_file_does_not_hold(whole, tmp_path, way, new):
    outer = header(whole[0])
    outer["__metadata__"]["header"] = json.dumps(changed(json.loads(outer["__metadata__"]["header"]), way, new, False))
    (tmp_path / "task.il").write_bytes(with_header(whole[0], outer))
    with pytest.raises(il.CheckpointError, match=r"task\.il (expected|is damaged)"):
        il.load(tmp_path / "task.il")


def test_only_numbers_that_size_something_are_bounded():
    assert not bundle._beyond({"phase_steps": 10**9, "pairs": 50_000, "eval_steps": 50_000, "inner_lr": 0.1}, 10_000)
    for options in ({"eval_steps": 10**9}, {"hidden": [8, 50_000]}, {"rule": {"width": -50_000}}):
        assert bundle._beyond(options, 10_000)
    assert not bundle._beyond({"hidden": [8, 50_000]}, 50_000), "a file that large may have them"
