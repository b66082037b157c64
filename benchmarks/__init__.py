"""The maintainers' programs, beside the package and not in its wheel; they run from the root of a clone."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
