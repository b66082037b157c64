"""The documentation as a site: `make docs`. Pages are the Markdown files of this folder; the rest is made when it is built.

Made into `docs/_made` (ignored by git): a page of the reference for each area, from the registries and the docstrings; the
notebooks of `examples/` as tutorials; the two READMEs, the changes and how to contribute.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
MADE = DOCS / "_made"
sys.path.insert(0, str(ROOT / "src"))

import innerloop  # noqa: E402

project, author, release = "innerloop", "the innerloop authors", innerloop.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
root_doc = "site"
html_theme = "furo"
html_title = "innerloop"
html_show_sphinx = html_show_copyright = False
html_theme_options = {"navigation_with_keys": True}
exclude_patterns = ["index.md"]  # the list of pages for those who read them in the repository; here the margin has it
suppress_warnings = ["mystnb.unknown_mime_type"]

# Notebooks are kept without their results. INNERLOOP_DOCS_RUN=1 runs them (a quarter of an hour on one core) and shows these.
nb_execution_mode = "force" if os.environ.get("INNERLOOP_DOCS_RUN") else "off"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]

default_role = "py:obj"
add_module_names = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, False, True

# Users write `import innerloop as il`; the reference names everything as they do.
ALIASES = {"il": innerloop}
for _area in ("hpo", "learners", "lifelong", "losses", "meta_gradients", "models", "report", "rules", "tasks"):
    ALIASES[f"il.{_area}"] = getattr(innerloop, _area)
sys.modules.update(ALIASES)
ERRORS = [name for name, thing in vars(innerloop).items() if isinstance(thing, type) and issubclass(thing, Exception)]
for _name in (*innerloop._NAMES, *ERRORS):  # signatures name them so, too
    if inspect.isclass(_thing := getattr(innerloop, _name)):
        _thing.__module__ = "il"

_METHODS = "Each method is a factory: a model goes in, a learner that can be trained and adapted comes out."
_AREAS: dict[str, tuple[str, str]] = {
    "methods": ("Methods", _METHODS),
    "tasks": (
        "Problems",
        "Families of tasks: `.train`, `.valid` and `.test`. Yours: `from_path`, `from_arrays`, `ratings`.",
    ),
    "models": ("Models", "Plain `nn.Module`s by name. Any module of yours will do as well."),
    "use": ("Train, adapt, judge", "What is done with a learner."),
    "nouns": ("Tasks, learners, reports", "The records and classes that all of these hand on."),
    "parts": ("Parts of a method", "To put a method of your own together: rules, learners, meta-gradients, losses."),
    "errors": ("Errors", "All are of `InnerloopError`. The command line shows their one line and exits with 2."),
}


def _public(module: Any) -> list[str]:
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            n
            for n, v in vars(module).items()
            if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
        ]
    return list(names)


def _names() -> dict[str, list[str]]:
    """The public names of each area, as they are typed."""
    from innerloop import methods, models, tasks

    nouns, use = [], []
    for name in innerloop._NAMES:
        thing = getattr(innerloop, name)
        (nouns if inspect.isclass(thing) else use).append(f"il.{name}")
    return {
        "methods": [f"il.{name}" for name in methods.NAMED],
        "tasks": [f"il.tasks.{name}" for name in dir(tasks) if _offered(tasks, name)],
        "models": [f"il.models.{name}" for name in dir(models) if _offered(models, name)],
        "use": use,
        "nouns": nouns,
        "parts": [
            f"il.{a}.{n}"
            for a in ("rules", "learners", "meta_gradients", "losses")
            for n in _public(ALIASES[f"il.{a}"])
        ],
        "errors": [f"il.{name}" for name in ERRORS],
    }


def _offered(module: Any, name: str) -> bool:
    """Whether a name of a registry's module is a part that users ask for."""
    thing = getattr(module, name)
    return (
        not name.startswith("_")
        and callable(thing)
        and not inspect.isclass(thing)
        and thing.__module__ != module.__name__
    )


