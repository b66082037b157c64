"""The registry of problems: names that can be listed before torch is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from innerloop import tasks
from innerloop.core import TaskFamily

WITHOUT_TORCH = """
import sys
import innerloop.tasks, innerloop.data.locations, innerloop.data.downloads
assert {"sinusoid", "omniglot", "glyphs", "quadratics"} <= set(innerloop.tasks.TASKS)
assert {"sinusoid", "omniglot"} <= set(dir(innerloop.tasks))
assert "torch" not in sys.modules, "torch was imported"
"""


def test_names_are_known_without_torch():
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


def test_names_lead_to_functions():
    assert isinstance(tasks.sinusoid(), TaskFamily)
    assert tasks.quadratics(dim=2).train.input_shape == (2,)
    with pytest.raises(AttributeError):
        tasks.no_such_problem  # noqa: B018
