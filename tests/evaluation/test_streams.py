"""`il.evaluate_stream`: one pass, judged at the end; the rate comes from validation streams alone."""

from __future__ import annotations

import json

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.data.class_images import ClassImages
from innerloop.errors import ConfigError, InputError
from innerloop.evaluation import streams as module
from innerloop.tasks.streams import class_streams
from innerloop.tasks.streams.class_streams import ClassStreams


def drawings(classes: int = 36) -> ClassImages:
    """Each class a pattern of its own with a little noise, so that there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randint(0, 200, (classes, 1, 12, 12), generator=generator)
    noise = torch.randint(0, 55, (classes, 20, 12, 12), generator=generator)
    names = tuple(f"a{c // 6}/{c}" for c in range(classes))
    return ClassImages((patterns + noise).to(torch.uint8), names, tuple(name.split("/")[0] for name in names))


def split(which: str, numbers: range) -> ClassStreams:
    return ClassStreams(drawings(), numbers, name="toy", split=which, learn=15, judged=5, remember=8, classes=6)


@pytest.fixture
def streams():
    test = split("test", range(12, 36))
    test.valid = split("valid", range(12))
    return test


@pytest.fixture
def learner():
    torch.manual_seed(0)
    return il.oml(il.models.conv4((1, 12, 12), None, filters=8, norm="none", spatial="flatten", halvings=2))


def test_it_is_what_adapting_to_the_stream_gives(learner, streams):
    found = il.evaluate_stream(learner, streams, classes=6, streams=3, rates=[0.03])
    score = found.classes[6]
    learner.learner = module.dataclasses.replace(learner.learner, eval_lr=0.03)
    for i, value in enumerate(score.per_stream):
        batch = streams.with_classes(6).at(0, i, 1)
        right = learner.predict_queries(batch)[0].argmax(-1) == batch.query.y[0]
        assert value == pytest.approx(float(right.double().mean()))
    assert score.rate == 0.03 and score.chosen_on is None and score.mean == pytest.approx(sum(score.per_stream) / 3)
    assert 0 < score.class_means <= 1 and 0 <= score.shuffled <= 1 and 0 <= score.learned <= 1
    assert "6 classes: accuracy" in repr(found) and "nearest class mean" in repr(found)


def test_the_rate_is_chosen_on_validation_streams(learner, streams, monkeypatch):
    drawn = []
    usual = ClassStreams.at

    def seen(self, *given, **more):
        drawn.append((self.split, self.classes))
        return usual(self, *given, **more)

    monkeypatch.setattr(ClassStreams, "at", seen)
    found = il.evaluate_stream(learner, streams, classes=(6, 20), streams=2, valid_streams=3)
    assert found.classes[6].chosen_on == 6 and found.classes[20].chosen_on == 12  # validation has no more
    assert [d for d in drawn if d[0] == "valid"] == [("valid", 6)] * 3 + [("valid", 12)] * 3
    assert all(found.classes[n].rate in module.RATES or found.classes[n].rate > 0 for n in (6, 20))
    # Chosen means best: of the rates on the validation streams none is better.
    monkeypatch.undo()
    on_valid = {
        rate: il.evaluate_stream(learner, streams.valid, classes=6, streams=3, seed=12345, rates=[rate]).classes[6].mean
        for rate in module.RATES
    }
    # `at` draws stream i as step i; the same streams are judged there.
    assert on_valid[min(on_valid, key=lambda rate: abs(rate - found.classes[6].rate))] >= max(on_valid.values()) - 1e-9


def test_other_methods_adapt_to_the_stream(streams):
    torch.manual_seed(0)
    found = il.evaluate_stream(il.protonet(il.models.conv4((1, 12, 12), None)), streams, classes=6, streams=2)
    score = found.classes[6]
    assert score.rate is None and score.mean > 0.5 and score.class_means != score.class_means  # NaN: not measured


def test_what_cannot_be_is_refused(learner, streams):
    with pytest.raises(InputError, match="class streams"):
        il.evaluate_stream(learner, il.tasks.sinusoid().test)
    with pytest.raises(InputError, match="classes expected 1 to 24"):
        il.evaluate_stream(learner, streams, classes=25)
    with pytest.raises(ConfigError, match="rates expected numbers above 0"):
        il.evaluate_stream(learner, streams, rates=[0.0])
    streams.valid = None
    with pytest.raises(InputError, match="expected validation streams"):
        il.evaluate_stream(learner, streams, classes=6)


def test_the_command(tmp_path, monkeypatch, capsys):
    """Train a little, stream, as a user does; mistakes are one line and exit with 2."""
    monkeypatch.setattr(class_streams, "glyph_images", lambda size: drawings())
    splits = dict(zip(("a0", "a1", "a2", "a3", "a4", "a5"), ("train",) * 3 + ("valid", "test", "test"), strict=True))
    monkeypatch.setattr(class_streams, "SPLITS", splits)
    run = tmp_path / "run"
    words = ["train", "oml", "glyphs_stream", "--classes", "4", "--steps", "2", "--validate-every", "0", "--quiet"]
    assert main([*words, "--out", str(run)]) == 0
    capsys.readouterr()
    assert main(["stream", str(run), "--classes", "3,5", "--streams", "2", "--valid-streams", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["classes"]) == {"3", "5"} and 0 <= found["classes"]["5"]["mean"] <= 1
    assert json.loads((run / "stream.json").read_text())["classes"]["3"]["rate"] > 0
    for bad in (["--classes", "0"], ["--classes", "x"], ["--rate", "-1"], ["--classes", "99"], ["--streams", "1"]):
        assert main(["stream", str(run), *bad]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["stream", str(tmp_path / "no-run")]) == 2
