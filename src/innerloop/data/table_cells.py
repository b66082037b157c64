"""What the cells of a column say: numbers as people write them, dates, durations. Decided by the whole column.

A cell such as 1,234 may be two numbers and 05/06/2024 two days. What the other cells do not settle is refused, never guessed.
A `Reading` says what was decided; it travels with a learner, so that the cells of a new table are read in the same way.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["number", "date", "hours", "truth", "text"]
STRAY_SHARE = 0.05  # of a column's cells may be texts among numbers; they are then taken as missing
FEW = 20  # so many different cells may be categories although they hold digits
# Beside the words that always say that a cell is missing, these do among numbers. A lone minus may be a class elsewhere.
_NOTHING = frozenset(
    ("-", "--", "---", "–", "—", ".", "..", "...", "*", "unknown", "missing", "undefined", "unavailable", "not available",
     "not known", "no data", "n.a.", "n.d.", "n/d", "nd", "nil", "k.a.", "#value!", "#div/0!", "#ref!", "#num!")
)  # fmt: skip
_LEAVE = "or name the column with --categories or --ignore"


class Loud(str):
    """A sentence that is said wherever a table is trained on: a column that varies is not used, or is not what it seems."""


class Lost(Loud):
    """A sentence on cells that are taken as missing; said of new rows too."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How the cells of a column become one number each.

    Attributes:
        kind: numbers, days since 1970 (of dates), hours (of times and durations), 1 and 0 (of true and false), or none.
        decimal: the mark before a number's decimals; the others part its thousands.
        unit: what every number is written with, such as "kg", "%" or "$".
        form: of a date, or of a duration; "typed": the column came as numbers or dates, not as text.
    """

    kind: Kind = "number"
    decimal: str = "."
    unit: str = ""
    form: str = ""

    def __str__(self) -> str:
        if self.kind != "number":
            return {"date": "dates", "hours": "times", "truth": "true and false", "text": "texts"}[self.kind] + (
                f" written as {self.form}" if self.form and self.form != "typed" else ""
            )
        return (
            "numbers" + f" in {self.unit}" * bool(self.unit) + " with decimal commas" * (self.decimal == ",")
        )  # fmt: skip

    def read(self, cell: str) -> float | None:
        """The number that a cell holds by this reading; None: it holds none."""
        if self == PLAIN:
            return plain(cell)
        if self.kind == "number":
            one = _quantity(cell, self.decimal)
            return one[0] if one is not None and one[1] == self.unit else None
        if self.kind == "date":
            day = _day(cell, self.form)
            return None if day is None else day[0]
        if self.kind == "hours":
            hours = _hours(cell)
            forms = (self.form, "letter") if self.form == "words" else (self.form,)
            return hours[0] if hours is not None and hours[1] in forms else None
        return {"true": 1.0, "false": 0.0}.get(cell.lower()) if self.kind == "truth" else None


PLAIN, TEXT, TYPED = Reading(), Reading("text"), Reading(form="typed")


class Decided(NamedTuple):
    """What a column's cells are.

    Attributes:
        reading: of its cells.
        values: the number of each different cell, NaN where it has none; None for a column of texts.
        note: what was done that the user should know; "" where nothing was.
        refused: why its cells can be neither read nor left; "" where they can.
        stray: the first of a few cells that are taken as missing; "" where none are.
    """

    reading: Reading
    values: np.ndarray | None = None
    note: str = ""
    refused: str = ""
    stray: str = ""


def plain(cell: str) -> float | None:
    """The number that a text is as computers write it; None where it is none. ('1_000' is one for Python only.)"""
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


# ---- numbers -------------------------------------------------------------------------------------------------------
_SAME = str.maketrans(
    {**dict.fromkeys("\u2212\u2013\u2012", "-"), **dict.fromkeys("\xa0\u202f\u2009\u2007\t", " "), "\u2019": "'"}
)
_CURRENCY = r"(?:US|CA|AU|A|C|R|HK|NZ|S)?\$|€|£|¥|₹|₽|₩|EUR|USD|GBP|CHF|JPY|CNY|INR|Fr\.|Rs\.?"
_UNIT = r"[A-Za-zÀ-žµμΩ°%‰²³/·]{1,12}[23]?(?: (?:per )?[A-Za-zÀ-ž/]{1,8})?|€|£|¥|₹|\$|₽|₩"


def _pattern(decimal: str, groups: str, more: str = "") -> re.Pattern[str]:
    digits = rf"[1-9]\d{{0,2}}(?P<group>[{groups}])\d{{3}}(?:(?P=group)\d{{3}})*|{more}\d+"
    whole = rf"(?P<number>(?:(?:{digits})(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?)"
    return re.compile(
        rf"(?P<sign>[+-]?) ?(?P<before>{_CURRENCY})? ?(?P<inner>[+-]?){whole}(?P<last>-?) ?(?P<after>{_UNIT})?"
    )


_QUANTITY = {".": _pattern(r"\.", r" ,'", r"[1-9]\d?(?:,\d\d)+,\d{3}|"), ",": _pattern(",", r" .'")}


def _quantity(cell: str, decimal: str) -> tuple[float, str] | None:
    """(number, unit) of a cell such as "€ -1.234,50", "(12.5)" or "12 kg"; None where it is none."""
    text = re.sub(" +", " ", cell.translate(_SAME)).strip()
    below = len(text) > 2 and text[0] == "(" and text[-1] == ")"  # an accountant's minus
    found = _QUANTITY[decimal].fullmatch(text[1:-1].strip() if below else text)
    if found is None:
        return None
    signs = [found["sign"], found["inner"], found["last"], "-" if below else ""]
    if sum(map(bool, signs)) > 1 or (found["before"] and found["after"]):
        return None
    digits = found["number"]
    for mark in " '" + (",." if decimal == "." else ".,")[:1]:
        digits = digits.replace(mark, "")
    number = float(digits.replace(",", "."))
    unit = found["before"] or found["after"] or ""
    if unit in ("st", "nd", "rd", "th"):
        unit = ""
    # One year, two years.
    return (-number if "-" in signs else number), unit[:-1] if len(unit) > 2 and unit[-1] == "s" else unit


# ---- dates ---------------------------------------------------------------------------------------------------------
_D, _M, _Y, _NAME = r"(?P<d>\d{1,2})", r"(?P<m>\d{1,2})", r"(?P<y>\d{4}|\d\d)", r"(?P<m>[A-Za-z]{3,9})"
_DATES = {
    "year-month-day": rf"(?P<y>\d{{4}})(?P<s>[-/.]){_M}(?P=s){_D}",
    "yearmonthday": r"(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)",
    "day.month.year": rf"{_D}\. ?{_M}\. ?{_Y}",
    **{f"day{s}month{s}year": f"{_D}{s}{_M}{s}{_Y}" for s in "/-"},
    **{f"month{s}day{s}year": f"{_M}{s}{_D}{s}{_Y}" for s in "/-"},
    "yy-month-day": rf"(?P<y>\d\d)-{_M}-{_D}",
    "day month year": rf"{_D}(?:st|nd|rd|th)?[-. ]+{_NAME}[-., ]+{_Y}",
    "month day, year": rf"{_NAME}\.? {_D}(?:st|nd|rd|th)?,? (?P<y>\d{{4}})",
    "year-month": r"(?P<y>\d{4})[-/](?P<m>\d{1,2})",
    "month/year": rf"{_M}[/.](?P<y>\d{{4}})",
    "month year": rf"{_NAME}\.?[- ](?P<y>\d{{4}})",
    "year quarter": r"(?P<y>\d{4})[- ]?Q(?P<q>[1-4])",
}
_TIME = (
    r"(?P<h>\d{1,2}):(?P<min>[0-5]\d)(?::(?P<sec>[0-5]\d(?:[.,]\d+)?))? ?(?P<half>[AaPp]\.?[Mm]\.?)?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
)
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?"
_DATE = {form: re.compile(rf"{_WEEKDAY}(?:{date})(?:(?:T|,? +){_TIME})?") for form, date in _DATES.items()}
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
_EPOCH = datetime.datetime(1970, 1, 1)


def _day(cell: str, form: str) -> tuple[float, bool] | None:
    """(days since 1970, whether a zone is said; then in UTC) of a date written in this form; None where it is none."""
    found = _DATE[form].fullmatch(re.sub(r"\s+", " ", cell.strip())) if form in _DATE else None
    if found is None:
        return None
    part = found.groupdict()
    year = int(part["y"])
    if len(part["y"]) == 2:
        year += 1900 if year > 68 else 2000  # as POSIX has it
    word = (part.get("m") or "1").lower()
    if word.isdigit():
        month = 3 * int(part["q"]) - 2 if part.get("q") else int(word)
    else:
        month = next((i for i, name in enumerate(_MONTHS, 1) if word in (name, name[:3], name[:4])), 0)
    try:
        when = datetime.datetime(year, month, int(part.get("d") or 1))
    except ValueError:
        return None
    seconds = 0.0
    if part["h"]:
        hour = _hour(int(part["h"]), part["half"])
        if hour is None or hour > 23:
            return None
        seconds = 3600 * hour + 60 * int(part["min"]) + float((part["sec"] or "0").replace(",", "."))
        if (zone := part["zone"] or "")[:1] in ("+", "-"):
            digits = zone[1:].replace(":", "").ljust(4, "0")
            seconds -= (3600 * int(digits[:2]) + 60 * int(digits[2:])) * (-1 if zone[0] == "-" else 1)
    return ((when - _EPOCH).days * 86_400 + seconds) / 86_400, bool(part["zone"])


def _hour(hour: int, half: str | None) -> int | None:
    if half is None:
        return hour
    return hour % 12 + 12 * (half[0] in "pP") if 1 <= hour <= 12 else None


# ---- times and durations -------------------------------------------------------------------------------------------
_CLOCK = re.compile(
    r"(?:(?P<d>-?\d+) days?,? ?\+?|(?P<minus>-))?(?P<h>\d{1,5}):(?P<min>[0-5]\d)(?::(?P<sec>[0-5]\d(?:[.,]\d+)?))?"
    r" ?(?P<half>[AaPp]\.?[Mm]\.?)?"
)
_ISO = re.compile(r"(-)?P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_SECONDS = {"w": 604_800, "week": 604_800, "d": 86_400, "day": 86_400, "h": 3600, "hr": 3600, "hour": 3600, "m": 60,
            "min": 60, "minute": 60, "s": 1, "sec": 1, "second": 1}  # fmt: skip
_SPAN = re.compile(r"(-?\d+(?:\.\d+)?) ?([A-Za-z]+)\.?,?(?: and)?\s*")


def _hours(cell: str) -> tuple[float, str] | None:
    """(hours, form) of a time or a duration: "9:30", "9:30 pm", "1 days 02:03:04", "PT1H30M", "1 h 30 min"; else None."""
    text = re.sub(r"\s+", " ", cell.strip().translate(_SAME))
    if (found := _CLOCK.fullmatch(text)) is not None:
        hour = _hour(int(found["h"]), found["half"])
        if hour is None:
            return None
        seconds = 3600 * hour + 60 * int(found["min"]) + float((found["sec"] or "0").replace(",", "."))
        seconds = (int(found["d"] or 0) * 86_400 + seconds) * (-1 if found["minus"] else 1)
        return seconds / 3600, "h:m:s" if found["sec"] else "h:m"
    if (found := _ISO.fullmatch(text)) is not None:
        parts = zip(found.groups()[1:], (604_800, 86_400, 3600, 60, 1), strict=True)
        return sum(float(n or 0) * s for n, s in parts) / 3600 * (-1 if found[1] else 1), "P"
    spans = _SPAN.findall(text)
    names = [word.lower() if word.lower() in _SECONDS else word.lower().removesuffix("s") for _, word in spans]
    if not spans or _SPAN.sub("", text) or any(name not in _SECONDS for name in names):
        return None
    # One number with one letter alone may be metres as well as minutes.
    form = "letter" if len(names) == 1 and len(names[0]) < 2 else "words"
    return sum(float(n) * _SECONDS[name] for (n, _), name in zip(spans, names, strict=True)) / 3600, form


def read_as(column: str, reading: Reading) -> str:
    """A sentence on a column of dates or times."""
    if reading.kind == "date":
        return (
            f"column {column!r} is read as {reading}: days since 1970, and weekday, day, month and hour where they vary"
        )
    return f"column {column!r} is read as {reading}, in hours"


def thousands(cells: Iterable[str | None]) -> str:
    """The first of the cells that is a thousand where commas are decimal marks, if all may be so; else ""."""
    there = [cell for cell in cells if cell is not None]
    read = [_quantity(cell, ",") for cell in there]
    if any(one is None for one in read):
        return ""
    return next((cell for cell, one in zip(there, read, strict=True) if one is not None and one[0] != plain(cell)), "")


# ---- a column ------------------------------------------------------------------------------------------------------
def decide(cells: Sequence[str], counts: Sequence[int], column: str, *, semicolons: bool = False) -> Decided:
    """What the different cells of a column are, by all of them.

    Args:
        cells: each different one, nothing that says missing.
        counts: how often each is there.
        column: its name, for notes.
        semicolons: separate the table's cells, as where commas are decimal marks.
    """
    read = [plain(cell) for cell in cells]
    number = np.array(read, dtype=np.float64)  # None becomes NaN
    is_number = np.array([one is not None for one in read], dtype=bool)
    count = np.asarray(counts, dtype=np.int64)
    if is_number.all():
        return dates_in_digits(cells, column) or Decided(PLAIN, number)
    if all(cell.lower() in ("true", "false") for cell in cells):
        return Decided(Reading("truth"), np.array([float(cell.lower() == "true") for cell in cells]))
    total = int(count.sum())
    stray = int(count[~is_number].sum())
    digits = np.array([any(map(str.isdigit, cell)) and cell.lower() not in _NOTHING for cell in cells], dtype=bool)
    if digits[~is_number].any():
        with_digits = [cell for cell, has in zip(cells, digits, strict=True) if has]
        found = _read_all(with_digits, column, semicolons)
        if found is None and stray > STRAY_SHARE * total:
            return _unread(cells, count, column)
        if found is not None and found.refused and not _mostly_digits(cells, count):
            return Decided(TEXT)
        if found is not None:
            if found.values is None:
                return found
            values = np.full(len(cells), np.nan)
            values[digits] = found.values
            return _with_words(Decided(found.reading, values, found.note), cells, count, ~digits, column)
        if any(re.match(r"[<>≤≥~≈]=? ?[\d.,]+", cell) for cell in cells):
            return _as_unread([cell for cell in cells if cell[0] in "<>≤≥~≈"], column, "holds bounds among its numbers")
    return _with_words(Decided(PLAIN, number), cells, count, ~is_number, column)


def dates_in_digits(cells: Sequence[str], column: str) -> Decided | None:
    """Dates such as 20240131, where all cells are; a number of eight digits is hardly ever one by chance."""
    if len(cells) < 3 or any(len(cell) != 8 for cell in cells):
        return None
    return _as_dates(cells, column)


def _with_words(
    found: Decided, cells: Sequence[str], count: np.ndarray, words: np.ndarray, column: str
) -> Decided:  # fmt: skip
    """Numbers with words among them: a few, and those that say that nothing is known, are missing."""
    stray = int(count[words].sum())
    if not stray:
        return found
    total = int(count.sum())
    if stray == total:
        return Decided(TEXT)
    unknown = all(cells[i].lower() in _NOTHING for i in np.flatnonzero(words).tolist())
    first = next(cells[i] for i in np.flatnonzero(words).tolist())
    if stray <= STRAY_SHARE * total or (unknown and stray <= total / 2):
        return found._replace(stray=first)
    mixed = f"column {column!r} mixes {total - stray} numbers with {stray} texts"
    if len(cells) <= FEW or 2 * stray >= total:
        return Decided(TEXT, note=f"{mixed} and is taken as categories")
    return Decided(TEXT, refused=f"{mixed} such as {first!r}; leave these cells empty, {_LEAVE}")


def _read_all(cells: Sequence[str], column: str, semicolons: bool) -> Decided | None:
    """The reading that fits all these cells; refused where two fit and say different things; None where none does."""
    return _as_dates(cells, column) or _as_hours(cells, column) or _as_numbers(cells, column, semicolons)


def _as_numbers(cells: Sequence[str], column: str, semicolons: bool) -> Decided | None:
    fitting: dict[str, tuple[np.ndarray, str]] = {}
    for decimal in ".,":
        found = [_quantity(cell, decimal) for cell in cells]
        known = [one for one in found if one is not None]
        if len(known) == len(cells) and len({unit for _, unit in known}) == 1:
            fitting[decimal] = np.array([number for number, _ in known]), known[0][1]
    if not fitting:
        return None
    decimal, (values, unit) = next(iter(fitting.items()))
    apart = np.flatnonzero(values != fitting.get(",", (values,))[0]).tolist()
    if apart:
        cell, one, other = cells[apart[0]], values[apart[0]], fitting[","][0][apart[0]]
        if not semicolons:
            return Decided(
                TEXT,
                refused=f"column {column!r} holds {cell[:40]!r}, which may be {one:.15g} or {other:.15g}; write it as "
                f"{one:.15g} or {other:.15g}, {_LEAVE}",
            )
        decimal, values = ",", fitting[","][0]
    longest = max(range(len(cells)), key=lambda i: len(cells[i]))
    shown = cells[apart[0] if apart else longest]
    value = values[apart[0] if apart else longest]
    reading = Reading("number", decimal, unit)
    return Decided(reading, values, f"column {column!r} is read as {reading}: {shown[:40]!r} is {value:.15g}")


def _as_dates(cells: Sequence[str], column: str) -> Decided | None:
    fitting: dict[str, np.ndarray] = {}
    zones: set[bool] = set()
    for form in _DATE:
        if _day(cells[0], form) is None:
            continue
        found = [_day(cell, form) for cell in cells]
        known = [one for one in found if one is not None]
        if len(known) == len(cells):
            fitting[form], zones = np.array([day for day, _ in known]), {zone for _, zone in known}
    if not fitting:
        return None
    form, values = next(iter(fitting.items()))
    for other, others in fitting.items():
        apart = np.flatnonzero(values != others).tolist()
        if apart:
            return Decided(
                TEXT,
                refused=f"column {column!r} holds {cells[apart[0]][:40]!r}, which may be {form} or {other}; write dates as "
                f"2024-12-31, {_LEAVE}",
            )
    if len(zones) > 1:
        return Decided(
            TEXT, refused=f"column {column!r} holds times with a zone and times without; write all with one, {_LEAVE}"
        )
    reading = Reading("date", form=form)
    return Decided(reading, values, read_as(column, reading) + ", in UTC" * (True in zones))


def _as_hours(cells: Sequence[str], column: str) -> Decided | None:
    found = [_hours(cell) for cell in cells]
    known = [one for one in found if one is not None]
    if len(known) < len(cells):
        return None
    forms = {form for _, form in known}
    if forms == {"letter"}:
        return None
    forms -= {"letter"} if "words" in forms else set()
    if len(forms) > 1:
        return Decided(
            TEXT,
            refused=f"column {column!r} holds times in several forms ({', '.join(sorted(forms))}); write one, {_LEAVE}",
        )
    values = np.array([hours for hours, _ in known])
    reading = Reading("hours", form=forms.pop())
    return Decided(reading, values, f"{read_as(column, reading)}: {cells[0][:40]!r} is {values[0]:.6g}")


def _mostly_digits(cells: Sequence[str], count: np.ndarray) -> bool:
    return _share(cells, count, _is_mostly_digits)


def _share(cells: Sequence[str], count: np.ndarray, holds: Callable[[str], bool]) -> bool:
    """Whether it holds for half of the cells or more."""
    return 2 * sum(int(n) for cell, n in zip(cells, count, strict=True) if holds(cell)) >= count.sum()


def _is_mostly_digits(cell: str) -> bool:
    """Whether a cell is written as a quantity: a number and a unit, or digits that are half of what counts."""
    if any(_quantity(cell, decimal) is not None for decimal in ".,"):
        return True
    told = [c for c in cell if c.isalnum()]
    begins = re.match(r"[^\w]{0,3}\d", cell) is not None and not re.fullmatch(r"[0-9a-fA-F-]{32,36}", cell)
    return begins and 2 * sum(map(str.isdigit, told)) >= len(told)


def _unread(cells: Sequence[str], count: np.ndarray, column: str) -> Decided:
    """Cells with digits that no reading fits: texts where they are words; refused where they look like quantities."""
    if _mostly_digits(cells, count):
        if len(cells) <= FEW and 3 * len(cells) <= count.sum():
            return Decided(
                TEXT, note=f"column {column!r} holds no numbers ({cells[0][:40]!r}) and is taken as categories"
            )
        units = sorted({one[1] or "none" for cell in cells if (one := _quantity(cell, ".")) is not None})
        if len(units) > 1:
            return _as_unread(
                cells, column, f"holds numbers in several units ({', '.join(units[:4])}); write them in one"
            )
        return _as_unread(
            cells, column, "is read as no numbers, dates or times; write plain numbers, or dates as 2024-12-31"
        )
    numbers = sum(int(n) for cell, n in zip(cells, count, strict=True) if plain(cell) is not None)
    mixed = (
        f"column {column!r} mixes {numbers} numbers with {int(count.sum()) - numbers} texts and is taken as categories"
    )
    return Decided(TEXT, note=mixed if numbers else "")


def _as_unread(cells: Sequence[str], column: str, why: str) -> Decided:
    odd = next((cell for cell in cells if plain(cell) is None), cells[0])
    return Decided(TEXT, refused=f"column {column!r} {why} (it holds {odd[:40]!r}), {_LEAVE}")


# ---- numbers that are no quantities --------------------------------------------------------------------------------
_NUMBERED = r"(?:nr|no|number|code)[.#]?"
_NAMES_ROWS = re.compile(
    rf"(?:^|.*[^a-z])(?:id|ids|uuid|guid|key|index|idx|nr|no|rowid|ssn|iban|isbn|phone|tel|telephone|mobile)"
    rf"(?: {_NUMBERED})?[#.]?|unnamed: 0|#|(?:account|customer|order|serial|case|row|record|sample|ticket|phone) ?{_NUMBERED}"
)


def are_codes(cells: Iterable[str]) -> bool:
    """Whether whole numbers are written with leading zeros, as codes are (007); of two digits they may be days or hours."""
    found = list(cells)
    return any(len(cell) > 2 and cell[0] == "0" for cell in found) and all(map(str.isdecimal, found))


def identifier(name: str, values: np.ndarray, cells: Sequence[str]) -> str:
    """Why a column of numbers names rows rather than measures them; "" where it does not.

    Whole numbers of which none comes twice: where so many out of so short a range would nearly always hold one twice (in
    fewer than 1 of 100 tables, by exp(-n^2 / 2 range)), or where the column's name says it.
    """
    n = len(values)
    if n < 3 or (values != np.round(values)).any() or len(set(cells)) < n or len(np.unique(values)) < min(n, 3):
        return ""
    said = _NAMES_ROWS.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", name.strip()).lower())
    dense = n >= 10 and n * (n - 1) / 2 > 4.6 * (values.max() - values.min() + 1)
    return f"{n} whole numbers, none twice, name rows" if said or dense else ""


def odd_numbers(name: str, values: np.ndarray, cells: Sequence[str]) -> list[str]:
    """Sentences on numbers that may say that a cell is missing, or may name rows."""
    different = np.unique(values)
    found = []
    for end, others in ((different[0], different[1:]), (different[-1], different[:-1])):
        lone = len(others) > 1 and min(abs(others - end)) > others[-1] - others[0]
        if lone and re.fullmatch(r"-9{2,}|9{3,}", f"{end:.15g}"):
            count = int((values == end).sum())
            found.append(
                f"column {name!r} holds {end:.15g} in {count} cells, far from all others: leave them empty if they say nothing"
            )
    once = len(cells) >= 10 and len(different) == len(cells)
    if once and {len(cell) for cell in cells} == {max(4, len(cells[0]))} and all(map(str.isdecimal, cells)):
        found.append(f"column {name!r} is taken as numbers, none twice; if they name rows: --ignore")
    return [Loud(sentence) for sentence in found]


def reading_of(given: Any) -> Reading | None:
    """The reading that a record holds.

    Raises:
        ValueError: none that is known.
    """
    if given is None:
        return None
    made = Reading(**given)
    forms = {"number": ("", "typed"), "date": (*_DATE, "typed"), "hours": ("h:m", "h:m:s", "P", "words", "typed")}
    if made.form not in forms.get(made.kind, ()) or made.decimal not in (".", ",") or not isinstance(made.unit, str):
        raise ValueError(f"reading {given!r}")
    return made
