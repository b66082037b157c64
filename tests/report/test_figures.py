"""Figures draw the data they are given: looked up in their axes, not guessed from pixels."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from fake_learner import LabelLearner, LineLearner
from PIL import Image

import innerloop as il
from innerloop import keys as random_keys
from innerloop.core import Examples, Task, TaskDistribution
from innerloop.report import curves, image_tasks, sine_plots, style
from innerloop.report.adaptation import (
    AdaptationCurve,
    adaptation_figure,
    adaptation_picture,
    adaptation_table,
)
from innerloop.tasks.curves.sinusoid import sinusoid


def _lines(axes: object) -> list[np.ndarray]:
    return [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]  # type: ignore[attr-defined]


def _has(axes: object, values: object) -> bool:
    wanted = np.asarray(values, dtype=float)
    return any(line.shape == wanted.shape and np.allclose(line, wanted, equal_nan=True) for line in _lines(axes))


def _size(figure: object) -> tuple[int, int]:
    with Image.open(io.BytesIO(style.png(figure))) as image:  # type: ignore[arg-type]
        assert image.format == "PNG"
        return image.size


def test_adaptation_draws_every_curve_with_its_band() -> None:
    given = {
        "maml": AdaptationCurve((3.0, 0.6, 0.4), (0.3, 0.1, 0.05), 1),
        "scratch": AdaptationCurve((3.2, 3.1, 3.0), (0.2, 0.2, 0.2), None),
    }
    figure = adaptation_figure(given, "mse")
    axes = figure.axes[0]
    for curve in given.values():
        assert _has(axes, curve.mean)
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(band[:, 1].max(), 3.3) and np.isclose(band[:, 1].min(), 0.35)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "maml",
        "scratch",
        "inner steps in training",
    ]
    marked = axes.get_lines()[-1]
    assert list(marked.get_xdata()) == [1, 1]
    assert axes.get_yscale() == "linear" and axes.get_ylabel() == "mean squared error"
    width, height = _size(figure)
    assert 800 < width < 1200 and 500 < height < 900


def test_adaptation_takes_a_log_axis_for_decades_and_leaves_out_what_is_not_finite() -> None:
    given = {
        "a": AdaptationCurve((3.0, 0.1, 0.05), (0.1, 0.2, 0.1), 1),
        "b": AdaptationCurve((3.0, 50.0, math.inf), (1.0, 50.0, math.nan), 1),
    }
    picture = adaptation_picture(given, "mse")
    axes = picture.figure.axes[0]
    assert axes.get_yscale() == "log"
    assert _has(axes, [3.0, 50.0, math.nan])
    assert "b: values that are not finite are left out" in picture.caption
    low = min(path.vertices[:, 1].min() for path in (c.get_paths()[0] for c in axes.collections))
    assert low > 0


def test_accuracy_is_shown_in_per_cent() -> None:
    figure = adaptation_figure({"a": AdaptationCurve((0.2, 0.9), (0.01, 0.01), 1)}, "accuracy")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "accuracy (%)"
    assert axes.yaxis.get_major_formatter()(0.5, 0).startswith("50")


def test_adaptation_table_picks_telling_steps() -> None:
    curve = AdaptationCurve(tuple(1.0 - 0.1 * i for i in range(11)), (0.012,) * 11, 5)
    table = adaptation_table({"a": curve, "b": AdaptationCurve((1.0,), (0.1,))}, "mse")
    assert table.header == ("", "before adapting", "1 step", "5 steps", "10 steps")
    assert table.rows[0] == ("a", "1.000 ± 0.012", "0.900 ± 0.012", "0.500 ± 0.012", "0.000 ± 0.012")
    assert table.rows[1] == ("b", "1.00 ± 0.10", "–", "–", "–")


def test_training_draws_loss_running_mean_validation_and_best() -> None:
    past = curves.history(
        [{"step": s, "split": "train", "loss": 5.0 - s / 100, "seconds": s / 10} for s in range(10, 410, 10)]
        + [{"step": s, "split": "valid", "mse": v, "ci95": 0.1} for s, v in ((100, 3.0), (200, 1.0), (300, 2.0))]
    )
    assert past.best() == (200, 1.0) and past.seconds == 40.0
    figure = curves.training_figure({"maml": past})
    top, low = figure.axes
    assert _has(top, past.losses)
    assert _has(top, curves.smooth(np.asarray(past.losses), 2))
    assert _has(low, [3.0, 1.0, 2.0]) and _has(low, [1.0])
    assert low.get_ylabel() == "validation\nmean squared error" and low.get_xlabel() == "outer steps"
    width, height = _size(figure)
    assert 800 < width < 1200 and 700 < height < 1200


def test_best_validation_is_the_highest_accuracy() -> None:
    past = curves.history([{"step": s, "split": "valid", "accuracy": s / 10} for s in (1, 5, 3)])
    assert past.metric == "accuracy" and past.best() == (5, 0.5)


def test_training_without_validation() -> None:
    alone = curves.history([{"step": 1, "split": "train", "loss": 2.0}])
    assert len(curves.training_figure({"a": alone}).axes) == 1


def test_running_mean() -> None:
    values = np.asarray([1.0, 2.0, 9.0, np.nan, 5.0])
    assert np.allclose(curves.smooth(values, 3), [1.0, 4.0, 5.5, 7.0, 5.0])
    assert np.allclose(curves.smooth(values[:3], 1), values[:3])


def test_sine_figure_draws_truth_average_support_and_every_prediction() -> None:
    x = np.linspace(-5, 5, 50)
    truth, average = np.sin(x), sine_plots.mean_sine(x)
    support = (np.asarray([0.0, 1.0]), np.asarray([0.0, 0.8]))
    fits = {
        "maml": {0: 0 * x, 1: truth / 2, 5: truth},
        "transfer": {0: average, 1: average + 0.1, 5: average + 0.2},
    }
    figure = sine_plots.sine_figure(x, truth, support, fits, average)
    assert len(figure.axes) == 2
    for axes, (label, curves_of) in zip(figure.axes, fits.items(), strict=True):
        assert axes.get_title(loc="left") == label
        for curve in [truth, average, support[1], *curves_of.values()]:
            assert _has(axes, curve)
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[:4] == ["true curve", "support points", "average of all tasks", "before adapting"]
    assert shown[4:] == ["after 1 step", "after 5 steps"]
    width, height = _size(figure)
    assert 1300 < width < 1700 and 500 < height < 900


def test_a_diverged_prediction_does_not_squash_the_rest() -> None:
    x = np.linspace(-1, 1, 20)
    figure = sine_plots.sine_figure(x, x, (x[:2], x[:2]), {"a": {0: x, 1: 1e9 * x}})
    low, high = figure.axes[0].get_ylim()
    assert -10 < low < -1 and 1 < high < 10


def test_average_of_all_sines_is_the_formula() -> None:
    x = np.linspace(-5, 5, 40)
    finn = sine_plots.mean_sine(x)
    assert np.allclose(finn, -2.55 * 2 / np.pi * np.cos(x))  # the integral of sin(x - p) over [0, pi] is -2 cos x
    assert np.allclose(sine_plots.average_curve(sinusoid().train, x, num_tasks=20000), finn, atol=0.08)
    whole = sine_plots.average_curve(sinusoid(preset="grid").train, x, num_tasks=20000)
    assert np.abs(whole).max() < 0.08  # phases all around the circle cancel out


class _TargetsOnly(TaskDistribution):
    """The tasks of another distribution, whose true curves nobody can ask for."""

    split = "train"

    def __init__(self, source: TaskDistribution) -> None:
        self.source = source

    def from_keys(self, keys: torch.Tensor) -> Task:
        return self.source.from_keys(keys)

    def default_model(self) -> torch.nn.Module:
        return self.source.default_model()


def test_average_from_targets_where_no_curve_is_known() -> None:
    x = np.linspace(-4.5, 4.5, 30)
    known = _TargetsOnly(sinusoid().train)
    assert np.allclose(sine_plots.average_curve(known, x, num_tasks=20000), sine_plots.mean_sine(x), atol=0.15)
    assert sine_plots.task_picture({"a": LineLearner()}, known).figure.axes


def test_predicted_curves_are_the_learners_own() -> None:
    task = sinusoid(shots=3).test.at(0, 0, 1)
    x = np.linspace(-2, 2, 7)
    found = sine_plots.predicted_curves({"line": LineLearner(2.0)}, task, x, (0, 1, 4))
    assert set(found["line"]) == {0, 1, 4}
    assert np.allclose(found["line"][4], 2 * x + 4, atol=1e-6)


def test_task_picture_shows_the_true_curve_through_the_support_points() -> None:
    distribution = sinusoid(shots=4).test
    picture = sine_plots.task_picture({"a": LineLearner(), "b": LineLearner(-1)}, distribution, steps=(0, 2), index=3)
    truth, *_, dots = picture.figure.axes[0].get_lines()
    x, y = np.asarray(dots.get_xdata()), np.asarray(dots.get_ydata())
    assert len(x) == 4
    assert np.allclose(np.interp(x, truth.get_xdata(), truth.get_ydata()), y, atol=0.02)
    expected = distribution.at(0, 0, 4).support.y[3, :, 0].numpy()
    assert np.allclose(y, expected)
    assert picture.wide and "average of all tasks" in picture.caption


def _images(labels: list[int]) -> torch.Tensor:
    return torch.as_tensor(labels, dtype=torch.float32).reshape(1, -1, 1, 1, 1).expand(1, len(labels), 1, 8, 8)


def test_image_tasks_mark_right_and_wrong_by_sign_and_colour() -> None:
    task = Task(
        support=Examples(x=_images([2, 0, 1]), y=torch.tensor([[2, 0, 1]])),
        query=Examples(x=_images([0, 1, 2, 2]), y=torch.tensor([[0, 1, 2, 1]])),
    )
    found = image_tasks.predicted_images({"good": LabelLearner(3), "bad": LabelLearner(3, 1)}, task)
    assert len(found) == 1
    only = found[0]
    assert list(only.support_labels) == ["0", "1", "2"] and float(only.support_images[1].mean()) == 1.0
    assert list(only.predictions["good"]) == ["0", "1", "2", "2"]
    assert list(only.predictions["bad"]) == ["1", "2", "0", "0"]
    figure = image_tasks.image_figure(only)
    told = [axes.get_xlabel() for axes in figure.axes]
    assert told[:3] == ["0", "1", "2"]
    assert told[3:7] == ["0 ✓", "1 ✓", "2 ✓", "2 ✗\n(is 1)"]
    assert told[7] == "1 ✗\n(is 0)"
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes[3:7]]
    assert frames[0] == frames[2] != frames[3]
    assert any("3 of 4 right" in text.get_text() for text in figure.texts)
    width, height = _size(figure)
    assert 700 < width < 1700 and 600 < height < 900


def test_image_tasks_show_at_most_so_many_queries() -> None:
    labels = [i % 3 for i in range(30)]
    task = Task(
        support=Examples(x=_images([0, 1, 2]), y=torch.tensor([[0, 1, 2]])),
        query=Examples(x=_images(labels), y=torch.tensor([labels])),
    )
    only = image_tasks.predicted_images({"a": LabelLearner(3)}, task, queries=6)[0]
    assert len(only.query_labels) == 6 and only.query_labels == list(only.predictions["a"])
    assert only.query_labels == ["0", "0", "0", "2", "2", "2"]  # spread over all thirty


def test_padding_is_not_shown() -> None:
    task = Task(
        support=Examples(x=_images([0, 1]), y=torch.tensor([[0, 1]])),
        query=Examples(x=_images([0, 1, 0]), y=torch.tensor([[0, 1, 0]]), mask=torch.tensor([[True, True, False]])),
    )
    assert len(image_tasks.predicted_images({"a": LabelLearner(2)}, task)[0].query_labels) == 2


def test_labels_of_the_user_are_drawn_as_they_are() -> None:
    curve = AdaptationCurve((1.0, 0.5), (), 1)
    figure = adaptation_figure({"_hidden": curve, r"$\frac{$": curve}, "mse")
    assert len(figure.legends[0].get_texts()) == 3
    style.png(figure)  # an unfinished formula would raise here


def test_styles_stay_with_their_label() -> None:
    looks = style.assign(["a", "b", "c"])
    assert style.pick(looks, ["c", "new"])["c"] == looks["c"]
    assert style.pick(looks, ["c", "new"])["new"] not in looks.values()
    assert len({look.colour for look in style.assign(map(str, range(8))).values()}) == 8


def test_a_band_of_two_standard_deviations_and_the_exact_posterior():
    """Padding is not drawn, the band is what the learner predicts, and the exact posterior is the problem's own."""
    learner = il.cnp(il.models.mlp(1, None, hidden=()), outputs=1, width=8)
    tasks = il.tasks.gaussian_process().test
    picture = sine_plots.task_picture({"a learner": learner}, tasks, steps=(0, 1), index=3, points=30)
    panel = picture.figure.axes[0]
    task = tasks.at(0, 0, 4)
    points = next(line for line in panel.lines if line.get_linestyle() == "None")
    count = int(task.support.mask[3].sum())
    assert len(points.get_xdata()) == count < task.support.x.shape[1]
    rows = task.support.mask[3]
    fitted = learner.adapt(task.support.x[3][rows], task.support.y[3][rows])
    (band,) = panel.collections
    edges = band.get_paths()[0].vertices
    x = np.unique(edges[:, 0])
    grid = x[:, None].astype(np.float32)
    mean, sd = fitted.predict(grid)[:, 0], fitted.predict_std(grid)[:, 0]
    for at, low, high in zip(x, mean - 2 * sd, mean + 2 * sd, strict=True):
        found = edges[edges[:, 0] == at, 1]
        assert found.min() == pytest.approx(low, abs=1e-5) and found.max() == pytest.approx(high, abs=1e-5)
    dotted = [line.get_ydata() for line in panel.lines if line.get_linestyle() == ":" and len(line.get_ydata()) == 30]
    lower, upper = tasks.posterior_curve(random_keys.task_keys(0, "test", 0, 3, 1), torch.as_tensor(x))
    assert any(np.allclose(line, lower.numpy(), atol=1e-6) for line in dotted)
    assert any(np.allclose(line, (lower + 2 * upper).numpy(), atol=1e-6) for line in dotted)
    assert "95 %" in picture.caption and "exact posterior" in picture.caption
