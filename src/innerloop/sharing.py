"""Trained learners to and from the Hugging Face hub, or a folder in its place.

What goes out is a run's configuration, its best weights, its evaluation and a card; not its checkpoints, its command or paths of
the machine. What comes in is opened as any stranger's run is: nothing in it is executed, and other files stay where they are.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from innerloop.builtin import located, place_for_findings
from innerloop.errors import ConfigError, InputError, first_line
from innerloop.storage import load_tensors, save_tensors, write_atomically
from innerloop.training.checkpoint import CHECKPOINT, VERSION, WEIGHTS, RunDirectory
from innerloop.training.run_config import read_run_config

FILES = ("config.json", "best.safetensors", "card.json", "evaluation.json", "README.md")
MOST_BYTES = 4 << 30  # of one file that is pulled


def push(run: str | Path, repo: str | Path, *, private: bool = False) -> str:
    """Put a trained learner on the hub, with a card.

    Args:
        run: a run directory, or ``builtin:NAME``.
        repo: ``user/name`` on the hub (made where it is not there), or a folder: one that exists, or a path that begins with
            ``/``, ``.`` or ``~``.
        private: a new repository on the hub is for its owner alone.

    Returns:
        Where it is.

    Raises:
        InputError: no run there, or the hub or the folder did not take it.
        CheckpointError: a run that is damaged or has no weights yet.
        ConfigError: huggingface-hub is not installed.
    """
    folder = as_folder(repo)
    with tempfile.TemporaryDirectory() as place:
        parcel = Path(place)
        _wrap(located(run), parcel, str(repo) if folder is None else folder.name)
        if folder is not None:
            _into(parcel, folder)
            return str(folder)
        hub = _hub()
        try:
            hub.create_repo(repo_id=str(repo), private=private, exist_ok=True)
            hub.upload_folder(repo_id=str(repo), folder_path=str(parcel), commit_message="innerloop push")
        except Exception as error:  # of the network, of permissions, of names
            raise InputError(
                f"expected the hub to take {str(repo)!r}, got: {first_line(error, kind=True)}; give user/name, and log in once "
                "with: hf auth login"
            ) from error
    return f"https://huggingface.co/{repo}"


def pull(repo: str | Path, out: str | Path, *, revision: str | None = None, force: bool = False) -> Path:
    """Fetch a trained learner that `push` put somewhere.

    Args:
        repo: ``user/name`` on the hub, or a folder.
        out: the run directory to make; `innerloop.load` opens it.
        revision: a branch, tag or commit on the hub; None: the newest.
        force: overwrite the run that is there.

    Returns:
        ``out``.

    Raises:
        InputError: nothing there, or ``out`` is in use.
        CheckpointError: what is there is no learner of innerloop, damaged, or of a newer version.
        ConfigError: huggingface-hub is not installed, or a revision of a folder.
    """
    folder, out = as_folder(repo), Path(out)
    if folder is not None and revision is not None:
        raise ConfigError(f"a revision expected a repository on the hub, got the folder {folder}; leave it out")
    with tempfile.TemporaryDirectory() as place:
        parcel = Path(place)
        if folder is not None:
            if not folder.is_dir():
                raise InputError(f"expected a learner that was pushed to {folder}, got no folder there; check the path")
            _take(folder, parcel)
        else:
            hub = _hub()
            try:
                hub.snapshot_download(
                    repo_id=str(repo), revision=revision, allow_patterns=list(FILES), local_dir=str(parcel)
                )
            except Exception as error:
                raise InputError(
                    f"expected a learner on the hub at {str(repo)!r}, got: {first_line(error, kind=True)}; check the name, the "
                    "network and your login"
                ) from error
        read_run_config(parcel)
        load_tensors(parcel / "best.safetensors", WEIGHTS, VERSION)
        RunDirectory(out).create(force)
        _take(parcel, out)
    return out


def as_folder(repo: str | Path) -> Path | None:
    """The folder that stands in the hub's place; None where it is a name on the hub."""
    word = str(repo)
    if isinstance(repo, Path) or word.startswith((".", "~", "/")) or os.path.isabs(word) or os.path.isdir(word):
        return Path(repo).expanduser()
    if word.count("/") != 1 or not all(word.split("/")):
        raise InputError(
            f"expected user/name on the hub, or a folder such as ./{word}, got {word!r}; give one of these"
        )
    return None


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise ConfigError(
            "expected huggingface-hub for names on the hub, got none; install it: pip install 'innerloop[hub]', or give a folder"
        ) from None


