"""`python -m benchmarks.speed`: our speed and memory beside the other libraries', as rows of CSV files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import BENCHMARKS, DEFAULT
from benchmarks.speed.contenders import CONTENDERS
from innerloop.cli import output, program
from innerloop.cli.boundary import guarded, say
from innerloop.errors import ConfigError, InputError
from innerloop.report.text import text_table

_PROCESSES = {"kept": "in one process", "default": "a default process"}  # of `rows.Row`, in words
_SLOWER = 1  # the exit code of --check when a ratio has halved


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code, as those of `innerloop`."""
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: program.run("benchmarks.speed", _speed, words, program="python -m"))


def _speed(
    *names: str,
    out: Path = Path("benchmarks/results"),
    contenders: str | None = None,
    threads: int = 1,
    rounds: int = 9,
    check: bool = False,
    page: bool = False,
    tiny: bool = False,
    json: bool = False,
) -> int:
    """Time whole outer steps of ours and of other libraries, side by side, in alternating rounds.

    Each case has a process of its own that keeps the memory it frees, and one as the system starts it.

    Benchmarks: sine, conv4, protonet, training_runs, scaling, memory, startup; and check, which stores what --check compares
    with. A library that is not installed has a row that says so; make bench installs them all.

    Args:
        names: benchmarks to run; left out: all but check.
        out: folder of the CSV files, one a benchmark; rows of the same machine and commit are replaced.
        contenders: names separated by commas, for example ours,plain_loop; left out: all.
        threads: CPU threads that all of them are held to.
        rounds: timed rounds; the median, the least and the most of them are written.
        check: measure a few ratios and exit with 1 where one is less than half of the stored one.
        page: write docs/speed.md anew from the CSV files, and measure nothing.
        tiny: the smallest size of each benchmark, to see that it runs; nothing is written.
        json: print one JSON object and nothing else.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise ConfigError(f"unknown benchmark {name!r}: {program.closest(name, BENCHMARKS, _known())}")
    if check + page + bool(names) > 1:
        raise ConfigError("expected names, --check or --page, got more than one of them; give one")
    output.folder(out)
    if page:
        return _page(out, json)
    from benchmarks.speed.settings import Settings

    settings = Settings(
        rounds=rounds,
        contenders=_contenders(contenders),
        threads=threads,
        out=None if tiny or check else out,
        tiny=tiny,
        seconds=0.01 if tiny else 0.2,
        say=lambda text: None if json else say(text),
    )
    return _check(settings, out, json) if check else _measure(names or DEFAULT, settings, json)


def _known() -> str:
    return f"known: {', '.join(BENCHMARKS)}"


def _contenders(text: str | None) -> list[str] | None:
    if text is None:
        return None
    found = [name.strip() for name in text.split(",") if name.strip()]
    for name in found:
        if name not in CONTENDERS:
            hint = program.closest(name, CONTENDERS, f"known: {', '.join(CONTENDERS)}")
            raise ConfigError(f"unknown contender {name!r}: {hint}")
    if not found:
        raise ConfigError("--contenders expected names separated by commas, got none; leave it out for all")
    return found


def _measure(names: Sequence[str], settings: Any, json: bool) -> int:
    from benchmarks.speed import conditions, rows
    from innerloop.registry import load

    found = []
    with conditions.limited(settings.threads):
        for name in names:
            for case in load("benchmark", BENCHMARKS, name)(settings):
                if settings.out is not None:  # after each case: an hour's work should survive Ctrl-C
                    rows.write(settings.out / f"{name}.csv", case)
                found += case
                if not json and case:
                    print(_table(case) + "\n", flush=True)
    if json:
        output.print_json({"rows": found, "out": str(settings.out) if settings.out else None})
    elif settings.out is not None:
        print(f"files: {', '.join(str(settings.out / f'{name}.csv') for name in names)}")
    return 0


def _check(settings: Any, out: Path, json: bool) -> int:
    from benchmarks.speed import check, conditions, rows

    path = out / check.FILE
    stored = rows.read(path)
    if not stored:
        raise InputError(
            f"expected stored ratios at {str(path)!r}, got none; store them with python -m benchmarks.speed check"
        )
    with conditions.limited(settings.threads):
        measured = [row for case in check.run(settings) for row in case]
    verdicts = check.judge(measured, stored)
    halved = any(verdict.halved for verdict in verdicts)
    if json:
        ratios = [{"case": v.case, "ratio": v.ratio, "stored": v.stored, "halved": v.halved} for v in verdicts]
        output.print_json({"halved": halved, "ratios": ratios})
    else:
        print("\n".join(map(str, verdicts)))
    return _SLOWER if halved else 0


def _page(out: Path, json: bool) -> int:
    from benchmarks.speed import page

    path = Path("docs/speed.md")
    if not path.is_file():
        raise InputError(f"expected the page {str(path)!r}, got none; run this in the source tree")
    page.update(path, out)
    if json:
        output.print_json({"page": str(path)})
    else:
        print(f"files: {path}")
    return 0


def _table(case: Sequence[Any]) -> str:
    """One case's rows, lined up."""
    first = case[0]
    lines = []
    for row in case:
        if row.peak_mib is not None:
            numbers = [f"{row.peak_mib:.1f} MiB", "", ""]
        elif row.median_ms is not None:
            numbers = [f"{row.median_ms:.3g} ms", f"{row.min_ms:.3g}", f"{row.max_ms:.3g}"]
        else:
            numbers = ["-", "", ""]
        ratio = "" if row.ratio_to_ours is None else f"{row.ratio_to_ours:.2f}"
        bound = "" if row.times_bound is None else f"{row.times_bound:.1f}"
        faults = "" if row.minor_faults is None else f"{row.minor_faults:.0f}"
        lines.append([row.contender, _PROCESSES.get(row.process, ""), *numbers, ratio, bound, faults, row.note])
    titles = ["process", "median", "min", "max", "times ours", "times bound", "faults", "note"]
    return text_table(lines, [f"{first.benchmark}: {first.case}", *titles], ruled=False)


if __name__ == "__main__":
    sys.exit(main())
