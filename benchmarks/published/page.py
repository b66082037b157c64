"""The tables of docs/results.md and docs/all-rows.md, made from the rows in results/; what a person wrote around them stays."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.marked_text import Column, replaced, table
from benchmarks.published import every_method, searches, shots
from benchmarks.published.notes import ABOUT, ALL, Notes, note, read_notes
from benchmarks.published.other_numbers import YARDSTICKS, Yardstick, reimplementations
from benchmarks.published.race import described
from benchmarks.published.states import NOT_RECORDED
from benchmarks.published.summary import Line, lines, rows_in
from innerloop.provenance import past_commits
from innerloop.recipes import RECIPES
from innerloop.recipes.recipe import Recipe
from innerloop.recipes.result_rows import number, protocol

BEGIN = "<!-- tables from results: make results-page -->"
END = "<!-- end of the tables -->"

SHORT, LONG = "results.md", "all-rows.md"  # the pages

BUILT_IN = "Built-in learners"
# Title -> which recipes, by their names. The first that fits has a recipe; those that fit none are no results.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("Sine curves", r"sine-(?!check)"),
    ("Omniglot, 5-way 1-shot", r"omniglot-5w1s-"),
    ("Omniglot, 5-way 5-shot", r"omniglot-5w5s-"),
    ("Omniglot, 20-way 1-shot", r"omniglot-20w1s-"),
    ("Omniglot, 20-way 5-shot", r"omniglot-20w5s-"),
    ("Omniglot, along a sequence", r"omniglot-5w-"),
    ("Lake's 20-way one-shot runs within an alphabet", r"lake-"),
    ("glyphs, 5-way 1-shot", r"glyphs-5w1s-"),
    ("Curves from Gaussian processes", r"gp-"),
    ("Faces", r"faces-"),
    ("Pictures from plain folders", r"own-"),
    ("Tables of few rows", r"parkinson-|pmlb-|movielens-"),
    ("Molecules", r"fsmol-|tox21-|sider-"),
    (BUILT_IN, r"builtin-"),
    ("Trained networks in front of a method", r"(photos|intents)-embedded"),
    ("Streams of classes", r"omniglot-stream-"),
    ("One long stream", r"mnist-.*-lifelong"),
    ("A road that changes", r"road-"),
    ("New examples from a few", r"drawings-|mixtures-"),
    ("Learned schedules and optimizers", r"learned-"),
    ("Policies in worlds", r"(bandits|mdp|navigation|worlds|half-cheetah)-"),
    ("Architecture search", r"darts-|nas201-"),
    ("Others", r"(?!.*-check$|shots-|hpo-)"),  # the last are in tables of their own
)


_RUINED = 1e5  # a mean error of this size says of the tasks only that some diverged
_AT_ONCE = 4  # numbers of inner steps in one cell
_STEPS = re.compile(r"after (\d+) steps")


@dataclasses.dataclass(frozen=True)
class Shown:
    """A line of a table: a number of ours, a recipe without one, or a yardstick.

    Attributes:
        median: of the same number, where the mean says nothing and a row has it.
    """

    recipe: Recipe | None
    line: Line | None = None
    yardstick: Yardstick | None = None
    published: str = ""
    median: Line | None = None


class _Sources:
    """The numbered list under a table."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def cite(self, value: str, source: str) -> str:
        if not value:
            return ""
        return f"{value} [{self._numbers.setdefault(source, len(self._numbers) + 1)}]"

    def listed(self) -> list[str]:
        return [f"[{i}] {source.removesuffix('.')}.  " for source, i in self._numbers.items()]


def rounded(value: float, interval: float = math.nan) -> str:
    """A number with its interval, as short as it tells something: "93.3 ± 0.94"."""
    if not math.isfinite(value):
        return str(value)
    shown = f"{value:.2e}" if abs(value) >= 1e5 else f"{value:.4g}"
    return shown + (f" ± {interval:.2g}" if math.isfinite(interval) else "")


def _yes(text: str) -> str:
    return {"True": "yes", "False": "no"}.get(text, text)


def _told(field: str) -> Column[Shown]:
    titles = {"rotated_test": "rotated test classes", "num_tasks": "test tasks", "steps": "outer steps"}

    def show(s: Shown) -> str:
        if s.line is None:  # what the recipe decides is known before it runs
            known = {**protocol(s.recipe), "steps": str(s.recipe.training.get("steps", ""))} if s.recipe else {}
            return _yes(known.get(field, ""))
        return "; ".join(map(_yes, s.line.told(field)))

    return titles.get(field, field), show


def _command(s: Shown) -> str:
    if s.recipe is None:
        return s.yardstick.who if s.yardstick else ""
    if s.line is None:
        return f"`innerloop run {s.recipe.name}`"
    commands = s.line.told("command")
    seeds = ", ".join(row["seed"] for row in s.line.rows)
    one = {re.sub(r"--seed -?\d+", f"--seed {seeds}", command) for command in commands}
    return "; ".join(f"`{command}`" for command in sorted(one))


