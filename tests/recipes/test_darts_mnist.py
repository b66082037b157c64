"""The race of DARTS and random search: equal seconds, digits of their own for each part, rows."""

from __future__ import annotations

import itertools

import pytest
import torch

from innerloop.recipes import darts_mnist as race


@pytest.fixture
def small(monkeypatch):
    """Random pictures, and searches of a few steps."""

    def digits(seed: int) -> race.Digits:
        generator = torch.Generator().manual_seed(seed)
        x, y = torch.rand(80, 1, 8, 8, generator=generator), torch.randint(10, (80,), generator=generator)
        return race.Digits((x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:]))

    monkeypatch.setattr(race, "digits", digits)
    changed = {"SEEDS": 2, "_TRAIN": 20, "_VALID": 20, "_STEPS": 2, "_WARMUP": 1, "_TIMED": 1, "_FINAL": 1}
    for name, value in {**changed, "_SPACE": {"channels": 2, "cells": 1, "nodes": 2}}.items():
        monkeypatch.setattr(race, name, value)
    monkeypatch.setattr(race, "_TRAINING", {**race._TRAINING, "steps": 2})
    clock = itertools.count()
    monkeypatch.setattr(race.time, "process_time", lambda: float(next(clock)))  # a look at the clock is a second
    return digits


def test_rows(small):
    rows = {row["metric"]: row for row in race.rows()}
    names = ["darts", "darts, first order", "random search", "random search, shared weights", "one random cell"]
    for name in names:
        assert (
            0 <= rows[f"test accuracy %, {name}"]["value"] <= 100 and rows[f"test accuracy %, {name}"]["num_tasks"] == 2
        )
        assert 0 <= rows[f"skips of 5 edges, {name}"]["value"] <= 5
        if name != "darts":
            less = rows[f"test accuracy %, darts less {name}, seed by seed"]["value"]
            both = [rows[f"test accuracy %, {one}"]["value"] for one in ("darts", name)]
            assert less == pytest.approx(both[0] - both[1], abs=2e-3)
    assert rows["processor seconds of the search, random search"]["value"] >= 1


def test_random_search_keeps_the_best_on_validation_digits_and_stops_in_time(small, monkeypatch):
    judged = []
    monkeypatch.setattr(race, "accuracy", lambda model, data: judged.append(data) or float(len(judged) == 2))
    data = small(0)
    found = race.random_search(data, 0, 3.5)
    assert found.tried == len(judged) == 4
    assert all(x is data.valid[0] for x, _ in judged)
    second = race.random_search(data, 0, 0.0)
    assert second.tried == 1 and second.architecture != found.architecture


def test_shared_weights_run_one_cell_at_a_time(small):
    found = race.shared_weights(small(0), 0, 5.0)
    assert found.tried >= 1 and set(found.architecture.operations) == {"0-1", "0-2", "1-2"}


def test_the_digits_of_a_seed_are_apart(monkeypatch):
    from innerloop.core import Examples
    from innerloop.data import mnist_files
    from innerloop.data.class_images import ClassImages

    every = Examples(torch.arange(2000.0).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8), torch.arange(2000) % 10)
    test = ClassImages(torch.zeros(10, 3, 28, 28, dtype=torch.uint8), tuple("0123456789"), ("digits",) * 10)
    monkeypatch.setattr(mnist_files, "mnist_training_examples", lambda size: every)
    monkeypatch.setattr(mnist_files, "load_mnist", lambda: test)
    first, other = race.digits(0), race.digits(1)
    train, valid = ({int(v) for v in part[0][:, 0, 0, 0]} for part in (first.train, first.valid))
    assert len(train) == len(valid) == 600 and not train & valid
    assert train != {int(v) for v in other.train[0][:, 0, 0, 0]}
    assert first.test[0].shape == (30, 1, 8, 8) and first.test[1].tolist() == sorted(list(range(10)) * 3)
