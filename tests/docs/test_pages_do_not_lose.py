"""No page recommends what loses: the trainings that our pages and examples name, shortened, beside the simplest baselines.

The pages that tell a reader what to run are read for their `innerloop train` lines; each has to be a case here, and a case has to
be on a page. Pages of single methods show how that method is run, and `innerloop compare` shows the baselines itself.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from innerloop.cli.main import main
from innerloop.data.locations import data_folder

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *sorted(ROOT.glob("README*.md")),
    *sorted(ROOT.glob("docs/own-*.md")),
    *sorted(ROOT.glob("docs/commands*.md")),
    ROOT / "docs" / "how-to-choose.md",
    ROOT / "docs" / "seeds-and-sweeps.md",
    ROOT / "docs" / "time.md",
    *sorted(ROOT.glob("examples/*.ipynb")),
)
# What is trained, by method and data -> shortened flags of training, and of judging.
CASES = {
    ("maml", "sinusoid"): ("--steps 2000 --validate-every 0", ""),
    ("protonet", "glyphs"): ("--ways 5 --shots 1 --steps 100 --train-ways 10 --validate-every 0", ""),
    ("protonet", "my-pictures"): ("--ways 5 --shots 1 --steps 100 --train-ways 10 --validate-every 0", ""),
    ("r2d2", "visits.csv"): (
        "--target motor_UPDRS --task-column patient --ignore total_UPDRS --steps 300",
        "--every-task --draws 20",
    ),
    ("maml", "ratings.csv"): (
        "--target rating --task-column userId --item-column movieId --ignore timestamp --steps 300",
        "--every-task --draws 5",
    ),
    ("column_evidence", "synthetic_tables"): ("--columns 24 --steps 50 --validate-every 0", "--num-tasks 100"),
}
CLEAR = {("maml", "sinusoid"), ("protonet", "glyphs"), ("protonet", "my-pictures")}  # better than each, beyond chance
# Measured by a recipe, whose stored rows are read.
STORED = {("protonet", "train"): "own-five-new-classes"}
# The same, of rows that have the lead over class means task by task.
PAIRED = {("protonet", "my-photos"): "photos-embedded", ("protonet", "tickets.csv"): "intents-embedded"}
# Judged beside wrong and no support by a recipe of its own (drawings-16).
_OWN_BASELINES = {("score_model", "drawings")}
# Of the reader's own package, or of one whose name is a place for theirs.
_OTHERS = {"own_method.method:halving_maml", "nearest:nearest"}


def trainings(page: Path) -> set[tuple[str, str]]:
    """(method, data) of the `innerloop train` lines of a page."""
    found = re.findall(r"innerloop train ([\w.:]+) ([\w./:-]+)", page.read_text(encoding="utf-8"))
    return {(method, data) for method, data in found if method not in _OTHERS}


def test_each_training_on_a_page_is_a_case_here():
    named = {case: page.name for page in PAGES for case in trainings(page)}
    assert set(named) <= {*CASES, *STORED, *PAIRED, *_OWN_BASELINES}, named
    assert {*CASES, *STORED, *PAIRED} <= set(named)


def pictures(folder: Path) -> Path:
    """Sixty printed characters, twenty drawings each."""
    from PIL import Image

    from innerloop.data.class_images import seeded_order
    from innerloop.data.glyph_images import glyph_images

    images = glyph_images()
    chosen = [images.names.index(name) for name in seeded_order(images.names, 0)[:60]]
    for c in chosen:
        place = folder / "my-pictures" / f"class-{c}"
        place.mkdir(parents=True)
        for i, picture in enumerate(images.images[c].numpy()):
            Image.fromarray(255 - picture).save(place / f"{i}.png")
    return folder / "my-pictures"


def visits(folder: Path) -> Path:
    """The real table where it is at hand; else one of patients whose course is a line of some columns that each has its own."""
    real = data_folder() / "multitask_tabular" / "parkinsons_updrs.data.gz"
    path = folder / "visits.csv"
    if real.is_file():
        path.write_bytes(gzip.decompress(real.read_bytes()).replace(b"subject#", b"patient", 1))
        return path
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", *"abcdef", "motor_UPDRS", "total_UPDRS"])
        for patient in range(60):
            slopes, level = np.append(random.normal(size=2), np.zeros(4)) + 1.0, random.uniform(10, 40)
            for _ in range(60):
                x = random.normal(size=6)
                y = level + float(x @ slopes) + random.normal()
                writer.writerow([f"p{patient}", *(f"{v:.3f}" for v in x), f"{y:.3f}", f"{y + 3:.3f}"])
    return path


def ratings(folder: Path) -> Path:
    """MovieLens where it is at hand; else users who rate films, each film and user with a level of its own."""
    real = data_folder() / "movielens" / "ml-latest-small.zip"
    path = folder / "ratings.csv"
    if real.is_file():
        with zipfile.ZipFile(real) as archive:
            path.write_bytes(archive.read("ml-latest-small/ratings.csv"))
        return path
    random = np.random.default_rng(0)
    levels, lines = random.normal(size=40), ["userId,movieId,rating,timestamp"]
    for user in range(100):
        own = random.normal() / 2
        lines += [
            f"{user},{f},{3 + levels[f] + own + random.normal() / 4:.2f},{f}" for f in random.permutation(40)[:25]
        ]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_it_does_not_lose(case, tmp_path, capsys):
    method, data = case
    made = {"my-pictures": pictures, "visits.csv": visits, "ratings.csv": ratings}
    path = str(made[data](tmp_path)) if data in made else data
    training, judging = (flags.split() for flags in CASES[case])
    assert main(["train", method, path, *training, "--quiet", "--seed", "0", "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), *(judging or ["--num-tasks", "200"]), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["baselines"], report
    for name, one in report["baselines"].items():
        assert one["lead"] >= -one["lead_ci95"], f"{method} on {data} loses to {name}: {report}"
    if case in CLEAR:
        assert all(one["lead"] > one["lead_ci95"] for one in report["baselines"].values()), report


def stored(recipe: str) -> list[dict[str, str]]:
    files = sorted((ROOT / "results").glob("*.csv"))
    return [row for f in files for row in csv.DictReader(f.open(encoding="utf-8")) if row.get("recipe") == recipe]


@pytest.mark.parametrize("case", PAIRED, ids="-".join)
def test_the_stored_leads_over_class_means_are_no_losses(case):
    rows = stored(PAIRED[case])
    leads = [row for row in rows if "less class mean, task by task" in row["metric"]]
    assert len(leads) == 2 and all(float(row["value"]) + float(row["ci95"]) >= 0 for row in leads), leads
    for shots in ("1-shot", "5-shot"):
        at = {row["metric"].split(": ")[1]: row for row in rows if shots in row["metric"]}
        own, ridge = at["protonet on an adapter"], at["ridge of features"]
        assert float(own["value"]) + float(own["ci95"]) >= float(ridge["value"])


@pytest.mark.parametrize("case", STORED, ids="-".join)
def test_the_stored_rows_do_not_lose(case):
    rows = stored(STORED[case])
    own, other = ([row for row in rows if (case[0] in row["metric"]) == mine] for mine in (True, False))
    assert own and other
    for row in own:
        assert all(float(row["value"]) - float(row["ci95"]) > float(each["value"]) for each in other), rows
