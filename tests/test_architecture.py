"""The order of things: imports point one way, names do not shadow, files stay short, a method is one file and one line."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import innerloop as il
from innerloop.methods import ALGORITHMS, NAMED
from innerloop.models import MODELS
from innerloop.tasks import NAMED as PROBLEMS
from innerloop.tasks import OWN

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "innerloop"
FILES = sorted(SOURCE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))

# A module may import from its own level and from those above it in this list.
LEVELS = (
    {"errors", "registry", "waiting", "allocation"},
    {"builtin"},
    {"keys", "provenance", "records", "storage", "tracebacks"},
    {"core"},
    {"objectives"},
    {"functional", "models", "data"},
    {"engine", "rules", "tasks"},
    {"worlds"},
    {"learners"},
    {"meta_gradients"},
    {"meta_learner"},
    {"methods"},
    {"training", "evaluation", "serving", "hpo", "lifelong"},
    {"assemble"},
    {"doctor", "report", "sharing"},
    {"recipes"},
    {"estimators"},
    {"cli", "__main__"},
)
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}


def part(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Parts of innerloop that a file imports, wherever in the file, but not for type checkers alone."""
    found = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if "TYPE_CHECKING" not in ast.unparse(node.test):
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(a.name.split(".")[1] for a in node.names if a.name.startswith("innerloop."))

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            module = node.module or ""
            if module == "innerloop":
                found.update(a.name for a in node.names)
            elif module.startswith("innerloop."):
                found.add(module.split(".")[1])

    Visitor().visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize(
    "path", [f for f in FILES if f != SOURCE / "__init__.py"], ids=lambda f: str(f.relative_to(SOURCE))
)
def test_imports_point_one_way(path):
    own = part(path)
    assert own in LEVEL, f"{own} has no place in LEVELS"
    for other in imported(path) & set(LEVEL):
        assert LEVEL[other] <= LEVEL[own], f"{own} imports {other}, which is built on it"


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(files: list[Path]) -> list[list[str]]:
    """Files that import each other round about; imports inside functions and for type checkers alone count too."""
    modules = {module_name(path): path for path in files}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                both = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
                found.update(full if full in modules else module for full, module in both)
        graph[name] = (found & set(modules)) - {name}
    while True:  # what imports nothing that is left is in no circle
        free = [name for name, others in graph.items() if not others & set(graph)]
        if not free:
            break
        for name in free:
            del graph[name]
    while True:  # nor is what nobody that is left imports
        free = [name for name in graph if not any(name in others for others in graph.values())]
        if not free:
            return [sorted(graph)] if graph else []
        for name in free:
            del graph[name]


def test_there_is_no_circle():
    assert circles(FILES) == []


def test_the_check_sees_a_circle(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path / "innerloop")
    (tmp_path / "innerloop").mkdir()
    a, b = tmp_path / "innerloop" / "a.py", tmp_path / "innerloop" / "b.py"
    a.write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from innerloop.b import f\n")
    b.write_text("def f():\n    from innerloop import a\n")
    assert circles([a, b]) == [["innerloop.a", "innerloop.b"]]


def test_the_check_sees_a_wrong_import(tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text("def f():\n    from innerloop.cli import main\n")
    assert imported(file) == {"cli"} and LEVEL["cli"] > LEVEL["core"]


@pytest.mark.parametrize(("package", "names"), [("models", MODELS), ("tasks", [*PROBLEMS, *OWN])])
def test_no_file_shadows_a_public_name(package, names):
    """Python binds a file or folder to its package under its name, which would hide a function of that name.

    Only of the package itself: `il.tasks.sinusoid` may live in `tasks/curves/sinusoid.py`.
    """
    assert not {f.stem for f in (SOURCE / package).iterdir()} & set(names)


def test_only_the_files_that_may_name_a_method_do():
    """Everything else learns of a method from its line in ALGORITHMS."""
    words = re.compile(r"[\"'](" + "|".join(ALGORITHMS) + r")[\"']")
    allowed = {"methods", "recipes"}
    naming = {}
    for file in FILES:
        if part(file) not in allowed:
            code = ast.parse(file.read_text(encoding="utf-8"))
            strings = [n.value for n in ast.walk(code) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            hits = [s for s in strings if words.fullmatch(f"'{s}'")]
            if hits:
                naming[str(file.relative_to(SOURCE))] = hits
    # `doctor MODEL` has to examine some method by default, and says which; `il.models.pretrained` is no method.
    assert set(naming) <= {"cli/doctor.py", "models/__init__.py"}, naming
    assert set(naming.get("models/__init__.py", [])) <= {"pretrained"}


def test_the_package_knows_nothing_of_the_benchmarks_beside_it():
    """They are not in the wheel."""
    assert ROOT / "benchmarks" / "speed" / "__main__.py" in BENCHMARKS
    naming = re.compile(r"\b(import benchmarks|from benchmarks|benchmarks\.(speed|published))\b")
    assert [str(f.relative_to(ROOT)) for f in FILES if naming.search(f.read_text(encoding="utf-8"))] == []


def test_files_are_short_and_none_is_a_drawer():
    for file in [*FILES, *BENCHMARKS]:
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= 650, f"{file.relative_to(ROOT)} has {lines} lines"
        assert file.stem not in {"utils", "helpers", "misc", "base", "common"}, file


def test_no_two_test_files_have_one_name():
    """pytest imports them by it, and refuses the second where both come to one process."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_what_is_listed_is_documented():
    for name in NAMED:
        page = ROOT / "docs" / "methods" / f"{name}.md"
        assert page.is_file(), f"{name} has no page"
        for language in ("", ".zh-CN"):
            assert f"`{name}`" in (ROOT / "docs" / f"methods{language}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")} - {*ROOT.glob("docs/_made/**/*.md")}),
    ids=lambda p: p.name,
)
def test_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:", "_made/")):  # the last: made with the site
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", sorted(NAMED))
def test_argument_tables_agree_with_the_signatures(name):
    import inspect

    rows = dict(
        re.findall(
            r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8"), re.M
        )
    )
    parameters = {k: p.default for k, p in inspect.signature(getattr(il, name)).parameters.items() if k != "model"}
    assert set(rows) == set(parameters)
    for key, default in parameters.items():
        shown = rows[key].strip("`").replace(" ", "").replace("\u202f", "").replace("\u00a0", "")
        if isinstance(default, bool) or not isinstance(default, int | float):
            assert shown.strip("\"'") == str(default).replace(" ", ""), (
                f"{key}: page says {shown}, the factory {default}"
            )
        else:
            assert float(shown) == default, f"{key}: page says {shown}, the factory {default}"


def test_importing_innerloop_imports_no_torch():
    code = "import sys, innerloop, innerloop.cli.main, innerloop.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_readmes_six_lines_run(tmp_path, monkeypatch):
    """The Python example of the README, with fewer steps and tasks."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "il.fit(" in block)
    code = (
        code.replace("10_000", "3")
        .replace("600", "5")
        .replace("il.fit(learner, tasks,", "il.fit(learner, tasks, quiet=True,")
    )
    task = "import numpy as np\nx_support = x_query = np.linspace(-1, 1, 5)[:, None]\ny_support = np.sin(x_support)\n"
    names: dict = {}
    exec(task + code, names)
    assert names["y"].shape == (5, 1)
    assert len(names["report"].per_task) == 5
    assert (tmp_path / "runs" / "sine" / "config.json").is_file()
