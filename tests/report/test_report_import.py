"""Asking for the package or for a text table does not wait for torch or matplotlib."""

from __future__ import annotations

import subprocess
import sys


def test_package_and_text_table_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, innerloop.report, innerloop.report.page, innerloop.report.text; "
        "print([m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
