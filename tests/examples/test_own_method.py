"""`examples/own_method`, as an installed package and as plain files: every command knows it; a file alone imports nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main

pytestmark = pytest.mark.slow  # processes and trainings of their own

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_method"
METHOD, PROBLEM, MODEL = (f"own_method.{p}" for p in ("method:halving_maml", "problem:lines", "problem:cubic"))
TRAIN = ["--steps", "4", "--validate-every", "2", "--checkpoint-every", "2", "--valid-tasks", "4", "--quiet"]


def installation(folder: Path) -> Path:
    """What pip would leave: the package and its entry points, as its pyproject.toml names them."""
    import tomllib

    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    about = folder / "own_method-0.1.0.dist-info"
    about.mkdir(parents=True)
    groups = [f"[{g}]\n" + "\n".join(f"{k} = {v}" for k, v in e.items()) for g, e in project["entry-points"].items()]
    (about / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n", encoding="utf-8"
    )
    shutil.copytree(EXAMPLE / "own_method", folder / "own_method")
    return folder


def command(*argv: str, path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    source = str(EXAMPLE.parents[1] / "src")
    paths = os.pathsep.join([source, *([str(path)] if path else [])])
    code = "import sys; from innerloop.cli.main import main; sys.exit(main(sys.argv[1:]))"
    # -P: the current directory is not on the path, as for the installed command.
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *argv],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
    )


@pytest.fixture
def own(monkeypatch, tmp_path):
    """The example, installed; and forgotten again."""
    monkeypatch.syspath_prepend(str(installation(tmp_path / "site")))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] == "own_method"]:
        del sys.modules[name]


def forgotten(monkeypatch, own: Path) -> None:
    """The installed package is gone; only its files lie in the current directory of whoever goes there."""
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(own / "site")])
    for name in [n for n in sys.modules if n.partition(".")[0] == "own_method"]:
        del sys.modules[name]


def test_as_a_package_by_the_command_line(tmp_path):
    site = installation(tmp_path / "site")
    probe = "import sys; from innerloop.cli.main import main; main(['list']); print('own_method' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLE.parents[1] / "src"), str(site)])}
    listed = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, env=env).stdout.splitlines()
    for name in ("halving_maml", "lines", "cubic"):
        assert f"{name}\tfrom the package own-method" in listed
    assert listed[-1] == "False"  # nothing of it was imported
    out = tmp_path / "run"
    done = command("train", "halving_maml", "lines", "--shots", "6", *TRAIN, "--out", str(out), path=site)
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert record["algorithm"] == {"name": "halving_maml", "options": {"inner_lr": 0.1, "inner_steps": 3}}
    assert record["tasks"] == {"name": "lines", "options": {"shots": 6}}
    for argv in (["evaluate", str(out), "--num-tasks", "5"], ["train", "--resume", str(out)]):
        done = command(*argv, path=site)
        assert (done.returncode, done.stderr) == (0, ""), done


def test_every_command_takes_it(own, capsys):
    assert (
        main(["train", "halving_maml", "lines", "--model", "cubic", "--model-noise", "0.1", *TRAIN, "--out", "run"])
        == 0
    )
    assert json.loads(Path("run/config.json").read_text(encoding="utf-8"))["model"] == {
        "name": "cubic",
        "arguments": {"inputs": 1, "outputs": 1, "noise": 0.1},
    }
    Path("points.csv").write_text("x,y\n0,0\n1,1\n2,2\n", encoding="utf-8")
    Path("new.csv").write_text("x\n0.5\n", encoding="utf-8")
    for line in (
        "evaluate run --num-tasks 4 --shots 7",
        "doctor run",
        "doctor cubic --algorithm halving_maml --tasks lines",
        "report run --out page.html",
        "adapt run points.csv --target y --valid-tasks 4 --out task.il",
        "predict task.il new.csv --out found.csv",
        "compare halving_maml,scratch lines --steps 2 --num-tasks 4 --quiet --out both",
        "compare run,scratch lines --steps 2 --num-tasks 4 --quiet --out two",
    ):
        assert main(line.split()) == 0, (line, capsys.readouterr())
    assert "cannot be" not in Path("page.html").read_text(encoding="utf-8")
    told = capsys.readouterr().out
    assert "they are tasks of the training problem" not in told and "validated" in told
    assert isinstance(il.load("run"), il.MetaLearner) and isinstance(il.load("task.il"), il.Fitted)
    assert main(["train", "halving_maml", "lines", "--help"]) == 0
    told = capsys.readouterr().out
    for said in (
        "MAML whose inner rate halves",
        "--inner-lr",
        "rate of the first inner step",
        "support examples of a task",
    ):
        assert said in told


def test_the_default_model_of_a_named_problem_comes_back(own):
    """`Cubic` is nobody's name; the problem makes it again, for the run and for a task file."""
    from innerloop.registry import load
    from innerloop.tasks import TASKS

    family = load("problem", TASKS, "lines")()._replace(name="lines")
    torch.manual_seed(0)
    learner = il.maml(family.train.default_model(), inner_steps=2)
    il.fit(learner, family, out="run", steps=2, valid_tasks=3, quiet=True)
    again = il.load("run")
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), again.parameters(), strict=True))
    x = torch.linspace(-1, 1, 5)[:, None]
    fitted = learner.adapt(x, 2 * x)
    assert torch.equal(il.load(fitted.save("task.il")).predict(x), fitted.predict(x))
    # Another module of the same class is not taken for it.
    other = family.train.default_model()
    other.extra = torch.nn.ReLU()
    il.fit(il.maml(other), family, out="other", steps=2, valid_tasks=3, quiet=True)
    with pytest.raises(il.CheckpointError, match=r"your own model own_method.problem.Cubic; give it"):
        il.load("other")