def _ours(s: Shown) -> str:
    if s.recipe is None:
        return "-"
    if s.line is None:
        return "not run"
    if ruined(s.line):
        return "some tasks diverged" + (f"; median {_seeds(s.median)}" if s.median else "")
    return _seeds(s.line)


def ruined(line: Line) -> bool:
    """Whether a mean is that of a few tasks that diverged, and no number to read."""
    return not abs(line.mean) < _RUINED


def _seeds(line: Line) -> str:
    count = len(line.rows)
    return rounded(line.mean, line.interval) + (f" ({count} seeds)" if count > 1 else "")


def _by_seed(s: Shown) -> str:
    if s.line is None or len(s.line.rows) < 2 or ruined(s.line):
        return ""
    return ", ".join(rounded(number(row["value"]), number(row["ci95"])) for row in s.line.rows)


def _budget(s: Shown) -> str:
    if s.line is None:
        return ""
    seconds = [number(row["wall_seconds"]) for row in s.line.rows]
    low, high = f"{min(seconds):.0f}", f"{max(seconds):.0f}"
    threads = "; ".join(s.line.told("threads"))
    where = "; ".join(s.line.told("device"))
    return f"{low if low == high else f'{low}-{high}'} s, {where}, {threads} thread{'' if threads == '1' else 's'}"


def _columns(sources: _Sources, notes: Notes) -> tuple[Column[Shown], ...]:
    def published(s: Shown) -> str:
        if s.yardstick:
            return sources.cite(s.yardstick.value, s.yardstick.source)
        return sources.cite(s.published, s.recipe.source) if s.recipe else ""

    def others(s: Shown) -> str:
        return ", ".join(sources.cite(*other) for other in reimplementations(s.recipe)) if s.recipe else ""

    def remarks(s: Shown) -> str:
        said = (
            note(notes, s.line.recipe, s.line.metric) if s.line else note(notes, s.recipe.name, "") if s.recipe else ""
        )
        # That no hash was recorded is said once, for all rows together.
        doubts = s.line.state.split("; ") if s.line else []
        doubt = "; ".join(text for text in doubts if text != NOT_RECORDED)
        return " ".join(text for text in (f"**{doubt}.**" if doubt else "", said) if text)

    return (
        ("command", _command),
        ("number", lambda s: s.line.metric if s.line else s.yardstick.metric if s.yardstick else ""),
        ("published", published),
        ("re-implementations", others),
        ("ours", _ours),
        ("each seed", _by_seed),
        _told("transductive"),
        _told("rotated_test"),
        _told("split"),
        _told("num_tasks"),
        _told("steps"),
        ("budget", _budget),
        _told("commit"),
        ("remarks", remarks),
    )


def shown_of(recipe: Recipe, found: Sequence[Line]) -> list[Shown]:
    """A recipe's numbers, one a line; where it was not run, one line with the published ones."""
    if not found:
        said = [text for evaluation in recipe.evaluations for text in evaluation.published if text]
        said += [recipe.published] if recipe.published else []
        return [Shown(recipe, published=" / ".join(said))]
    medians = {line.metric.removeprefix("median "): line for line in found if line.metric.startswith("median ")}
    return [
        Shown(recipe, line, published="; ".join(line.told("published")), median=medians.get(line.metric))
        for line in found
    ]


# ---- the small tables --------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class _Short:
    """A line of a small table: what a recipe reaches, its first number after each of a few numbers of inner steps."""

    recipe: Recipe
    shown: tuple[Shown, ...]


def _short(recipe: Recipe, shown: Sequence[Shown]) -> list[_Short]:
    """The recipe's line, if it has numbers: those of its first metric, or their medians where the means say nothing."""
    numbers = [s for s in shown if s.line is not None]
    groups: dict[str, list[Shown]] = {}
    for s in numbers:
        assert s.line is not None
        groups.setdefault(_STEPS.sub("after _ steps", s.line.metric), []).append(s)
    if not groups:
        return []
    first, own = next(iter(groups.items()))
    if any(s.line is not None and ruined(s.line) for s in own):
        own = groups.get(f"median {first}", own)
    return [_Short(recipe, tuple(own if len(own) <= _AT_ONCE else own[-1:]))]


def _joined(values: Iterable[str]) -> str:
    """Values beside each other; a single one where all are the same."""
    values = list(values)
    return values[0] if len(set(values)) == 1 else " / ".join(value or "-" for value in values)


