"""Streams of classes: what a training and a held-out stream hold, and that the keys alone say which."""

from __future__ import annotations

import pytest
import torch

import innerloop as il
from innerloop.data.class_images import ClassImages
from innerloop.data.omniglot_archive import Omniglot
from innerloop.errors import ConfigError, InputError
from innerloop.tasks.streams import class_streams
from innerloop.tasks.streams.class_streams import ClassStreams


def images(classes: int = 30, drawings: int = 20, size: int = 12) -> ClassImages:
    """Noise: no two drawings are alike."""
    drawn = torch.randint(0, 256, (classes, drawings, size, size), generator=torch.Generator().manual_seed(0))
    names = tuple(f"a{c // 6}/{c}" for c in range(classes))
    return ClassImages(drawn.to(torch.uint8), names, tuple(name.split("/")[0] for name in names))


def split(which: str, **options) -> ClassStreams:
    given = {"learn": 15, "judged": 5, "remember": 8, "classes": 6} | options
    return ClassStreams(images(), range(4, 24), name="toy", split=which, **given)


def test_a_training_stream_shows_one_class_and_remembers_any():
    train = split("train", learn=20)
    batch = train.at(0, 0, 40)
    assert batch.support.x.shape == (40, 20, 1, 12, 12) and batch.query.x.shape == (40, 28, 1, 12, 12)
    assert all(len(set(row)) == 1 for row in batch.support.y.tolist())
    assert torch.equal(batch.query.x[:, :20], batch.support.x)  # what was shown is asked for, too
    assert all(len(one.flatten(1).unique(dim=0)) == 20 for one in batch.support.x)  # every drawing once
    kept = batch.query.y[:, 20:]
    assert kept.unique().numel() == 20 == train.num_classes and batch.class_ids.shape == (40, 20)
    assert torch.equal(batch.class_ids[3], torch.arange(20))  # labels are numbers of the split's classes
    label = int(batch.query.y[5, 22])
    own = train.images.images[int(train.numbers[label])]
    assert (own.float().div(255) == batch.query.x[5, 22, 0]).flatten(1).all(1).any()


def test_a_held_out_stream_shows_class_after_class_and_judges_others():
    test = split("test")
    batch = test.at(0, 0, 3)
    assert torch.equal(batch.support.y[1], torch.arange(6).repeat_interleave(15))
    assert torch.equal(batch.query.y[2], torch.arange(6).repeat_interleave(5))
    for task in range(3):
        apart = (batch.support.x[task].flatten(1)[:, None] - batch.query.x[task].flatten(1)[None]).abs().amax(-1)
        assert apart.min() > 0  # none is shown and judged on
        assert len(set(batch.class_ids[task].tolist())) == 6
    number = int(test.numbers[batch.class_ids[0, 4]])
    shown = test.images.images[number].float().div(255)
    assert all((shown == x).flatten(1).all(1).any() for x in batch.support.x[0, 60:75, 0])
    assert test.class_name(int(batch.class_ids[0, 4])) == test.images.names[number]
    longer = test.with_classes(9)
    assert longer.at(0, 0, 1).support.y.max() == 8 and test.classes == 6


def test_streams_are_functions_of_their_keys():
    for which in ("train", "test"):
        one = split(which)
        batch, again = one.at(3, 2, 4), one.at(3, 2, 2, start=2)
        assert torch.equal(batch.support.x[2:], again.support.x) and torch.equal(batch.query.x[2:], again.query.x)
        assert not torch.equal(batch.support.x, one.at(3, 3, 4).support.x)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="classes expected 1 to 20"):
        split("test").with_classes(21)
    with pytest.raises(InputError, match="at most 20 pictures of each class"):
        split("test", learn=16)


def test_omniglots_streams_keep_the_official_split(monkeypatch):
    both = Omniglot(images(), 18)
    monkeypatch.setattr(class_streams, "load_omniglot", lambda size: both)
    found = il.tasks.omniglot_stream(valid_alphabets=1, classes=10)
    assert (found.train.num_classes, found.valid.num_classes, found.test.num_classes) == (12, 6, 12)
    assert found.valid.classes == 6 and found.test.valid is found.valid  # validation has no more
    numbers = [set(part.numbers.tolist()) for part in (found.train, found.valid, found.test)]
    assert not numbers[0] & numbers[1] and numbers[2] == set(range(18, 30))
    with pytest.raises(ConfigError, match="valid_alphabets expected at least 1"):
        il.tasks.omniglot_stream(valid_alphabets=0)
    model = found.train.default_model()
    assert model(found.train.at(0, 0, 1).support.x[0]).shape == (20, 256)
