"""Which method fits, in words and in a picture: numbers made by hand, so that every sentence can be checked."""

import dataclasses

import pytest

from innerloop.core import Report
from innerloop.evaluation.compare import Comparison, paired
from innerloop.evaluation.costs import Cost
from innerloop.evaluation.evaluate import mean_ci95
from innerloop.report import style
from innerloop.report.comparison import comparison_figure, milliseconds, size, verdict


def report(values, metric="accuracy", transductive=False) -> Report:
    mean, ci95 = mean_ci95(values)
    found = Report(metric, mean, ci95, tuple(values), len(values), 0, "test", transductive, (), (), {}, "", {}, 0.0)
    return dataclasses.replace(found, higher_is_better=metric == "accuracy")


def comparison(costs=None, metric="accuracy", **values) -> Comparison:
    found = paired({label: v if isinstance(v, Report) else report(v, metric) for label, v in values.items()})
    return dataclasses.replace(found, costs={k: Cost(s, b) for k, (s, b) in (costs or {}).items()})


# Task by task, b and a differ by +-0.01 alone; c is always 0.3 below a.
A, B, C = [0.9, 0.7, 0.9, 0.7], [0.89, 0.71, 0.89, 0.70], [0.6, 0.4, 0.6, 0.4]
COSTS = {"a": (0.030, 2_000_000), "b": (0.010, 4_000_000), "c": (0.001, 1_000_000)}


def test_it_names_the_best_its_equals_and_the_cheapest_of_those():
    found = comparison(COSTS, a=A, b=B, c=C)
    assert found.as_good == ("a", "b")
    said = verdict(found)
    assert said.startswith("a has the highest accuracy, 80.00 ± ")
    assert "Not told apart from it by these 4 tasks: b." in said
    assert "Among these b adapts fastest, 10 ms a task, and a in the least memory, 2 MB" in said
    assert "c is the best of those that need less than half of it: 50.00 ± " in said and "in 1 ms" in said


def test_one_that_is_ahead_of_all_is_called_so():
    said = verdict(comparison({"a": (0.03, 1000), "c": (0.02, 10)}, a=A, c=C))
    assert "clearly ahead of every other one" in said and "Not told apart" not in said
    assert "It takes 30 ms" in said and "Where time matters" not in said  # 20 ms are not less than half


def test_times_within_ten_percent_are_not_told_apart():
    said = verdict(comparison({"a": (0.0105, 5), "b": (0.010, 4)}, a=A, b=B))
    assert (
        "Among these take b: it adapts fastest, 10 ms a task (a within ten percent of that), and in the least" in said
    )


def test_errors_are_best_when_low_and_what_diverged_is_last():
    void, lost = [float("nan"), 1.0, 1.0, 1.0], [float("inf"), 1.0, 1.0, 1.0]
    found = comparison(metric="mse", void=void, a=A, lost=lost, c=C)  # nan first: it must not stay where it is
    assert list(found.reports)[:2] == ["c", "a"] and set(list(found.reports)[2:]) == {"lost", "void"}
    assert found.as_good == ("c",)
    said = verdict(found)
    assert said.startswith("c has the lowest mean squared error") and "void and lost diverged on some tasks" in said
    assert "none can be recommended" in verdict(comparison(a=[float("nan")] * 2, b=[float("nan")] * 2))


def test_transductive_results_are_told_from_the_others():
    said = verdict(comparison(a=report(A, transductive=True), b=B))
    assert "a saw all queries of a task at once (transductive), the others did not" in said
    assert "transductive" not in verdict(comparison(a=A, b=B))


@pytest.mark.parametrize("costs", [None, COSTS])
def test_the_picture_has_every_method_in_order_and_the_costs_where_known(costs):
    figure = comparison_figure(comparison(costs, c=C, a=A, b=B))
    means, *others = figure.axes
    assert [t.get_text() for t in means.get_yticklabels()] == ["1 a", "2 b", "3 c"]
    assert len(others) == (2 if costs else 0)
    for axes, (place, unit) in zip(others, ((0, 1e3), (1, 1e-6)), strict=False):
        assert [float(line.get_xdata()[0]) for line in axes.lines] == pytest.approx(
            [COSTS[k][place] * unit for k in "abc"]
        )
        assert [float(line.get_ydata()[0]) for line in axes.lines] == pytest.approx([0.8, 0.7975, 0.5])
        assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]
    assert style.png(figure).startswith(b"\x89PNG")
    for axes in others:  # few plain numbers, which do not run into each other
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        said = [label.get_text() for place, label in ticks if low <= place <= high]
        small = [label.get_text() for label in axes.get_xticklabels(which="minor")]
        assert 2 <= len(said) <= 6 and all(float(text) > 0 for text in said) and not any(small), (said, small)


def test_units():
    assert [milliseconds(s) for s in (0.00084, 0.012, 0.0999, 0.23, 1.2)] == [
        "0.84 ms",
        "12 ms",
        "100 ms",
        "230 ms",
        "1.2 s",
    ]
    assert [size(n) for n in (20_000, 3_100_000, 99_900_000, 120_000_000)] == ["0.02 MB", "3.1 MB", "100 MB", "120 MB"]
