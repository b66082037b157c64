"""Help, listings and wrong names answer without torch: it takes a second to load. Others load nothing slow besides."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROBE = """
import sys
from innerloop.cli.main import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
sys.exit(code)
"""


def command(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _PROBE, *argv], capture_output=True, text=True)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--help"],
        ["--version"],
        ["list"],
        ["list", "tasks", "--json"],
        ["train", "--help"],
        ["data", "--help"],
        ["evaluate", "--help"],
        ["adapt", "--help"],
        ["predict", "--help"],
        ["run", "--help"],
        ["doctor", "--help"],
        ["report", "--help"],
        ["demo", "--help"],
        ["compare", "--help"],
    ],
)
def test_help_needs_no_torch(argv):
    done = command(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (["trian"], "'train'"),
        (["train", "maaml", "sinusoid"], "'maml'"),
        (["train", "--steps", "5", "maaml", "sinusoid"], "'maml'"),
        (["train", "maml", "sinusod"], "'sinusoid'"),
        (["train", "maml", "sinusoid", "--model", "mpl"], "'mlp'"),
        (["list", "task"], "'tasks'"),
        (["list", "--jsn"], "'--json'"),
        (["compare", "maml,reptil", "sinusoid"], "'reptile'"),
        (["doctor", "mpl"], "'mlp'"),
        (["data", "fetsh"], "'fetch'"),
    ],
)
def test_wrong_names_need_no_torch_and_show_the_nearest(argv, nearest):
    done = command(*argv)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("innerloop: error: ")
    assert done.stderr.count("\n") == 1
    assert f"did you mean {nearest}?" in done.stderr


@pytest.mark.parametrize("name", ["bench", "results"])
def test_the_maintainers_programs_are_no_commands(name):
    done = command(name, "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"innerloop: error: unknown command {name!r}: ")
    assert not {"bench", "results"} & {
        line.split()[0] for line in command("--help").stdout.splitlines() if line.strip()
    }


def test_list_prints_one_entry_a_line_name_first():
    lines = command("list", "tasks").stdout.splitlines()
    assert "sinusoid" in [line.split("\t")[0] for line in lines]
    listed = json.loads(command("list", "--json").stdout)
    assert set(listed) == {
        "algorithms", "tasks", "stream-methods", "models", "embeddings", "recipes", "learners", "meta-gradients"
    }  # fmt: skip
    assert [line.split("\t")[0] for line in lines] == list(listed["tasks"])


def test_python_m_innerloop_is_the_same():
    done = subprocess.run([sys.executable, "-m", "innerloop", "list", "algorithms"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == command("list", "algorithms").stdout


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m innerloop list | true", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


_LOADED = """
import sys
from innerloop.cli.main import main
code = main(sys.argv[1:])
slow = "torch._dynamo torch._inductor matplotlib pandas scipy sklearn tensorboard gradio onnx transformers".split()
print(*(name for name in slow if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def loaded(*argv: str, folder: Path) -> set[str]:
    """The slow libraries that a command has loaded."""
    done = subprocess.run([sys.executable, "-c", _LOADED, *argv], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.slow
def test_commands_that_need_torch_load_nothing_else_that_is_slow(tmp_path):
    """Each takes half a second to two. With its first optimizer, which training has, torch loads its compiler's front end."""
    (tmp_path / "points.csv").write_text("x,y\n-1,-0.8\n0,0\n1,0.8\n2,0.9\n", encoding="utf-8")
    (tmp_path / "new.csv").write_text("x\n0.5\n", encoding="utf-8")
    train = "train maml sinusoid --steps 1 --quiet --out run"
    assert loaded(*train.split(), folder=tmp_path) <= {"torch._dynamo", "torch._inductor", "tensorboard"}
    for command in (
        "evaluate run --num-tasks 4",
        "adapt run points.csv --target y --out task.il --no-judge",
        "predict task.il new.csv --out found.csv",
        "data check points.csv",
    ):
        assert loaded(*command.split(), folder=tmp_path) == set(), command
