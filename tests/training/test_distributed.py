"""Two processes of torchrun do what one does: weights, validation, early stop, Ctrl-C, errors."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import launching
import pytest
import several_processes
import torch
from contract_table import declared

import innerloop as il
from innerloop.methods import ALGORITHMS
from innerloop.storage import load_tensors
from innerloop.training.distributed import Group, Part, flattened, unflattened
from innerloop.training.shared_step import _with_noise

pytestmark = pytest.mark.slow  # processes and trainings of their own

CONTRACT = Path(__file__).parents[1] / "contract"
Found = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What one process computes, and what process 0 and process 1 of two do; computed once, however many run the tests."""
    folder, run = tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_TESTRUNUID")
    folder = folder / "processes" if run is None else folder.parent / f"processes-{run}"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker of pytest computes it
        deadline = time.monotonic() + 200
        while not (folder / "done").exists():
            assert time.monotonic() < deadline
            time.sleep(0.2)
    else:
        for size in (1, 2):
            process = launching.start(size, several_processes.__file__, folder, CONTRACT)
            code, _, errors = launching.end(process)
            assert code == 0, errors
        (folder / "done").touch()
    one, first, second = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1"))
    return one, first, second


def assert_same(one: Any, other: Any, tolerance: float, name: str = "") -> None:
    """Equal to the last bit where the tolerance is 0."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one:
            assert_same(one[key], other[key], tolerance, f"{name} {key}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape, name
        assert torch.equal(one, other) if not tolerance else torch.allclose(one, other, tolerance, tolerance), name
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=tolerance, abs=0), name
    else:
        assert one == other, name


@pytest.mark.parametrize("case", ["plain", "batch_norm"])
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_two_processes_end_with_the_weights_of_one(found, name, case):
    one, first, second = (values[f"{name} {case}"] for values in found)
    assert_same(first, second, 0.0)
    # Where a gradient is zero but for rounding (a bias before batch norm, the last one of an embedding that only differences are
    # taken of), Adam makes 1e-8 of it.
    assert_same(one, first, 1e-7 if case == "batch_norm" or declared(name).shift_free else 1e-11)
    assert first["steps"] == first["outer_step"] == several_processes.METHOD_STEPS
    assert {value.dtype for value in one["state"].values()} == {torch.float64}


def test_training_has_moved_the_weights(found):
    """Or the comparison above would compare beginnings."""
    before = several_processes.mlp(seed=1).state_dict()
    after = found[1]["other_weights_on_each"]["state"]
    assert all(float((after[name] - value).abs().max()) > 1e-3 for name, value in before.items())


@pytest.mark.parametrize(
    "case",
    [
        "fewer_tasks_than_processes",
        "other_weights_on_each",
        "random_model",
        "dropout_without_keys",
        "several_passes",
        "validated",
    ],
)
def test_what_could_differ_between_processes(found, case):
    one, first, second = (values[case] for values in found)
    assert_same(first, second, 0.0)
    assert_same(one, first, 1e-11)


def test_all_take_the_same_decisions(found):
    for values in found:
        result = values["validated"]
        assert result["stopped"] == "early" and result["best_step"] < result["steps"] < several_processes.STEPS


@pytest.mark.parametrize("case", ["weighted", "unweighted", "one without tasks"])
def test_ones_own_loop(found, case):
    one, first, second = (values[case] for values in found)
    assert len(one) >= 4 and max(float(value.abs().max()) for value in one.values()) > 0.01
    assert_same(first, second, 0.0)
    assert_same(one, first, 1e-12)


def test_divergence_on_one_is_raised_on_all_and_leaves_all_as_they_were(found):
    one, first, second = (values["diverging_on_the_last"] for values in found)
    assert first["said"] == second["said"] == ("DivergedError", "the outer loss is inf; no checkpoint was written")
    assert first["outer_step"] == second["outer_step"] == 3
    assert_same(first, second, 0.0)
    assert_same(one, first, 1e-11)


def test_any_error_on_one_ends_all(found):
    _, first, second = (values["failing_to_draw_on_the_last"]["said"] for values in found)
    assert first == ("InnerloopError", "process 1 of this run failed with OSError: the disk is gone")
    assert second == ("OSError", "the disk is gone")


def test_ctrl_c_on_one_stops_all_at_the_same_step_and_resuming_goes_on(found):
    for values in found:
        interrupted = values["interrupted_on_the_last"]
        assert interrupted["first"]["stopped"] == "interrupted"
        assert interrupted["first"]["steps"] == interrupted["first"]["outer_step"] == 4
        assert interrupted["again"]["steps"] == several_processes.STEPS
    one, first, second = (values["interrupted_on_the_last"] for values in found)
    assert_same(first, second, 0.0)
    assert_same(one, first, 1e-11)


def test_a_directory_that_is_in_use_is_refused_on_all(found):
    _, first, second = (values["occupied"]["said"] for values in found)
    assert first == second and first[0] == "InputError" and "is not empty; resume that run" in first[1]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "other_settings",
            "the same training.steps on every process of the run, got 20 on process 0 and 21 on process 1",
        ),
        ("other_model", "the same weights.model.bias on every process of the run, got"),
    ],
)
def test_processes_that_were_not_started_alike(found, case, message):
    _, first, second = (values[case]["said"] for values in found)
    assert first == second and first[0] == "ConfigError" and message in first[1]


def test_the_process_group_is_taken_down_again(found):
    assert [values["left"] for values in found] == [False] * 3


@pytest.mark.parametrize("total", [1, 2, 5, 8, 9])
def test_parts_cover_all_tasks_once(total):
    parts = [Group(rank, 4).part(total) for rank in range(4)]
    assert [i for part in parts for i in range(part.first, part.first + part.count)] == list(range(total))
    assert max(p.count for p in parts) - min(p.count for p in parts) <= 1
    assert Group().part(total) == Part(0, total, total)


def test_bare_tasks_of_any_data_get_the_keys_of_one_process():
    whole = _with_noise(il.Task(support={"rows": torch.zeros(5, 2)}, query=torch.ones(5, 3)), 7, Part(0, 5, 5))
    part = _with_noise(il.Task(support={"rows": torch.zeros(2, 2)}, query=torch.ones(2, 3)), 7, Part(3, 2, 5))
    assert len(set(whole.noise.tolist())) == 5 and torch.equal(part.noise, whole.noise[3:])


def test_flat_and_back_keeps_precision():
    half, double = torch.tensor([[1.5, 2.5]], dtype=torch.bfloat16), torch.tensor([1 / 3], dtype=torch.float64)
    flat = flattened([half], [1 / 3])
    assert flat.dtype == torch.float32 and float(flat[-1]) == pytest.approx(1 / 3)
    flat = flattened([half, double], [1 / 3])
    assert flat.dtype == torch.float64 and float(flat[-1]) == 1 / 3
    assert_same(dict(enumerate(unflattened(flat, [half, double]))), {0: half.double(), 1: double}, 1e-15)


def test_weights_of_ones_own_loop_are_checked():
    learner = several_processes.mlp()
    for wrong in (-1, 2.0, True):
        with pytest.raises(il.ConfigError, match="num_tasks expected an integer of at least 0"):
            il.sync_gradients(learner, wrong)


class Restarted:
    """A run that torchrun began here and whose processes it starts again."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.environment = folder, monkeypatch

    def fit(self, restarts: int, launch: str = "a", **settings: Any) -> il.MetaLearner:
        self.environment.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        self.environment.setenv("TORCHELASTIC_RUN_ID", launch)
        learner = several_processes.mlp(seed=1 + restarts)
        options = {"steps": 6, "num_tasks": 2, "validate_every": 0, "checkpoint_every": 2, "quiet": True, **settings}
        il.fit(learner, several_processes.sine(), out=self.folder, **options)
        return learner

    def until(self, step: int) -> None:
        """Begin, and fail at this step."""
        with pytest.MonkeyPatch.context() as patch:
            backward = il.MetaLearner.backward

            def failing(learner, batch, **options):
                if options["outer_step"] == step:
                    raise OSError("killed")
                return backward(learner, batch, **options)

            patch.setattr(il.MetaLearner, "backward", failing)
            with pytest.raises(OSError, match="killed"):
                self.fit(0)


