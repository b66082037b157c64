"""Help, listings and wrong names answer without torch: it takes a second to load."""

import json
import subprocess
import sys

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
    assert set(listed) == {"algorithms", "tasks", "models", "embeddings", "recipes", "learners", "meta-gradients"}
    assert [line.split("\t")[0] for line in lines] == list(listed["tasks"])


def test_python_m_innerloop_is_the_same():
    done = subprocess.run([sys.executable, "-m", "innerloop", "list", "algorithms"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout == command("list", "algorithms").stdout


def test_a_reader_that_leaves_early_is_no_error():
    done = subprocess.run(f"{sys.executable} -m innerloop list | true", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
