"""Molecules as SMILES: read by rdkit, named where it refuses them, and counted into Morgan fragments; the one reader there is.

A row of counts says how often each of 2,048 hashed fragments of radius 2 is in a molecule (Rogers and Hahn 2010, "Extended-
connectivity fingerprints", J. Chem. Inf. Model. 50:742). Salts and mixtures are taken whole. rdkit comes with the extra
``molecules``.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from innerloop.data.counts import MOLECULES, Counts
from innerloop.data.tables import Table, as_table, is_table, is_tabular
from innerloop.errors import CheckpointError, InnerloopWarning, InputError, first_few
from innerloop.waiting import waiting

VERSION = 1
RADIUS, KINDS = 2, 2048
SMI = (".smi", ".smiles")  # one molecule a line, its name behind it
_COLUMNS = ("smiles", "canonical_smiles", "smi")
_UNITS = ("unit", "units", "standard_units", "standard_unit")
_MOST_REFUSED = 5  # that a message names
ACTIVE = ("1", "1.0", "true", "yes", "active", "positive", "hit", "toxic", "a")  # names of the class that is looked for


class Record(NamedTuple):
    """How molecules become inputs, as runs and task files keep it.

    Attributes:
        column: of a table, the one with the SMILES.
        target: of a table, the one to predict; None: it differs from task to task.
        mean, std: of values to predict: the model predicts (value - mean) / std. None: classes.
        shown: SMILES of a task's support set; of a task file.
        answers: their targets, as they were given.
    """

    column: str
    target: str | None = None
    mean: float | None = None
    std: float | None = None
    shown: tuple[str, ...] = ()
    answers: tuple[Any, ...] = ()

    @property
    def of_values(self) -> bool:
        return self.std is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; `record_of` makes the record again."""
        own = {key: list(v) if isinstance(v, tuple) else v for key, v in self._asdict().items()}
        return {"kind": MOLECULES, "version": VERSION, "kinds": KINDS, "radius": RADIUS, **own}


def record_of(preprocessing: Mapping[str, Any] | None) -> Record | None:
    """A learner's or a task's record of molecules; None: its inputs are others.

    Raises:
        CheckpointError: a newer or damaged one.
    """
    found = dict(preprocessing or {})
    if found.get("kind") != MOLECULES:
        return None
    if found.get("version") != VERSION or found.get("kinds") != KINDS or found.get("radius") != RADIUS:
        raise CheckpointError(
            f"expected molecules of version {VERSION}, got {found.get('version')!r}; upgrade innerloop, or train again"
        )
    try:
        own: dict[str, Any] = {}
        for key in Record._fields:
            own[key] = tuple(found[key]) if key in ("shown", "answers") else found[key]
        made = Record(**own)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the record of molecules is damaged ({error}); use another file") from None
    return made


def are_molecules(preprocessing: Mapping[str, Any] | None) -> bool:
    """Whether a learner's inputs are molecules, by the record of its inputs."""
    return (preprocessing or {}).get("kind") == MOLECULES


@dataclasses.dataclass(frozen=True)
class Molecules:
    """Molecules that rdkit reads.

    Attributes:
        smiles: as they were written.
        canonical: as rdkit writes them: equal where two are one molecule.
        counts: of their fragments.
        rows: the place of each among those given.
        names: of each, where the file names it, else "".
        notes: what is odd, in sentences.
    """

    smiles: list[str]
    canonical: list[str]
    counts: Counts
    rows: list[int]
    names: list[str]
    notes: tuple[str, ...] = ()

    def take(self, kept: Sequence[int]) -> Molecules:
        """Some of them, in this order."""
        own = {what: [getattr(self, what)[i] for i in kept] for what in ("smiles", "canonical", "rows", "names")}
        return dataclasses.replace(self, counts=self.counts.take(list(kept)), **own)


class Written(NamedTuple):
    """SMILES as they were given, the name of each ("" where it has none), and the table they are from."""

    smiles: list[str | None]
    names: list[str]
    table: Table | None
    where: str


