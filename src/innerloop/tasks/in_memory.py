"""How the names of problems begin that were made from what a program holds, so that no path or name makes them again."""

from __future__ import annotations

IN_MEMORY = "arrays:"
