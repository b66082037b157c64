"""An error in a user's model is found by its traceback."""

from __future__ import annotations

import traceback

import pytest
import torch

import innerloop as il


class Breaks(torch.nn.Module):
    """Works for so many calls; what the module itself holds is put back after each."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
        LEFT[:] = [None] * calls

    def forward(self, x):
        if not LEFT:
            raise ArithmeticError("here")
        LEFT.pop()
        return self.line(x)


LEFT: list[None] = []


def frames(strategy: str) -> list[str]:
    learner = il.maml(Breaks(100), inner_steps=2)
    learner.strategy = strategy
    with pytest.raises(ArithmeticError, match="here") as caught:
        il.fit(learner, il.tasks.sinusoid(), steps=60, quiet=True, validate_every=0)
    found = traceback.extract_tb(caught.value.__traceback__)[1:]  # without this test
    return [frame.name for frame in found if "jaxtyping" not in frame.filename and "beartype" not in frame.filename]


@pytest.mark.parametrize("strategy", ["looped", "vmapped"])
def test_few_frames_lie_between_fit_and_the_model(strategy):
    found = frames(strategy)
    assert found[0] == "fit" and found[-1] == "forward"
    assert len(found) - 2 <= 15, found


def test_all_of_them_are_there_when_asked_for(monkeypatch):
    short = frames("vmapped")
    monkeypatch.setenv("INNERLOOP_TRACEBACK", "full")
    assert len(frames("vmapped")) > len(short) + 15