# ---- where they come from ------------------------------------------------------------------------------------------
def written(given: Any, column: str | None = None) -> Written:
    """SMILES from wherever a user has them: a list, a .smi file, a table by its path or in memory, or one SMILES.

    Args:
        given: which.
        column: of a table; None, or not there: the one called smiles.

    Raises:
        InputError: nothing there, or no such column.
    """
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, list | tuple) and len(given) == 1 and isinstance(given[0], Path):
        given = given[0]
    if isinstance(given, str) and not (is_table(given) or given.lower().endswith(SMI)):
        given = [given]
    if is_tabular(given) or isinstance(given, Mapping) or (isinstance(given, str | Path) and is_table(given)):
        table = as_table(given)
        name = column_of(table, column)
        return Written(table.texts[name].tolist(), [""] * table.rows, table, table.name)
    if isinstance(given, str | Path):
        return _of_lines(Path(given))
    if not isinstance(given, list | tuple):
        raise InputError(f"expected molecules: a list of SMILES, a .smi file or a table, got {type(given).__name__}")
    for i, one in enumerate(given):
        if not isinstance(one, str):
            raise InputError(f"expected a list of SMILES, got {type(one).__name__} at {i}; give texts")
    return Written(list(given), [""] * len(given), None, "the molecules")


def column_of(table: Table, column: str | None = None) -> str:
    """The column of a table that holds the SMILES.

    Raises:
        InputError: there is none of that name, nor one called smiles.
    """
    if column is not None and column in table.columns:
        return column
    found = [name for name in table.columns if name.strip().lower() in _COLUMNS]
    if len(found) != 1:
        table.expect(column or "smiles")
    return found[0]


def _of_lines(path: Path) -> Written:
    if not path.is_file():
        raise InputError(f"expected a file of SMILES, got nothing at {str(path)!r}; check the path")
    from innerloop.data.table_text import decoded, unpacked

    lines = [
        line.split(None, 1) for line in decoded(unpacked(path.read_bytes(), str(path)), str(path), None).splitlines()
    ]
    lines = [line for line in lines if line and not line[0].startswith("#")]
    if lines and lines[0][0].lower() in _COLUMNS:
        lines = lines[1:]
    if not lines:
        raise InputError(f"{path} expected a SMILES a line, got none; add some")
    return Written(
        [line[0] for line in lines], [line[1].strip() if line[1:] else "" for line in lines], None, str(path)
    )


def expect_one_unit(table: Table, target: str, rows: Sequence[int]) -> None:
    """Raise InputError where values to predict are in several units: by their own cells, or by a column of units beside them."""
    table.readable(target)
    for name in table.columns:
        if name.strip().lower() not in _UNITS:
            continue
        cells = [table.texts[name][row] for row in rows]
        found = {cell: cells.count(cell) for cell in sorted({str(cell) for cell in cells if cell is not None})}
        if len(found) > 1:
            said = ", ".join(f"{unit} ({number} rows)" for unit, number in list(found.items())[:4])
            raise InputError(
                f"{table.name}: {target!r} expected one unit, got {said} in {name!r}; convert them to one, to pIC50 say, and "
                "leave that column out"
            )


# ---- what rdkit says of them -----------------------------------------------------------------------------------------
def rdkit(what: str = "Chem") -> Any:
    """A module of rdkit, quiet; or an InputError with the line that installs it."""
    import importlib

    try:
        logger = importlib.import_module("rdkit.RDLogger")
        found = importlib.import_module(f"rdkit.{what}")
    except ImportError:
        raise InputError("molecules expected rdkit, got none; install it: pip install 'innerloop[molecules]'") from None
    logger.DisableLog("rdApp.*")  # what it refuses is said by us, once and with its place
    return found


@functools.lru_cache(maxsize=1)
def _generator() -> Any:
    return rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(radius=RADIUS, fpSize=KINDS)


def parsed(smiles: str) -> Any:
    """The molecule, or the reason why rdkit refuses it, as a text."""
    chem = rdkit()
    if not smiles.strip():
        return "an empty text"
    found = chem.MolFromSmiles(smiles)
    if found is not None:
        return found
    rough = chem.MolFromSmiles(smiles, sanitize=False)
    if rough is None:
        return "no SMILES"
    try:
        chem.SanitizeMol(rough)
    except ValueError as error:
        return str(error).strip().rstrip(".")
    return "no molecule"


def read(found: Written) -> Molecules:
    """The molecules that rdkit reads; what it refuses is named in the notes and left out.

    Raises:
        InputError: it reads none of them, or is not installed.
    """
    with waiting(f"reading {len(found.smiles):,} molecules"):
        return _read(found)


