"""How many inputs a fuzzed test gets: a few in the suite, the same each time; in `make fuzz` as many as INNERLOOP_FUZZ says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

COUNT = int(os.environ.get("INNERLOOP_FUZZ", "0"))


def fuzzed(few: int) -> settings:
    """Settings of a test with ``few`` inputs in the suite; `make fuzz` finds it by the word "fuzzed" in its name."""
    return settings(
        max_examples=COUNT or few, deadline=None, derandomize=not COUNT, database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )  # fmt: skip
