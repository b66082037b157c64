"""`python -m benchmarks.published`: measured numbers beside published ones, their page, and the check of two short ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.published.races import RACES
from innerloop.cli import output, program
from innerloop.cli.boundary import guarded, say
from innerloop.errors import ConfigError, InputError
from innerloop.report.text import text_table

_OUTSIDE = 1  # the exit code of --check when a number has left its band
_PAGES = Path("docs")
_METHODS = Path("docs/methods")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code, as those of `innerloop`."""
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: program.run("benchmarks.published", _published, words, program="python -m"))


def _published(
    *,
    out: Path = Path("results"),
    page: bool = False,
    check: bool = False,
    store_bands: bool = False,
    seeds: int = 6,
    race: str | None = None,
    seed: int = 0,
    json: bool = False,
) -> int:
    """List the measured numbers in results/ beside the published ones; one of the flags does more with them.

    Args:
        out: the folder of the CSV files.
        page: write docs/results.md, docs/all-rows.md and the numbers in docs/methods anew from the CSV files, and run nothing.
        check: run two short recipes again and exit with 1 where a number has left its stored band.
        store_bands: run the two short recipes with several seeds and store the bands.
        seeds: how many seeds --store-bands takes.
        race: run some methods against each other on this problem, and write the CSV file; --page draws it.
        seed: of the race.
        json: print one JSON object and nothing else.
    """
    if sum((page, check, store_bands, race is not None)) > 1:
        raise ConfigError("expected one of --page, --check, --store-bands and --race, got more of them; give one")
    output.folder(out)
    if page:
        return _write_page(out, json)
    if check:
        return _check(out, json)
    if store_bands:
        return _store(out, seeds, json)
    if race is not None:
        return _race(out, race, seed, json)
    return _list(out, json)


def _list(out: Path, json: bool) -> int:
    from benchmarks.published.page import rounded, ruined
    from benchmarks.published.summary import lines, rows_in
    from innerloop.provenance import past_commits
    from innerloop.recipes import RECIPES

    found = [line for own in lines(rows_in(out), RECIPES, past_commits()).values() for line in own]
    if json:
        told = [
            {
                "recipe": line.recipe,
                "metric": line.metric,
                "mean": line.mean,
                "ci95": line.interval,
                "published": "; ".join(line.told("published")),
                "seeds": [int(row["seed"]) for row in line.rows],
                "state": line.state,
            }
            for line in found
        ]
        output.print_json({"rows": told})
        return 0
    header = ["recipe", "number", "published", "ours", "seeds", "state"]
    cells = [
        [
            line.recipe,
            line.metric,
            "; ".join(line.told("published")) or "-",
            "some tasks diverged" if ruined(line) else rounded(line.mean, line.interval),
            str(len(line.rows)),
            line.state or "ok",
        ]
        for line in found
    ]
    print(text_table(cells, header, ruled=False))
    return 0


def _write_page(out: Path, json: bool) -> int:
    from benchmarks.published import every_method, method_numbers, page, race, searches, shots

    pages = [_PAGES / name for name in (page.SHORT, page.LONG)]
    for path in pages:
        if not path.is_file():
            raise InputError(f"expected the page {str(path)!r}, got none; run this in the source tree")
    page.update(_PAGES, out)
    method_numbers.update(_METHODS, out)
    drawn = [path for which in (every_method, race, shots, searches) for path in which.draw(out, _PAGES)]
    return _files([*pages, _METHODS, *drawn], json)


def _check(out: Path, json: bool) -> int:
    from benchmarks.published import bands

    verdicts = bands.check(bands.read(out / bands.FILE))
    if json:
        told = [
            {"recipe": v.band.recipe, "metric": v.band.metric, "value": v.value, "inside": v.inside} for v in verdicts
        ]
        output.print_json({"inside": all(v.inside for v in verdicts), "numbers": told})
    else:
        print("\n".join(map(str, verdicts)))
    return 0 if all(verdict.inside for verdict in verdicts) else _OUTSIDE


def _store(out: Path, seeds: int, json: bool) -> int:
    from benchmarks.published import bands

    path = out / bands.FILE
    bands.write(path, bands.measured(seeds, say=_silent if json else say))
    return _files([path], json)


def _race(out: Path, problem: str, seed: int, json: bool) -> int:
    if problem not in RACES:
        known = f"known: {', '.join(RACES)}"
        raise ConfigError(f"unknown race {problem!r}: {program.closest(problem, RACES, known)}")
    from benchmarks.published import race

    path = out / race.FILE.format(problem)
    found = race.run_race(problem, seed, say=_silent if json else say)
    race.write(path, found)
    return _files([path], json)


def _files(paths: Sequence[Path], json: bool) -> int:
    if json:
        output.print_json({"files": [str(path) for path in paths]})
    else:
        print(f"files: {', '.join(map(str, paths))}")
    return 0


def _silent(text: str) -> None:
    del text


if __name__ == "__main__":
    sys.exit(main())