def _read(found: Written) -> Molecules:
    chem, generator = rdkit(), _generator()
    known: dict[str, Any] = {}
    kept: list[int] = []
    refused: list[str] = []
    salts: list[int] = []
    for row, smiles in enumerate(found.smiles):
        text = "" if smiles is None else str(smiles).strip()
        if text not in known:
            molecule = parsed(text)
            if not isinstance(molecule, str):
                entries = sorted(generator.GetCountFingerprint(molecule).GetNonzeroElements().items())
                molecule = (chem.MolToSmiles(molecule), entries)
            known[text] = molecule
        if isinstance(known[text], str):
            refused.append(f"row {row + 1} {text[:40]!r} ({known[text]})")
            continue
        kept.append(row)
        if "." in known[text][0]:
            salts.append(row)
    total = len(found.smiles)
    if not kept:
        raise InputError(
            f"{found.where} expected SMILES that rdkit reads, got {total} that it refuses: {'; '.join(refused[:2])}; mend them"
        )
    notes = []
    if refused:
        more = f" and {len(refused) - _MOST_REFUSED} more" if len(refused) > _MOST_REFUSED else ""
        notes.append(
            f"{len(refused)} of {total} molecules are left out, which rdkit refuses: {'; '.join(refused[:_MOST_REFUSED])}{more}"
        )
    if salts:
        notes.append(
            f"{len(salts)} of {total} molecules have several parts (salts, mixtures), such as row {salts[0] + 1} "
            f"{str(found.smiles[salts[0]])[:40]!r}; they are taken whole"
        )
    texts = [str(found.smiles[row]).strip() for row in kept]
    entries = [known[text][1] for text in texts]
    start = np.cumsum([0, *map(len, entries)])
    index = np.array([i for own in entries for i, _ in own], dtype=np.int64)
    count = np.array([c for own in entries for _, c in own], dtype=np.float32)
    return Molecules(
        texts,
        [known[text][0] for text in texts],
        Counts(index, count, start, kinds=KINDS),
        kept,
        [found.names[row] for row in kept],
        tuple(notes),
    )


def without_repeats(
    canonical: Sequence[str], targets: Sequence[Any], tasks: Sequence[Any] | None = None, *, values: bool
) -> tuple[list[int], list[Any], list[str]]:
    """(which to keep, their targets, notes): each molecule once in its task.

    Of values the mean counts. Of class names that disagree none does: nobody knows which is right.
    """
    groups: dict[tuple[Any, str], list[int]] = {}
    for i, one in enumerate(canonical):
        groups.setdefault((None if tasks is None else tasks[i], one), []).append(i)
    kept, found, again, torn = [], [], 0, []
    for (_, one), rows in groups.items():
        again += len(rows) - 1
        own = [targets[i] for i in rows]
        if not values and len(set(own)) > 1:
            torn.append(one)
            continue
        kept.append(rows[0])
        found.append(float(np.mean(own)) if values else own[0])
    order = np.argsort(kept, kind="stable").tolist()
    notes = []
    if again:
        how = "the mean of their values counts" if values else "they count once"
        notes.append(f"{again} rows are molecules that their task has already (as rdkit writes them); {how}")
    if torn:
        notes.append(f"{len(torn)} molecules of several classes in one task are left out: {first_few(torn)}")
    return [kept[i] for i in order], [found[i] for i in order], notes


def tell(notes: Sequence[str], where: str) -> None:
    """A warning for each note."""
    for note in notes:
        warnings.warn(f"{where}: {note}", InnerloopWarning, stacklevel=3)


def active_of(names: Sequence[Any]) -> Any | None:
    """Of two class names the one that is looked for (active, 1, True, toxic, ...); None where that is not clear."""
    found = [name for name in names if str(name).strip().lower() in ACTIVE]
    return found[0] if len(names) == 2 and len(found) == 1 else None


def features_of(preprocessing: Mapping[str, Any], given: Any, *, quiet: bool = False) -> tuple[Molecules, Written]:
    """Molecules wherever they are, for a learner of molecules; what rdkit refuses is told of."""
    record = record_of(preprocessing)
    assert record is not None
    found = written(given, record.column)
    made = read(found)
    if not quiet:
        tell(made.notes, found.where)
    return made, found


# ---- pictures --------------------------------------------------------------------------------------------------------
def picture(smiles: str, width: int = 240, height: int = 160) -> np.ndarray:
    """The molecule's structure, (height, width, 3) bytes, on white.

    Raises:
        InputError: rdkit refuses it.
    """
    import io

    from PIL import Image

    molecule = parsed(smiles)
    if isinstance(molecule, str):
        raise InputError(f"expected a molecule that rdkit reads, got {smiles!r} ({molecule}); mend it")
    draw = rdkit("Chem.Draw.rdMolDraw2D")
    canvas = draw.MolDraw2DCairo(width, height)
    draw.PrepareAndDrawMolecule(canvas, molecule)
    canvas.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB"))
