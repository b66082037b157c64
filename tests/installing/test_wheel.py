"""What is published: a source release, and the wheel made of it, installed away from this tree and tried as a user would."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import innerloop
from innerloop.builtin import LEARNERS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_LEFT_BEHIND = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "results", "demo-report"
)
_SDIST = "import sys, setuptools.build_meta as made_by; made_by.build_sdist(sys.argv[1])"


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source release and the wheel made of that."""
    (needed,) = map(Requirement, PROJECT["build-system"]["requires"])
    if Version(version(needed.name)) not in needed.specifier:
        pytest.skip(f"building the wheel needs {needed}, got {version(needed.name)}")
    tree, dist = tmp_path_factory.mktemp("tree") / "innerloop", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, tree, ignore=_LEFT_BEHIND)
    run(sys.executable, "-c", _SDIST, dist, cwd=tree)
    (sdist,) = dist.glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", dist, sdist, cwd=dist)
    return dist


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone, in a folder; what it needs is this environment's."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=built)
    return folder


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"innerloop-{innerloop.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"innerloop", f"innerloop-{innerloop.__version__}.dist-info"}
    source = ROOT / "src"
    code = {str(path.relative_to(source)) for path in (source / "innerloop").rglob("*.py")}
    learners = {
        str(path.relative_to(source))
        for path in (source / "innerloop" / "builtin").glob("*/*")
        if path.suffix != ".pyc"
    }
    assert {name for name in names if name.startswith("innerloop/")} == code | learners | {"innerloop/py.typed"}


@pytest.mark.slow
def test_the_source_release_has_the_sources_and_the_versions_tested(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "pyproject.toml", "README.md", "LICENSE", "constraints.txt"} <= inside
    assert not {"tests", "benchmarks", "docs"} & inside


@pytest.mark.slow
def test_an_installed_wheel_trains_adapts_and_predicts(installed, tmp_path):
    (tmp_path / "points.csv").write_text("x,y\n-1,-0.8\n0,0\n1,0.8\n2,0.9\n", encoding="utf-8")
    (tmp_path / "new.csv").write_text("x\n0.5\n1.5\n", encoding="utf-8")

    def command(*words: str | Path) -> str:
        return run(installed / "bin" / "innerloop", *words, cwd=tmp_path, PYTHONPATH=str(installed)).stdout

    where = run(
        sys.executable, "-c", "import innerloop; print(innerloop.__file__)", cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert Path(where.stdout.strip()) == installed / "innerloop" / "__init__.py"
    assert command("--version").strip() == innerloop.__version__
    assert {"maml", "protonet"} <= set(json.loads(command("list", "--json"))["algorithms"])
    command("train", "maml", "sinusoid", "--steps", "2", "--quiet", "--out", "sine")
    assert json.loads(command("evaluate", "sine", "--num-tasks", "4", "--json"))["num_tasks"] == 4
    command("adapt", "sine", "points.csv", "--target", "y", "--out", "task.il")
    command("predict", "task.il", "new.csv", "--out", "found.csv")
    rows = list(csv.DictReader((tmp_path / "found.csv").open(encoding="utf-8")))
    assert len(rows) == 2 and all(abs(float(row["prediction"])) < 100 for row in rows)


@pytest.mark.slow
def test_an_installed_wheel_opens_its_builtin_learners(installed, tmp_path):
    code = f"import innerloop as il; print([il.load('builtin:' + name).name for name in {list(LEARNERS)!r}])"
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.stdout.count(",") == len(LEARNERS) - 1


def test_one_version_everywhere():
    stated = PROJECT["project"]["version"]
    assert innerloop.__version__ == stated
    assert re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)[1] == stated


def test_the_release_workflow_publishes_what_was_tried_and_only_on_a_tag():
    import yaml

    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert workflow[True]["push"] == {"tags": ["v*"]}  # YAML reads `on` as true
    assert publish["needs"] == "build" and publish["permissions"] == {"id-token": "write"}
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    classified = {c.split(" :: ")[-1] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(map(str, build["strategy"]["matrix"]["python"])) == classified and min(classified) == oldest