@pytest.fixture
def restarted(tmp_path, monkeypatch) -> Restarted:
    return Restarted(tmp_path / "run", monkeypatch)


def test_a_restarted_run_goes_on_from_its_checkpoint(restarted):
    whole = Restarted(restarted.folder.parent / "whole", restarted.environment).fit(0)
    restarted.until(5)
    again = restarted.fit(1, force=True)  # a flag of the first start must not wipe what it made
    assert_same(dict(whole.state_dict()), dict(again.state_dict()), 0.0)


def test_a_restarted_run_without_a_checkpoint_begins_afresh(restarted):
    restarted.until(1)
    assert not (restarted.folder / "checkpoint.safetensors").exists()
    restarted.fit(1)
    _, header = load_tensors(restarted.folder / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    assert header["step"] == 6


@pytest.mark.parametrize("other", [{"launch": "b"}, {"outer_lr": 0.5}, {"restarts": 0}])
def test_only_the_launch_that_began_a_run_goes_on_with_it(restarted, other):
    restarted.until(5)
    with pytest.raises(il.InputError, match="is not empty"):
        restarted.fit(**{"restarts": 1, **other})
    restarted.fit(**{"restarts": 1, **other}, force=True)
    lines = (restarted.folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6


def test_a_run_that_had_stopped_early_stays_stopped(tmp_path):
    settings = {"validate_every": 1, "patience": 1, "outer_lr": 30.0, "valid_tasks": 3, "num_tasks": 2, "quiet": True}
    learner, family = several_processes.mlp(), several_processes.sine()
    first = il.fit(learner, family, out=tmp_path, steps=50, **settings)
    again = il.fit(several_processes.mlp(seed=2), family, out=tmp_path, steps=50, resume=True, **settings)
    assert first.stopped == again.stopped == "early"
    assert (first.steps, first.best_step, first.best_value) == (again.steps, again.best_step, again.best_value)
