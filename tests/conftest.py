"""What all tests share: one thread, shape and type checks at run time, and our own warnings as errors."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator

# The hook has to be there before anything of innerloop or its benchmarks is imported; what is imported earlier is not checked.
from jaxtyping import install_import_hook

# What tests expect to the last bit was computed on the CPU: device="auto" sees no GPU unless the environment shows it one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

if os.environ.get("INNERLOOP_TYPECHECK", "1") != "0":
    install_import_hook(["innerloop", "benchmarks"], "runtime_types.check")

import pytest
import torch

# Two threads on a busy two-core machine are slower than one, and sums in another order give other last bits.
torch.set_num_threads(1)
_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def own_warnings_are_errors() -> Iterator[None]:
    """A test that makes innerloop warn has to expect it (pytest.warns). Other libraries may warn as they like."""
    from innerloop.errors import InnerloopWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", InnerloopWarning)
        warnings.filterwarnings("ignore", "innerloop was tried with torch", InnerloopWarning)  # by running these tests
        yield


@pytest.fixture(autouse=True, scope="session")
def own_plans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests measure is not kept where the user's plans are."""
    from innerloop.engine import plan

    folder, before = tmp_path_factory.mktemp("plans"), plan._file
    plan._file = lambda: folder / "plans.json"
    yield
    plan._file = before


@pytest.fixture(autouse=True)
def compiled_for_one_test_alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test compiles, or says that it does, no other test finds, and no user."""
    from innerloop.engine import kept

    folder = tmp_path_factory.getbasetemp() / f"compiled-{next(_NUMBERS)}"
    monkeypatch.setattr(kept, "_folder", lambda: folder)


@pytest.fixture(autouse=True, scope="session")
def a_busy_machine_makes_no_lines() -> Iterator[None]:
    """What takes long is told in tests of that alone."""
    from innerloop import waiting

    before, waiting.AFTER = waiting.AFTER, 1e6
    yield
    waiting.AFTER = before


@pytest.fixture(autouse=True, scope="session")
def one_process_for_all_tests_gives_memory_back() -> Iterator[None]:
    """A command keeps what it frees until its process ends; here that would be the end of all tests."""
    from innerloop.cli import main

    before, main.keep_freed_memory = main.keep_freed_memory, lambda: False
    yield
    main.keep_freed_memory = before


@pytest.fixture
def seeded() -> torch.Generator:
    """A generator for test data, and torch's global one for initial weights, at a fixed seed."""
    torch.manual_seed(0)
    return torch.Generator().manual_seed(0)


@pytest.fixture
def double() -> Iterator[None]:
    """float64 as torch's default type, for comparisons to the last digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
