"""Texts by class: folders, files of lines, tables and lists; the same features and numbers on every way in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import ConfigError, InnerloopWarning, InputError
from innerloop.models import embeddings
from innerloop.models.embeddings import pretrained
from innerloop.tasks import own_data

LETTERS = "own_embeddings:Letters"
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embeddings, "_loaded", {})


def said(classes: int = 10, count: int = 8) -> dict[str, list[str]]:
    """Texts of a class repeat its syllable: letters tell it."""
    return {f"say-{s}": [f"{s * 3} word {s * (i + 1)}" for i in range(count)] for s in SYLLABLES[:classes]}


def in_folders(folder: Path, texts: dict[str, list[str]]) -> Path:
    for name, own in texts.items():
        (folder / name).mkdir(parents=True)
        for i, text in enumerate(own):
            (folder / name / f"{i}.txt").write_text(text, encoding="utf-8")
    return folder


def in_table(file: Path, texts: dict[str, list[str]], **more) -> Path:
    with file.open("w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["said", "kind", *more])
        rows.writerows([text, name, *(f(name) for f in more.values())] for name, own in texts.items() for text in own)
    return file


def test_folders_lines_tables_and_lists_are_one_problem(tmp_path):
    texts = said()
    in_folders(tmp_path / "folders", texts)
    (tmp_path / "lines").mkdir()
    for name, own in texts.items():
        (tmp_path / "lines" / f"{name}.txt").write_text("\n".join(own) + "\n\n", encoding="utf-8")
    with pytest.warns(InnerloopWarning, match=r"each \.txt file is a class and each of its lines a text"):
        lines = il.tasks.from_path(tmp_path / "lines", embedding=LETTERS)
    listed = [f" {t}\n" for own in texts.values() for t in own], [name for name, own in texts.items() for _ in own]
    found = [
        il.tasks.from_path(tmp_path / "folders", embedding=LETTERS),
        lines,
        il.tasks.from_path(in_table(tmp_path / "t.csv", texts), text="said", target="kind", embedding=LETTERS, shots=5),
        il.tasks.from_arrays(*listed, embedding=LETTERS, shots=5),
    ]
    first = found[0].train.at(0, 0, 2)
    for other in found[1:]:
        assert other.train.images.names == found[0].train.images.names
        np.testing.assert_array_equal(other.train.at(0, 0, 2).support.x.numpy(), first.support.x.numpy())
    assert pretrained(LETTERS).net.seen == 80  # each text once


def test_the_split_is_what_folders_or_a_column_say(tmp_path):
    texts = said()
    parts = dict(zip(texts, ["train"] * 6 + ["valid"] * 2 + ["test"] * 2, strict=True))
    for name, part in parts.items():
        in_folders(tmp_path / "split" / part, {name: texts[name]})
    by_folder = il.tasks.from_path(tmp_path / "split", embedding=LETTERS)
    table = in_table(tmp_path / "t.csv", texts, part=lambda name: parts[name])
    by_column = il.tasks.from_path(table, text="said", target="kind", split_by="part", embedding=LETTERS)
    for family in (by_folder, by_column):
        names = family.test.images.names
        assert [names[c] for c in family.test.classes.tolist()] == ["say-lo", "say-mu"]
    torn = in_table(tmp_path / "torn.csv", {"a": ["x y", "z"]}, part=lambda name: "nowhere")
    with pytest.raises(InputError, match="expected train, valid or test in 'part'"):
        il.tasks.from_path(torn, text="said", target="kind", split_by="part", embedding=LETTERS)


def test_adapting_and_predicting_take_texts_wherever_they_are(tmp_path):
    learner = il.protonet(il.models.adapter(26))
    family = il.tasks.from_path(in_table(tmp_path / "t.csv", said()), text="said", target="kind", embedding=LETTERS)
    il.fit(learner, family, steps=2, out=tmp_path / "run", quiet=True, validate_every=0)
    loaded = il.load(tmp_path / "run")
    new = {"aaa": ["aa b", "a ab"], "zzz": ["zz y", "zyz"]}
    in_folders(tmp_path / "new", new)
    in_table(tmp_path / "new.csv", new)
    listed = loaded.adapt([t for own in new.values() for t in own], ["aaa", "aaa", "zzz", "zzz"])
    asked = ["aaaa", "zz zy"]
    columns = {"said": [t for own in new.values() for t in own], "kind": ["aaa", "aaa", "zzz", "zzz"]}
    frame = {name: np.array(cells, object) for name, cells in columns.items()}
    for fitted in (listed, *(loaded.adapt(x) for x in (tmp_path / "new", tmp_path / "new.csv", frame))):
        assert list(fitted.predict(asked)) == ["aaa", "zzz"] and type(fitted.predict(asked)) is np.ndarray
        np.testing.assert_allclose(fitted.predict_proba(asked), listed.predict_proba(asked), atol=1e-6)
        assert fitted.score(tmp_path / "new.csv") == 1.0
    (tmp_path / "ask.txt").write_text("aaaa")
    assert list(listed.predict(tmp_path / "ask.txt")) == ["aaa"]
    again = il.load(listed.save(tmp_path / "task.il", support=True))
    more = again.learn(["qq", "qqr"], ["qqq", "qqq"])
    assert list(more.predict(["qqqq"])) == ["qqq"] and more.num_examples == 6
    for wrong in ([1, 2], ["a", ""], ["a", None]):
        with pytest.raises(InputError, match="expected a list of texts, got"):
            listed.predict(wrong)
    with pytest.raises(InputError, match="expected the classes of the texts as y"):
        loaded.adapt(asked)
    with pytest.raises(InputError, match="got nothing at"):
        listed.predict("what is this?")


def test_what_is_empty_or_unreadable_is_told(tmp_path):
    folder = in_folders(tmp_path / "f", said(6, 4))
    (folder / "say-ba" / "9.txt").write_text("  \n")
    with pytest.warns(InnerloopWarning, match="left out 1 empty texts"):
        il.tasks.from_path(folder, embedding=LETTERS, shots=1)
    (folder / "say-ba" / "9.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="expected text in utf-16"):
        il.tasks.from_path(folder, embedding=LETTERS)
    table = in_table(tmp_path / "t.csv", {**said(6, 4), "": ["of nothing"]})
    with pytest.warns(InnerloopWarning, match="left out 1 of 25 rows, without a text or a class"):
        il.tasks.from_path(table, text="said", target="kind", embedding=LETTERS, shots=1)


@pytest.mark.parametrize(
    "options, said_",
    [
        ({"text": "nope", "target": "kind"}, "no column 'nope'"),
        ({"text": "said"}, "expected --target"),
        ({"text": "said", "target": "said"}, "got 'said' for both"),
        (
            {"text": "said", "target": "kind", "task_column": "kind"},
            "task_column expected a table whose columns are the inputs",
        ),
        ({"text": "said", "target": "kind", "valid_share": 0.3}, "valid_share expected a table"),
        ({"text": "said", "target": "kind", "embedding": "phots"}, "embedding expected one of photos, sentences"),
        ({"text": "said", "target": ["kind", "said"]}, "expected one column of classes for texts"),
    ],
)
def test_options_that_cannot_be_are_one_line(tmp_path, options, said_):
    table = in_table(tmp_path / "t.csv", said())
    with pytest.raises((InputError, ConfigError), match=said_):
        il.tasks.from_path(table, **{"embedding": LETTERS, **options})


def test_the_check_says_what_is_there_without_reading_by_the_network(tmp_path):
    texts = said()
    texts["say-ba"].append(texts["say-ce"][0])
    found = own_data.check(in_table(tmp_path / "t.csv", texts), text="said", target="kind", embedding=LETTERS)
    assert found.facts["classes"] == 10 and found.facts["texts"] == 81
    assert found.facts["duplicates"] == {"texts": 1, "in several classes": 1}
    assert "--text said" in found.command and not embeddings._loaded


def test_the_command_line_trains_adapts_and_predicts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(Path(__file__).parents[1])
    table, run = in_table(tmp_path / "t.csv", said()), tmp_path / "run"
    train = ["train", "protonet", str(table), "--text", "said", "--target", "kind", "--embedding", LETTERS]
    assert main([*train, "--steps", "2", "--validate-every", "0", "--out", str(run), "--quiet"]) == 0
    new = in_table(tmp_path / "new.csv", {"aaa": ["aa b", "a ab"], "zzz": ["zz y", "zyz"]})
    assert main(["adapt", str(run), str(new), "--out", str(tmp_path / "task.il"), "--valid-tasks", "0"]) == 0
    assert "adapted to 4 examples (2 classes); 1.0000 accuracy" in capsys.readouterr().out
    in_folders(tmp_path / "ask", {"x": ["aaaa", "zzzy"]})
    assert main(["predict", str(tmp_path / "task.il"), str(tmp_path / "ask"), "--out", str(tmp_path / "p.csv")]) == 0
    rows = list(csv.reader((tmp_path / "p.csv").open()))
    assert rows[0] == ["path", "label", "confidence", "p_aaa", "p_zzz"] and [r[1] for r in rows[1:]] == ["aaa", "zzz"]
    assert main(["predict", str(tmp_path / "task.il"), str(new), "--out", str(tmp_path / "q.csv")]) == 0
    rows = list(csv.reader((tmp_path / "q.csv").open()))
    assert rows[0][:2] == ["row", "prediction"] and [r[1] for r in rows[1:]] == ["aaa", "aaa", "zzz", "zzz"]
    capsys.readouterr()
    assert main(["evaluate", str(run), "--num-tasks", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] > 0.9
