"""Made-up curves: of many kinds, in units of their support sets, and leading to learners of anybody's points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.cli.main import main
from innerloop.errors import InnerloopWarning

FAMILY = il.tasks.synthetic_curves()


def test_sides_are_in_units_of_the_support_set():
    batch = FAMILY.train.at(0, 0, 200)
    support, mask = batch.support, batch.support.mask
    assert mask.sum(1).min() == 3 and mask.sum(1).max() == 40 and batch.query.mask is None
    for x, y, own in zip(support.x, support.y, mask, strict=True):
        for value in (x[own], y[own]):
            assert value.mean().abs() < 1e-4 and (value.std(unbiased=False) - 1).abs() < 1e-4
        assert not x[~own].any() and not y[~own].any()
    assert batch.query.y.abs().max() == 8, "what lies far off is put there"
    few = [(mask.sum(1) < n).float().mean() for n in (6, 12)]
    assert 0.15 < few[0] < 0.4 and 0.4 < few[1] < 0.65, "few points as often as many"


def test_curves_can_be_told_by_their_points_and_are_of_many_kinds():
    """With 40 points and little noise the nearest point predicts most curves; some are steps."""
    batch = il.tasks.synthetic_curves(shots=40, noise=(0.005, 0.006)).train.at(0, 0, 200)
    inside = (batch.query.x.abs() < 1.2)[..., 0]
    nearest = (batch.query.x - batch.support.x.mT).abs().argmin(-1)
    found = batch.support.y.gather(1, nearest[..., None])[..., 0]
    errors = torch.stack(
        [((f - y) ** 2)[i].mean() for f, y, i in zip(found, batch.query.y[..., 0], inside, strict=True)]
    )
    assert errors.median() < 0.1 < errors.quantile(0.95), "smooth ones, and ones that 40 points do not show"
    y = batch.support.y[..., 0].sort(1).values
    gaps = (y[:, 1:] - y[:, :-1]).sort(1, descending=True).values
    assert ((gaps[:, :4].sum(1) / gaps.sum(1)) > 0.8).float().mean() > 0.05, "steps: a few gaps between heights are all"
    line = (batch.support.x * batch.support.y).mean((1, 2)).abs()
    assert (line > 0.95).float().mean() > 0.05 and (line < 0.5).float().mean() > 0.2, "trends, and others"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"shots": 0}, "shots expected at least 1"), ({"most": 2}, "most expected at least 3"), ({"noise": (0.0, 1.0)}, "above 0")],
)  # fmt: skip
def test_curves_that_cannot_be(options, message):
    with pytest.raises(il.InputError, match=message):
        il.tasks.synthetic_curves(**options)


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """Not trained: two steps, so that it is a run that takes tables."""
    torch.manual_seed(0)
    made = il.gp_mixture(il.models.mlp(1, None, hidden=()), outputs=1, processes=5)
    run = tmp_path_factory.mktemp("runs") / "curves"
    il.fit(made, FAMILY, steps=2, num_tasks=2, validate_every=0, quiet=True, out=run, strategy="vmapped")
    return il.load(run)


def test_any_units_and_row_numbers_for_x(learner):
    """A table of other units gives the same curve in these units; x = 0, 1, 2, ... names no rows here, and is not cut."""
    x = np.arange(20.0)
    y = np.sin(x / 3)
    first = learner.adapt({"x": x, "y": y}, target="y")
    other = learner.adapt({"day": 1_000 + 50 * x, "euro": 1e6 * y - 7}, target="euro")
    asked = np.array([0.5, 10.2, 40.0, 400.0])
    for method in ("predict", "predict_std"):
        a, b = getattr(first, method)({"x": asked}), getattr(other, method)({"day": 1_000 + 50 * asked})
        assert np.allclose(b, 1e6 * a - (7 if method == "predict" else 0), rtol=1e-3)
    assert first.predict_std({"x": [400.0]}) > 2 * first.predict_std({"x": [10.2]})
    assert not np.allclose(first.predict({"x": [60.0]}), first.predict({"x": [400.0]}))


def test_other_columns_texts_and_gaps_are_one_line(learner):
    x, y = np.linspace(0, 1, 8), np.linspace(0, 1, 8)
    with pytest.raises(il.InputError, match=r"expected one column of numbers beside the target.* got 2: 'x', 'z'"):
        learner.adapt({"x": x, "z": x**2, "y": y}, target="y")
    for bad in (list("ababcbac"), [*x[:-1], None]):
        with pytest.raises(il.InputError, match=r"'x' expected a number in every row"):
            learner.adapt({"x": bad, "y": y}, target="y")


def test_dates_are_days(learner):
    days = [f"2024-01-{day:02d}" for day in range(1, 21)]
    with pytest.warns(InnerloopWarning, match="'day' is read as dates"):
        fitted = learner.adapt({"day": days, "y": np.arange(20.0)}, target="y")
    assert fitted.support.x.shape == (20, 1)
    found = fitted.predict({"day": ["2024-01-05", "2024-01-15"]})[:, 0]
    assert found[0] < found[1]


def test_the_command_line_writes_the_spread(learner, tmp_path):
    rows = "\n".join(["x,y", *(f"{i},{i * i}" for i in range(12))])
    (tmp_path / "points.csv").write_text(rows)
    (tmp_path / "new.csv").write_text("x\n3.5\n30\n")
    learner.adapt(tmp_path / "points.csv", target="y").save(tmp_path / "task.il")
    assert (
        main(["predict", str(tmp_path / "task.il"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "p.csv")]) == 0
    )
    header, first, second = (line.split(",") for line in (tmp_path / "p.csv").read_text().splitlines())
    assert header == ["row", "prediction", "std"]
    assert 0 < float(first[2]) < float(second[2])