def _wrap(run: Path, parcel: Path, name: str) -> None:
    """Write into ``parcel`` what is shared of a run."""
    config = read_run_config(run)
    config = _without_places({key: value for key, value in config.items() if key not in ("command", "launch")})
    own = RunDirectory(run)
    if own.best_file.is_file():
        tensors, header = load_tensors(own.best_file, WEIGHTS, VERSION)
    else:
        found, header = load_tensors(own.checkpoint_file, CHECKPOINT, VERSION)
        tensors = {key: value for key, value in found.items() if key.startswith("learner/")}
        header = {"method": header.get("method"), "step": header.get("step"), "value": None}
    save_tensors(parcel / "best.safetensors", WEIGHTS, VERSION, tensors, header)
    write_atomically(parcel / "config.json", json.dumps(config, indent=1).encode())
    evaluation = place_for_findings(run) / "evaluation.json"
    for file in (run / "card.json", evaluation):
        if file.is_file():
            shutil.copyfile(file, parcel / file.name)
    write_atomically(parcel / "README.md", readme(parcel, config, name).encode())


def _without_places(value: Any) -> Any:
    """The same, of each path of this machine its last part alone: the rest is nobody else's."""
    if isinstance(value, Mapping):
        return {key: _without_places(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_without_places(own) for own in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _into(parcel: Path, folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"expected a folder to push to, got the file {folder}; give another place")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise InputError(
            f"expected an empty folder or an older push, got {folder} with other files; give another place"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    _take(parcel, folder)


def _take(source: Path, target: Path) -> None:
    """Copy what a shared learner consists of, and nothing else."""
    for name in FILES:
        file = source / name
        if file.is_file() and not file.is_symlink():
            if file.stat().st_size > MOST_BYTES:
                raise InputError(f"{file} expected at most {MOST_BYTES:,} bytes, got {file.stat().st_size:,}")
            write_atomically(target / name, file.read_bytes())


def readme(folder: Path, config: Mapping[str, Any], name: str) -> str:
    """The card as a page: what it is, how it is used, what it reaches, what it learned from."""
    method, problem = config["algorithm"].get("name"), config["tasks"].get("name")
    model = config["model"].get("name") or "a network of its maker's own"
    shape = " x ".join(map(str, config.get("input_shape") or []))
    lines = [
        "---",
        "library_name: innerloop",
        "tags:",
        "- meta-learning",
        "- few-shot-learning",
        "---",
        f"# {name}",
        "",
    ]
    card = _json(folder / "card.json")
    if card.get("purpose"):
        lines += [str(card["purpose"]), ""]
    lines += [f"Method {method}, network {model}, trained on the problem {problem}. One input: {shape or 'a row'}.", ""]
    lines += [
        "```",
        f"innerloop pull {name} --out learner",
        "innerloop adapt learner EXAMPLES --out task.il",
        "```",
        "",
    ]
    numbers = [
        f"- {row['metric']}: {row['value']}" + (f" ± {row['ci95']}" if row["ci95"] != "" else "")
        for row in card.get("numbers") or []
    ]
    report = _json(folder / "evaluation.json")
    if isinstance(report.get("mean"), int | float):
        over = f"{report.get('num_tasks')} {report.get('split')} tasks"
        numbers.append(f"- {report.get('metric')} {report['mean']:.4f} ± {report.get('ci95')} on {over}")
        for other, one in (report.get("baselines") or {}).items():
            numbers.append(f"- beside it, the baseline {other}: {one.get('mean')}")
    if numbers:
        lines += ["What it reaches (mean and 95 % interval over tasks):", "", *numbers, ""]
    if card.get("limits"):
        lines += ["What it is not for:", "", str(card["limits"]), ""]
    if card.get("data"):
        lines += ["What it learned from:", "", *(f"- {one['name']}: {one['terms']}" for one in card["data"]), ""]
    return "\n".join(lines)


def _json(file: Path) -> dict[str, Any]:
    """An object in a file; an empty one where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
