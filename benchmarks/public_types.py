"""`python -m benchmarks.public_types`: which share of the public names say their type, with a floor; `make types-public`.

What is missing is a base class: scikit-learn has no types, so the estimators of `innerloop.estimators` cannot be known in full.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import ROOT

FLOOR = 0.9994  # the share that was reached; one more name without a type falls below it


def measured() -> dict[str, Any]:
    """What pyright finds, its ``typeCompleteness``; types of other packages do not count."""
    # Pyright asks the first `python` of the path where packages are: this one has torch.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [sys.executable, "-m", "pyright", "--verifytypes", "innerloop", "--ignoreexternal", "--outputjson"]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        raise SystemExit(f"expected an answer of pyright, got: {(done.stderr or done.stdout).strip()[-500:]}") from None


def judged(found: Mapping[str, Any], floor: float = FLOOR) -> tuple[bool, list[str]]:
    """Whether the share is as high as it was, and what to say of it: below the floor, each name that lacks a type."""
    share, symbols = found["completenessScore"], [s for s in found["symbols"] if s["isExported"]]
    unknown = [s for s in symbols if not s["isTypeKnown"] or s["isTypeAmbiguous"]]
    says = [f"{share:.3%} of {len(symbols)} public names say their type in full; at least {floor:.2%} have to"]
    if share >= floor and symbols:
        return True, says
    for symbol in unknown:
        why = [d["message"].split("\n")[0] for d in symbol["diagnostics"]]
        says.append(f"  {symbol['name']}: {'; '.join(dict.fromkeys(why)) or 'its type is not known'}")
    return False, says


def main() -> int:
    """Measure, print, and return 1 below the floor."""
    good, says = judged(measured())
    print("\n".join(says), file=sys.stdout if good else sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