def _reference() -> None:
    """A page for each area, and one that lists them."""
    out = MADE / "reference"
    out.mkdir(parents=True)
    index = ["# Reference", "", "Every public name, under the name that you type: `import innerloop as il`.", ""]
    for area, names in _names().items():
        title, said = _AREAS[area]
        lines = [f"# {title}", "", said, ""]
        for name in names:
            thing = sys.modules["innerloop"]
            for part in name.split(".")[1:]:
                thing = getattr(thing, part)
            kind = "autoexception" if area == "errors" else "autoclass" if inspect.isclass(thing) else "autofunction"
            options = ["   :members:"] if kind == "autoclass" else []
            lines += [f"## {name.split('.')[-1]}", "", "```{eval-rst}", f".. {kind}:: {name}", *options, "```", ""]
        (out / f"{area}.md").write_text("\n".join(lines), encoding="utf-8")
        index.append(f"- [{title}]({area}.md): {said}")
    contents = ["", "```{toctree}", ":hidden:", "", *_AREAS, "```", ""]
    (out / "index.md").write_text("\n".join(index + contents), encoding="utf-8")


def _copies() -> None:
    """What stands outside of this folder and is read on the site, too."""
    tutorials = MADE / "tutorials"
    tutorials.mkdir(parents=True)
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        shutil.copy(notebook, tutorials)
    shutil.copy(ROOT / "examples" / "README.md", tutorials)
    for name in ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, MADE / name)


def _contents(pattern: str) -> str:
    """The English pages of a pattern that no list of `site.md` names."""
    listed = re.findall(r"^[\w/-]+$", (DOCS / "site.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {*listed, "site", "index"}
    found = (page for kind in ("md", "ipynb") for page in DOCS.glob(f"{pattern}.{kind}") if "zh-CN" not in page.name)
    return "\n".join(sorted({str(page.relative_to(DOCS).with_suffix("")) for page in found} - named))


def _links(app: Any, name: str, source: list[str]) -> None:
    """Links that are right in the repository, made right on the site."""
    del app
    here = "../" * name.count("/")
    text = source[0].replace("TUTORIALS", _contents("_made/tutorials/*")).replace("HOW_TO", _contents("*"))
    if name.startswith("_made/") and "/reference/" not in name:
        up = "../../" if "/tutorials/" in name else "../"
        text = re.sub(r"\]\((?:\.\./)?docs/", f"]({up}", text)
        text = re.sub(r"\]\(examples/([\w.-]+\.ipynb|README\.md)", r"](tutorials/\1", text)
    else:
        text = re.sub(r"\]\((?:\.\./)+examples/([\w.-]+\.ipynb)", rf"]({here}_made/tutorials/\1", text)
        text = re.sub(r"\]\((?:\.\./)+(README|CHANGELOG|CONTRIBUTING)", rf"]({here}_made/\1", text)
    text = re.sub(r"\]\(((?:\.\./)*)index\.md", r"](\1site.md", text)
    # A folder or a source file has no page: its name is enough.
    text = re.sub(
        r"\[([^\]]+)\]\((?:\.\./)*(?:(?:src|examples|results|benchmarks)/|LICENSE|CITATION)[^)]*\)", r"\1", text
    )
    source[0] = text


def _plain_stars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """In a docstring, `(examples, *shape)` is a shape and no emphasis."""
    del app, what, name, thing, options
    lines[:] = [re.sub(r"(?<![\w*`\\])\*(?=[a-z])", r"\\*", line) for line in lines]


def _inherited(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """What scikit-learn puts into an estimator by itself is not described here."""
    del app, what, thing, skip, options
    return True if re.fullmatch(r"set_\w+_request", name) else None


def _readable(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: Any, returns: Any
) -> tuple[str, str] | None:
    """A record's signature without modules, and without what its fields are made by."""
    del app, what, name, thing, options
    if not signature or "<factory>" not in signature:
        return None
    return re.sub(r"~?\b(?:\w+\.)+(?=\w)", "", signature.replace("<factory>", "...").replace("~", "")), returns


def _front(app: Any, error: Exception | None) -> None:
    """The page that a browser asks for first."""
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.outdir) / "site.html", Path(app.outdir) / "index.html")


def setup(app: Any) -> None:
    """Make what is made, before Sphinx looks for pages."""
    shutil.rmtree(MADE, ignore_errors=True)
    _reference()
    _copies()
    app.connect("source-read", _links)
    app.connect("autodoc-process-docstring", _plain_stars, priority=400)
    app.connect("autodoc-skip-member", _inherited)
    app.connect("autodoc-process-signature", _readable)
    app.connect("build-finished", _front)