def _what(s: _Short) -> str:
    metrics = [shown.line.metric for shown in s.shown if shown.line]
    steps = [found.group(1) for metric in metrics if (found := _STEPS.search(metric))]
    return _STEPS.sub(f"after {' / '.join(steps)} steps", metrics[0]) if len(steps) > 1 else metrics[0]


def _protocol(s: _Short) -> str:
    line = s.shown[0].line
    assert line is not None
    said = {field: "; ".join(line.told(field)) for field in ("transductive", "rotated_test", "num_tasks")}
    parts = [
        "**stale**" if line.state.startswith("stale") else "",
        "transductive" if said["transductive"] == "True" else "",
        "turned test classes" if said["rotated_test"] == "True" else "",
        f"{said['num_tasks']} tasks" if said["num_tasks"] else "",
    ]
    return ", ".join(part for part in parts if part)


_SHORT_COLUMNS: tuple[Column[_Short], ...] = (
    ("setting", lambda s: f"`{s.recipe.name}`"),
    ("number", _what),
    ("published", lambda s: _joined(shown.published for shown in s.shown)),
    ("ours", lambda s: " / ".join(_ours(shown) for shown in s.shown)),
    ("budget", lambda s: _budget(s.shown[0])),
    ("protocol", _protocol),
)


def _small_table(shown: Sequence[Shown], notes: Notes) -> list[str]:
    """What the recipes of a setting reach, one a line, without those that were not run; what is said of these below."""
    of: dict[str, tuple[Recipe, list[Shown]]] = {}
    for s in shown:
        if s.recipe is not None:
            of.setdefault(s.recipe.name, (s.recipe, []))[1].append(s)
    found = [line for recipe, own in of.values() for line in _short(recipe, own)]
    columns = [column for column in _SHORT_COLUMNS if column[0] != "published" or any(map(column[1], found))]
    said = _remarks([s for line in found for s in line.shown], notes)
    return [*table(columns, found), *(["", *said] if said else [])] if found else []


# ---- learned beside known ------------------------------------------------------------------------------------------
LEARNED = "learned"  # "loss at the end, 100 steps, learned" beside "loss at the end, 100 steps, adam 0.049"


class _Beside(NamedTuple):
    """A number of what was learned, and that of the best known thing in the same run."""

    own: Shown
    known: Shown


def beside(shown: Sequence[Shown], notes: Notes) -> list[str]:
    """A table of what was learned, each number beside the best of the known ones, with what is said of the recipes; empty
    where nothing stands beside another."""
    groups: dict[tuple[str, str], dict[str, Shown]] = {}
    for s in shown:
        if s.line is not None and ", " in s.line.metric:
            what, _, who = s.line.metric.rpartition(", ")
            groups.setdefault((s.line.recipe, what), {})[who] = s
    found = []
    for (_, what), of in groups.items():
        rivals = {
            who: s for who, s in of.items() if who != LEARNED and not who.startswith("bound")
        }  # these know too much
        others = [s for s in rivals.values() if s.line is not None and math.isfinite(s.line.mean)]
        if LEARNED in of and others:
            sign = -1 if what.startswith(("accuracy", "return", "share")) else 1  # more is better
            found.append(_Beside(of[LEARNED], min(others, key=lambda s: sign * s.line.mean if s.line else 0.0)))
    return [*table(_BESIDE_COLUMNS, found), "", *_remarks(shown, notes)] if found else []


def _remarks(shown: Iterable[Shown], notes: Notes) -> list[str]:
    """What is said of recipes as a whole."""
    said = {s.recipe.name: note(notes, s.recipe.name, ALL) for s in shown if s.recipe}
    return [f"- `{name}`: {text}" for name, text in said.items() if text]


def _less(s: _Beside) -> str:
    assert s.own.line is not None and s.known.line is not None
    own, known = s.own.line.mean, s.known.line.mean
    if s.own.line.metric.startswith("accuracy"):
        return f"{own - known:+.1f} points"
    return f"{100 * (own / known - 1):+.1f} %" if known else ""


def _part(s: Shown, index: int) -> str:
    return s.line.metric.rpartition(", ")[index] if s.line else ""


_BESIDE_COLUMNS: tuple[Column[_Beside], ...] = (
    ("recipe", lambda s: f"`{s.own.recipe.name}`" if s.own.recipe else ""),
    ("number", lambda s: _part(s.own, 0)),
    ("learned", lambda s: _ours(s.own)),
    ("best known one", lambda s: f"{_ours(s.known)} ({_part(s.known, 2)})"),
    ("learned against it", _less),
    ("outer steps", lambda s: _told("steps")[1](s.own)),
    ("budget", lambda s: _budget(s.own)),
    ("protocol", lambda s: _protocol(_Short(s.own.recipe, (s.own,))) if s.own.recipe else ""),
)