def test_as_plain_files(tmp_path):
    """Words that are typed are imported from the current directory; a run's own words are not."""
    shutil.copytree(EXAMPLE / "own_method", tmp_path / "own_method")
    done = command("train", METHOD, PROBLEM, "--model", MODEL, *TRAIN, "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = command("evaluate", "run", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"the problem {PROBLEM!r} of 'run' is not here" in done.stderr and f"--tasks {PROBLEM}" in done.stderr
    words = ["--tasks", PROBLEM, "--algorithm", METHOD, "--model", MODEL]
    done = command("evaluate", "run", "--num-tasks", "5", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_its_package_is_gone(own, monkeypatch, capsys):
    assert main(["train", "halving_maml", "lines", *TRAIN, "--out", "run"]) == 0
    forgotten(monkeypatch, own)
    capsys.readouterr()
    for line in ("evaluate run", "doctor run", "train --resume run", "adapt run run --out t.il --valid-tasks 4"):
        assert main(line.split()) == 2, line
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "not here" in said and "package.module:" in said, said
    shutil.copytree(EXAMPLE / "own_method", own / "own_method")
    again = ["--algorithm", METHOD, "--tasks", PROBLEM]
    assert main(["evaluate", "run", "--num-tasks", "4", *again]) == 0
    assert main(["train", "--resume", "run", *again]) == 0
    assert main(["report", "run", "--out", "page.html", *again]) == 0
    assert "cannot be" not in Path("page.html").read_text(encoding="utf-8")
    assert isinstance(il.load("run", learner=METHOD, tasks=PROBLEM), il.MetaLearner)


def test_a_hand_made_rule_is_given_again_by_where_it_is(own, monkeypatch, capsys):
    """Made in Python, so that the run names maml; the function makes the same."""
    from own_method.method import halving_maml

    il.fit(halving_maml(il.models.mlp(1, 1)), il.tasks.sinusoid(), out="run", steps=2, valid_tasks=3, quiet=True)
    assert main(["evaluate", "run"]) == 2
    assert "parts of your own, Halving" in capsys.readouterr().err
    assert main(["evaluate", "run", "--num-tasks", "3", "--algorithm", METHOD]) == 0


@pytest.mark.parametrize(
    ("part", "word"),
    [
        (("algorithm", "name"), "os:system"),
        (("tasks", "name"), "trap:family"),
        (("model", "name"), "trap:family"),
        (("algorithm", "name"), "trap:family"),
    ],
)
def test_a_run_from_a_stranger_imports_nothing(part, word, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.py").write_text("raise SystemExit('the trap was imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    il.fit(il.maml(il.models.mlp(1, 1)), il.tasks.sinusoid(), out="run", steps=1, valid_tasks=2, quiet=True)
    file = Path("run/config.json")
    record = json.loads(file.read_text(encoding="utf-8"))
    record[part[0]][part[1]] = word
    file.write_text(json.dumps(record), encoding="utf-8")
    for line in (
        "evaluate run",
        "doctor run",
        "report run",
        "train --resume run",
        "train maml sinusoid --config run/config.json",
    ):
        code = main(line.split())
        assert code == (0 if line == "report run" else 2), (line, capsys.readouterr())
        if code:
            said = capsys.readouterr().err
            assert len(said.splitlines()) == 1 and word in said, said
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "train no_such:method sinusoid",
            "ModuleNotFoundError: No module named 'no_such'; check the spelling, and",
        ),
        ("train no_such.deep:method sinusoid", "No module named 'no_such'; check the spelling"),
        ("train own_method.method:zzzz lines", "expected 'zzzz' in own_method.method: known: Halving, halving_maml\n"),
        ("train own_method.method:halving lines", "expected 'halving' in own_method.method: did you mean 'Halving'?"),
        ("train own_method.problem:lines lines", "cannot be made: TypeError: lines() takes 0 positional arguments"),
        ("train builtins:repr lines", "expected to return a MetaLearner, got str"),
        ("train maml own_method.problem:Cubic", "expected to return an il.TaskFamily, got Cubic"),
        ("train maml lines --model own_method.problem:lines", "expected to return a torch.nn.Module"),
        ("train maml linez", "did you mean 'lines'?"),
        ("evaluate run --tasks lines", "--tasks expected package.module:name"),
        ("evaluate run --tasks own_method.problem:lines", "whose is here; leave it out"),
    ],
)
def test_words_that_are_no_parts(line, said, own, capsys):
    if "run" in line.split():
        il.fit(il.maml(il.models.mlp(1, 1)), il.tasks.sinusoid(), out="run", steps=1, valid_tasks=2, quiet=True)
    assert main([*line.split(), *(["--steps", "1", "--quiet"] if line.startswith("train") else [])]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and said in error, error
