"""A torch that is newer than tried is named once, on stderr, with the doctor; and what is said of versions agrees."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import innerloop as il
from innerloop.functional.torch_version import NEWEST_TRIED

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

_COMMAND = """
import sys, torch
torch.__version__ = torch.torch_version.TorchVersion(sys.argv[1])
from innerloop.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def requirements() -> list[Requirement]:
    extras = [entry for entries in PROJECT["optional-dependencies"].values() for entry in entries]
    return [r for r in map(Requirement, [*PROJECT["dependencies"], *extras]) if r.name != PROJECT["name"]]


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name: Version(version) for name, version in pinned}


def told(version: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(torch, "__version__", version)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            il.maml(il.models.mlp(1, 1), inner_lr=0.1, inner_steps=1)
    return [str(w.message) for w in caught if issubclass(w.category, il.InnerloopWarning)]


@pytest.mark.parametrize("version", ["2.6.0", "2.13.0+cpu", NEWEST_TRIED, f"{NEWEST_TRIED}+cu130", "2.9.10"])
def test_a_torch_that_was_tried_is_not_mentioned(version, monkeypatch):
    assert told(version, monkeypatch) == []


@pytest.mark.parametrize("version", ["2.14.2", "2.15.0+cpu", "2.100.0.dev20270101", "3.0.0a0+git1"])
def test_a_newer_torch_is_named_once(version, monkeypatch):
    (said,) = told(version, monkeypatch)
    assert f"up to {NEWEST_TRIED}, got {version};" in said and "innerloop doctor RUN" in said


def test_a_command_says_it_once_and_not_on_stdout(tmp_path):
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", _COMMAND, "2.99.0", *words], capture_output=True, text=True)

    run = str(tmp_path / "run")
    trained = command("train", "maml", "sinusoid", "--steps", "1", "--quiet", "--out", run)
    judged = command("evaluate", run, "--num-tasks", "4", "--json")
    for done in (trained, judged):
        assert done.returncode == 0, done.stderr
        assert (
            re.findall(r"^innerloop: note: .*2\.99\.0.*doctor", done.stderr, re.M) and done.stderr.count("2.99.0") == 1
        )
        assert "2.99.0; it" not in done.stdout and "doctor" not in done.stdout


def test_constraints_hold_a_version_of_everything_in_range():
    """But jupyterlab, in which nothing is tested."""
    held, asked = constraints(), requirements()
    assert {r.name for r in asked} - set(held) == {"jupyterlab"}
    for requirement in asked:
        if requirement.name in held:
            assert held[requirement.name] in requirement.specifier, (
                f"{requirement}, constraints.txt {held[requirement.name]}"
            )


def test_the_newest_torch_tried_agrees_with_the_files_and_pages():
    (asked,) = (r for r in requirements() if r.name == "torch")
    assert constraints()["torch"] <= Version(NEWEST_TRIED) and Version(NEWEST_TRIED) in asked.specifier
    for page, said in (
        ("docs/installing.md", f"torch was tried up to {NEWEST_TRIED}."),
        ("docs/installing.zh-CN.md", f"torch 试到 {NEWEST_TRIED} 为止"),
    ):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert said in text
        ranges = re.findall(r"`torch([<>=][^`]*)`", text)
        assert ranges and all(SpecifierSet(found) == asked.specifier for found in ranges)