def unrecorded(found: Iterable[Line]) -> str:
    """A sentence that names the recipes with rows older than the recording of a recipe's hash; "" where there are none."""
    names = dict.fromkeys(line.recipe for line in found if NOT_RECORDED in line.state.split("; "))
    if not names:
        return ""
    listed = ", ".join(f"`{name}`" for name in names)
    return f"Recipe hash not recorded, so that whether the recipe has changed since is not known: {listed}."


def _by_method(recipes: Sequence[Recipe]) -> list[Recipe]:
    """The same recipes, those of a method one after another; methods in the order of their first recipes."""
    order = list(dict.fromkeys(recipe.algorithm for recipe in recipes))
    return sorted(recipes, key=lambda recipe: order.index(recipe.algorithm))


def notes_in(folder: Path) -> Notes:
    """What people say of the recipes and settings there are; see `read_notes`."""
    return read_notes(folder, {*RECIPES, *(title for title, _ in SETTINGS)})


def setting_of(name: str) -> str:
    """The title of the table that a recipe stands in; "" for one that is no result."""
    return next((title for title, pattern in SETTINGS if re.match(pattern, name)), "")


def _by_setting(found: Mapping[str, list[Line]]) -> Iterator[tuple[str, list[Shown]]]:
    """Each setting with all its lines: of recipes, run or not, of recipes that are gone, and yardsticks."""
    for title, _ in SETTINGS:
        recipes = _by_method([recipe for recipe in RECIPES.values() if setting_of(recipe.name) == title])
        shown = [s for recipe in recipes for s in shown_of(recipe, found.get(recipe.name, []))]
        gone = [
            line for name, own in found.items() if name not in RECIPES and setting_of(name) == title for line in own
        ]
        shown += [Shown(Recipe(name=line.recipe, summary=""), line) for line in gone]
        for prefix, yardsticks in YARDSTICKS.items():
            if any(recipe.name.startswith(prefix) for recipe in recipes):
                shown += [Shown(None, yardstick=yardstick) for yardstick in yardsticks]
        if shown:
            yield title, shown


def small_tables(folder: Path, known: Collection[str] | None = None) -> str:
    """One line a recipe that was run, setting by setting, with the pictures.

    Args:
        folder: results/.
        known: commits that today's state is built on; None: not known, and no row is stale for its commit.
    """
    notes, found = notes_in(folder), lines(rows_in(folder), RECIPES, known)
    parts = every_method.described(found)
    for title, shown in _by_setting(found):
        about, small = note(notes, title, ABOUT), beside(shown, notes) or _small_table(shown, notes)
        if small:
            parts += [f"## {title}", "", *small, "", f"[All rows]({LONG}#{_anchor(title)})", ""]
            parts += [about.strip(), ""] if about else []
    return "\n".join([*parts, *shots.described(folder), *searches.described(folder), *described(folder)])


def all_rows(folder: Path, known: Collection[str] | None = None) -> str:
    """Every row and every recipe, setting by setting; arguments as those of `small_tables`."""
    notes, found = notes_in(folder), lines(rows_in(folder), RECIPES, known)
    parts: list[str] = []
    for title, shown in _by_setting(found):
        parts += [f"## {title}", "", *one_table(shown, notes), ""]
    said = unrecorded(line for own in found.values() for line in own)
    return "\n".join([*parts, *(["## Rows without a recipe's hash", "", said, ""] if said else [])])


def _anchor(title: str) -> str:
    """As headings are linked to: lower case, no marks, dashes between the words."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def one_table(shown: Iterable[Shown], notes: Notes, only: Collection[str] | None = None) -> list[str]:
    """Without the columns that say nothing in this setting; with the sources and what is said of a recipe below.

    Args:
        shown: one a line.
        notes: sentences about the numbers.
        only: titles of the columns to show; None: all.
    """
    shown, sources = list(shown), _Sources()
    columns = [
        column
        for column in _columns(_Sources(), notes)
        if (only is None or column[0] in only) and (column[0] == "ours" or any(column[1](s) for s in shown))
    ]
    wanted = {title for title, _ in columns}
    columns = [column for column in _columns(sources, notes) if column[0] in wanted]
    parts = (table(columns, shown), sources.listed(), _remarks(shown, notes))
    return [line for part in parts if part for line in (*part, "")][:-1]


def rendered(pages: Path, folder: Path, known: Collection[str] | None = None) -> dict[Path, str]:
    """Both pages in the folder ``pages`` with their tables made anew; see `small_tables`."""
    made = {pages / SHORT: small_tables(folder, known), pages / LONG: all_rows(folder, known)}
    return {page: replaced(page.read_text(encoding="utf-8"), BEGIN, END, text, page) for page, text in made.items()}


def update(pages: Path, folder: Path) -> None:
    """Write both pages anew from the rows in ``folder``."""
    for page, text in rendered(pages, folder, past_commits()).items():
        page.write_text(text, encoding="utf-8")
