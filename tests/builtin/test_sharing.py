"""push and pull, with a folder in the hub's place and with a hub that is made up."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import CheckpointError, ConfigError, InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on curves, evaluated."""
    folder = tmp_path_factory.mktemp("sharing") / "run"
    tasks = il.tasks.sinusoid()
    il.fit(il.maml(il.models.mlp(1, 1, hidden=(8,))), tasks, out=folder, steps=2, valid_tasks=2, quiet=True)
    assert main(["evaluate", str(folder), "--num-tasks", "5"]) == 0
    return folder


def answers(run):
    x = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    return il.load(run).adapt(x, np.sin(x)).predict(x)


def test_a_folder_round_trip_gives_the_same_answers(run, tmp_path):
    assert il.push(run, tmp_path / "shelf") == str(tmp_path / "shelf")
    assert {file.name for file in (tmp_path / "shelf").iterdir()} == {
        "config.json", "best.safetensors", "evaluation.json", "README.md",
    }  # fmt: skip
    assert il.pull(tmp_path / "shelf", tmp_path / "again") == tmp_path / "again"
    np.testing.assert_array_equal(answers(tmp_path / "again"), answers(run))


def test_the_card_goes_with_it_and_the_machine_does_not(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["tasks"]["name"], config["command"] = (
        "/home/somebody/secret-project",
        "innerloop train maml /home/somebody/x",
    )
    config["preprocessing"] = {"kind": "pictures", "embedding": {"name": "/home/somebody/net.onnx"}}
    own = tmp_path / "own"
    shutil.copytree(run, own)
    (own / "config.json").write_text(json.dumps(config))
    il.push(own, tmp_path / "shelf")
    everything = "".join(file.read_bytes().decode("latin-1") for file in (tmp_path / "shelf").iterdir())
    assert "/home/somebody" not in everything and "secret-project" in everything
    page = (tmp_path / "shelf" / "README.md").read_text()
    report = json.loads((run / "evaluation.json").read_text())
    assert page.startswith("---\nlibrary_name: innerloop") and "maml" in page and f"{report['mean']:.4f}" in page


def test_a_built_in_one_takes_its_card_along(tmp_path):
    il.push("builtin:characters", tmp_path / "shelf")
    page = (tmp_path / "shelf" / "README.md").read_text(encoding="utf-8")
    assert "any alphabet" in page and "MIT" in page and "MNIST" in page


def test_a_run_without_validation_takes_its_last_weights(tmp_path):
    tasks = il.tasks.sinusoid()
    il.fit(
        il.maml(il.models.mlp(1, 1, hidden=(8,))), tasks, out=tmp_path / "run", steps=2, validate_every=0, quiet=True
    )
    assert not (tmp_path / "run" / "best.safetensors").exists()
    il.push(tmp_path / "run", tmp_path / "shelf")
    np.testing.assert_array_equal(answers(il.pull(tmp_path / "shelf", tmp_path / "again")), answers(tmp_path / "run"))


def test_damage_is_told_before_anything_is_written(run, tmp_path):
    il.push(run, tmp_path / "shelf")
    weights = tmp_path / "shelf" / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(CheckpointError, match="damaged"):
        il.pull(tmp_path / "shelf", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_only_what_a_learner_consists_of_is_taken(run, tmp_path):
    il.push(run, tmp_path / "shelf")
    (tmp_path / "shelf" / "code.py").write_text("raise SystemExit")
    (tmp_path / "shelf" / "evaluation.json").unlink()
    (tmp_path / "shelf" / "evaluation.json").symlink_to("/etc/hostname")
    il.pull(tmp_path / "shelf", tmp_path / "again")
    assert {file.name for file in (tmp_path / "again").iterdir()} == {"config.json", "best.safetensors", "README.md"}


def test_what_is_there_is_not_overwritten_unasked(run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(InputError, match="other files"):
        il.push(run, tmp_path / "mine")
    il.push(run, tmp_path / "shelf")
    il.push(run, tmp_path / "shelf")  # an older push is replaced
    il.pull(tmp_path / "shelf", tmp_path / "again")
    with pytest.raises(InputError, match="not empty"):
        il.pull(tmp_path / "shelf", tmp_path / "again")
    with pytest.raises(InputError, match="not overwritten"):
        il.pull(tmp_path / "shelf", tmp_path / "mine", force=True)
    il.pull(tmp_path / "shelf", tmp_path / "again", force=True)


def hub_at(folder: Path) -> types.SimpleNamespace:
    """What innerloop uses of huggingface_hub, over a folder."""

    def create_repo(*, repo_id: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        (folder / repo_id).mkdir(parents=True, exist_ok=True)
        (folder / "private").write_text(str(private))

    def upload_folder(*, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, folder / repo_id, dirs_exist_ok=True)

    def snapshot_download(*, repo_id: str, revision: str | None, allow_patterns: list[str], local_dir: str) -> None:
        if not (folder / repo_id).is_dir():
            raise OSError("404: no such repository")
        for name in allow_patterns:
            if (folder / repo_id / name).is_file():
                shutil.copy(folder / repo_id / name, local_dir)

    return types.SimpleNamespace(
        create_repo=create_repo, upload_folder=upload_folder, snapshot_download=snapshot_download
    )


def test_the_hub_is_asked_as_its_library_is_called(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub_at(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    assert main(["push", str(run), "me/sine", "--private"]) == 0
    assert "https://huggingface.co/me/sine" in capsys.readouterr().out
    assert (tmp_path / "hub" / "private").read_text() == "True"
    assert main(["pull", "me/sine", "--out", str(tmp_path / "again")]) == 0
    np.testing.assert_array_equal(answers(tmp_path / "again"), answers(run))
    assert main(["pull", "me/other", "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "'me/other'" in said and "404" in said


def test_the_real_library_takes_these_arguments():
    """Nothing is sent: only the signatures are looked at."""
    import inspect

    hub = pytest.importorskip("huggingface_hub")
    for name, arguments in (
        ("create_repo", ("repo_id", "private", "exist_ok")),
        ("upload_folder", ("repo_id", "folder_path", "commit_message")),
        ("snapshot_download", ("repo_id", "revision", "allow_patterns", "local_dir")),
    ):
        assert set(arguments) <= set(inspect.signature(getattr(hub, name)).parameters), name


def test_names_and_places_that_cannot_be(run, tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match="user/name"):
        il.push(run, "sine")
    with pytest.raises(InputError, match="no folder there"):
        il.pull(tmp_path / "nothing", tmp_path / "again")
    with pytest.raises(ConfigError, match="revision"):
        il.pull(tmp_path, tmp_path / "again", revision="main")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConfigError, match=r"innerloop\[hub\]"):
        il.push(run, "me/sine")
    assert main(["push", str(tmp_path), "./shelf"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
