"""Metrics of one task: against scikit-learn, masked, with missing entries and ties, over many tasks at once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from innerloop.errors import ConfigError, ShapeError
from innerloop.objectives.metrics import DISTRIBUTION_METRICS, HIGHER_IS_BETTER, METRICS, check, masked_mean

ON_LABELS = [name for name, metric in METRICS.items() if metric.kind in ("labels", "scores")]
ON_VALUES = [name for name, metric in METRICS.items() if metric.kind in ("values", "order")]
SEEDS = range(12)


def value(name, prediction, y, mask=None):
    return METRICS[name].function(prediction, y, mask)


def classes(seed, examples=40, ways=4, dtype=torch.float64):
    """Logits with rows that come again (ties), and labels; not every class need be there."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(examples // 2, ways, generator=generator, dtype=dtype)
    prediction = rows[torch.randint(0, len(rows), (examples,), generator=generator)]
    return prediction, torch.randint(0, ways, (examples,), generator=generator)


def many_labels(seed, shape=(40, 3), missing=0.3, dtype=torch.float64):
    """Logits on a coarse grid (ties, some exactly 0), and labels 0/1 with NaN for missing entries."""
    generator = torch.Generator().manual_seed(seed)
    prediction = (torch.randn(shape, generator=generator, dtype=dtype) * 2).round() / 2
    y = (torch.rand(shape, generator=generator) < 0.4).to(dtype)
    return prediction, torch.where(torch.rand(shape, generator=generator) < missing, torch.nan, y)


def many_values(seed, shape=(30, 3), missing=0.3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(shape, generator=generator, dtype=dtype) * 3 + 1
    prediction = y + torch.randn(shape, generator=generator, dtype=dtype)
    return prediction, torch.where(torch.rand(shape, generator=generator) < missing, torch.nan, y)


def data(name, seed, form, **more):
    if name in ON_VALUES:
        return many_values(seed, **more)
    return classes(seed, **more) if form == "classes" else many_labels(seed, **more)


def one_label(name, scores, truth):
    """scikit-learn's value of one label or class, None where it cannot be judged."""
    if name == "accuracy":
        return sklearn_metrics.accuracy_score(truth, scores > 0)
    if name == "f1":
        return sklearn_metrics.f1_score(truth, scores > 0, zero_division=0)
    if len(set(truth)) < 2:
        return None
    score = sklearn_metrics.roc_auc_score if name == "roc_auc" else sklearn_metrics.average_precision_score
    return score(truth, scores) - (np.mean(truth) if name == "delta_auprc" else 0.0)


def expected_of_labels(name, prediction, y):
    """Label by label over its entries, without mask."""
    prediction, y = (np.asarray(t).reshape(len(t), -1) for t in (prediction, y))
    found = []
    for scores, truth in zip(prediction.T, y.T, strict=True):
        here = ~np.isnan(truth)
        if here.any():
            found.append(one_label(name, scores[here], truth[here].astype(int)))
    judged = [v for v in found if v is not None]
    return np.mean(judged) if judged else np.nan


def expected_of_classes(name, prediction, y):
    if name == "accuracy":
        return sklearn_metrics.accuracy_score(y, prediction.argmax(-1))
    if name == "f1":
        return sklearn_metrics.f1_score(y, prediction.argmax(-1), average="macro")
    each = [one_label(name, p, (y == c).int().numpy()) for c, p in enumerate(prediction.softmax(-1).numpy().T)]
    judged = [v for v in each if v is not None]
    return np.mean(judged) if judged else np.nan


def ndcg_at_10(y, prediction):
    """With gains 2^y - 1, where scikit-learn takes the targets themselves; the mean over outputs."""
    y, prediction = (np.asarray(v).reshape(len(v), -1).T for v in (y, prediction))
    gains = 2 ** np.clip(y, 0, None) - 1
    each = zip(gains, prediction, strict=True)
    return np.mean([sklearn_metrics.ndcg_score(g[None], p[None], k=10, ignore_ties=True) for g, p in each if g.any()])


def expected_of_values(name, prediction, y):
    function = {
        "mse": sklearn_metrics.mean_squared_error,
        "mae": sklearn_metrics.mean_absolute_error,
        "rmse": sklearn_metrics.root_mean_squared_error,
        "r2": sklearn_metrics.r2_score,
        "ndcg": ndcg_at_10,
    }[name]
    if not y.isnan().any():
        return function(y, prediction)
    found = []
    for p, t in zip(prediction.T, y.T, strict=True):
        here = ~t.isnan()
        if here.sum() > (name == "r2"):
            found.append(function(t[here], p[here]))
    return np.mean(found) if found else np.nan


def expected(name, form, prediction, y):
    if name in ON_VALUES:
        return expected_of_values(name, prediction, y)
    return expected_of_classes(name, prediction, y) if form == "classes" else expected_of_labels(name, prediction, y)


def padded(prediction, y, seed=0, rows=7):
    """The same task with rows of nonsense put between its own, and the mask that leaves them out."""
    order = torch.randperm(len(y) + rows, generator=torch.Generator().manual_seed(seed))
    nonsense = [torch.nan, torch.inf, -torch.inf, 0.0, 1e30, -3.0, 0.5]
    prediction = torch.cat([prediction, torch.tensor(nonsense).to(prediction)[:rows].reshape(rows, *[1] * (prediction.ndim - 1))
                            .expand(rows, *prediction.shape[1:])])  # fmt: skip
    wrong = torch.tensor(nonsense) if y.is_floating_point() else torch.tensor([-1, 99, 0, 1, -100, 2, 0])
    y = torch.cat([y, wrong.to(y)[:rows].reshape(rows, *[1] * (y.ndim - 1)).expand(rows, *y.shape[1:])])
    return prediction[order], y[order], order < len(y) - rows


FORMS = [(name, "classes") for name in ON_LABELS] + [(name, "labels") for name in METRICS]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_random_tasks_have_scikit_learns_value_with_a_mask_and_without(name, form):
    for seed in SEEDS:
        prediction, y = data(name, seed, form)
        wanted = expected(name, form, prediction, y)
        assert value(name, prediction, y).item() == pytest.approx(wanted, abs=1e-12), seed
        assert value(name, *padded(prediction, y, seed)).item() == pytest.approx(wanted, abs=1e-12), seed


@pytest.mark.parametrize("name", ON_LABELS)
@pytest.mark.parametrize("shape", [(25,), (25, 1)])
def test_one_logit_an_example(name, shape):
    for seed in SEEDS:
        prediction, y = many_labels(seed, shape, missing=0.2 * (seed % 2))
        wanted = expected_of_labels(name, prediction, y)
        assert value(name, prediction, y).item() == pytest.approx(wanted, abs=1e-12)
        assert value(name, *padded(prediction, y, seed)).item() == pytest.approx(wanted, abs=1e-12)
        if not y.isnan().any():
            assert value(name, prediction, y.long()).item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", ON_VALUES)
@pytest.mark.parametrize("shape", [(25,), (25, 1), (25, 4)])
def test_values_without_missing_entries(name, shape):
    prediction, y = many_values(3, shape, missing=0.0)
    wanted = expected_of_values(name, prediction, y)
    assert value(name, prediction, y).item() == pytest.approx(wanted, abs=1e-12)
    assert value(name, *padded(prediction, y)).item() == pytest.approx(wanted, abs=1e-12)


def test_classes_as_scikit_learn_averages_them_itself():
    for ways in (3, 5):
        prediction, y = classes(1, 60, ways)
        assert set(y.tolist()) == set(range(ways))
        p = prediction.softmax(-1)
        ovr = sklearn_metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
        assert value("roc_auc", prediction, y).item() == pytest.approx(ovr, abs=1e-12)
        precision = sklearn_metrics.average_precision_score(y, p, average="macro")
        assert value("average_precision", prediction, y).item() == pytest.approx(precision, abs=1e-12)


def test_many_labels_as_scikit_learn_averages_them_itself():
    prediction, y = many_labels(5, missing=0.0)
    for name, function in (
        ("roc_auc", sklearn_metrics.roc_auc_score),
        ("average_precision", sklearn_metrics.average_precision_score),
    ):
        assert value(name, prediction, y).item() == pytest.approx(function(y, prediction, average="macro"), abs=1e-12)
    wanted = sklearn_metrics.f1_score(y, prediction > 0, average="macro", zero_division=0)
    assert value("f1", prediction, y).item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_vmapped_over_tasks_equals_the_loop(name, form):
    tasks = [data(name, seed, form, dtype=torch.float32) for seed in SEEDS]
    prediction, y = (torch.stack(side) for side in zip(*tasks, strict=True))
    mask = torch.rand(y.shape[:2], generator=torch.Generator().manual_seed(0)) > 0.4
    function = METRICS[name].function
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where vmap has to loop
        together = torch.vmap(function)(prediction, y, mask)
        without = torch.vmap(lambda p, t: function(p, t, None))(prediction, y)
    torch.testing.assert_close(
        together, torch.stack([function(*task) for task in zip(prediction, y, mask, strict=True)])
    )
    torch.testing.assert_close(without, torch.stack([function(p, t, None) for p, t in tasks]))
    assert together.isfinite().all() and together.std() > 0 and not torch.equal(together, without)


def accuracy_of_before(prediction, y, mask):
    one_logit = prediction.shape == y.shape
    right = (prediction > 0) == (y > 0.5) if one_logit else prediction.argmax(-1) == y
    return masked_mean(right.to(prediction.dtype).reshape(right.shape[0], -1).mean(-1), mask)


def mse_of_before(prediction, y, mask):
    return masked_mean((prediction - y).square().reshape(y.shape[0], -1).mean(-1), mask)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_accuracy_and_mse_are_bit_for_bit_what_they_were(dtype):
    for seed in SEEDS:
        masks = [None, torch.rand(30, generator=torch.Generator().manual_seed(seed)) > 0.3, torch.zeros(30).bool()]
        for mask in masks:
            for shape in ((30,), (30, 1), (30, 3)):
                prediction, y = many_labels(seed, shape, 0.0, dtype)
                assert torch.equal(value("accuracy", prediction, y, mask), accuracy_of_before(prediction, y, mask))
                prediction, y = many_values(seed, shape, 0.0, dtype)
                assert torch.equal(value("mse", prediction, y, mask), mse_of_before(prediction, y, mask))
            prediction, y = classes(seed, 30, dtype=dtype)
            found = value("accuracy", prediction, y, mask)
            assert torch.equal(found, accuracy_of_before(prediction, y, mask)) and found.dtype == dtype


def test_ties_count_half_and_share_a_threshold():
    y = torch.tensor([1.0, 0.0, 1.0, 0.0])
    same = torch.zeros(4)
    assert value("roc_auc", same, y) == 0.5 and value("average_precision", same, y) == 0.5
    # The best pair ties (precision 1/2), the other 1 comes third of three at its threshold (2/3).
    prediction = torch.tensor([2.0, 2.0, 1.0, 0.0])
    assert value("roc_auc", prediction, y) == (0.5 + 1 + 0 + 1) / 4
    assert value("average_precision", prediction, y).item() == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_answer_to_every_example_ranks_nothing(dtype):
    """Rounding in the log-odds must not order equal rows."""
    for ways in (2, 3, 5, 8, 17):
        for examples in (ways, 31, 64):
            row = torch.randn(6, 1, ways, generator=torch.Generator().manual_seed(ways), dtype=dtype) * 4
            y = torch.arange(examples) % ways
            found = torch.vmap(METRICS["roc_auc"].function, (0, None, None))(row.expand(6, examples, ways), y, None)
            assert found.tolist() == pytest.approx([0.5] * 6, abs=1e-6)


def test_classes_are_ranked_where_softmax_rounds_to_one():
    margins = torch.tensor([60.0, 80.0, 70.0, 90.0])
    prediction = torch.stack([torch.zeros(4), margins, torch.zeros(4)], -1)
    y = torch.tensor([0, 1, 2, 1])  # the ones have the larger margins, all of probability 1.0
    assert (prediction.softmax(-1)[:, 1] == 1).all()
    one_against_rest = [0.0, 1.0, 0.0]
    for c, margin in ((0, -margins), (2, -margins)):
        one_against_rest[c] = sklearn_metrics.roc_auc_score(y == c, margin)
    assert value("roc_auc", prediction, y).item() == pytest.approx(np.mean(one_against_rest))


def test_a_label_is_judged_by_its_own_entries():
    nan = torch.nan
    y = torch.tensor([[1.0, nan, 1.0], [0.0, nan, nan], [1.0, nan, 1.0]])
    prediction = torch.tensor([[1.0, 9.0, 1.0], [1.0, 9.0, 9.0], [2.0, 9.0, -1.0]])
    # Label 0: 2 of 3 right; label 1 has no entry; label 2: 1 of 2, of one class.
    assert value("accuracy", prediction, y).item() == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert value("f1", prediction, y).item() == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert value("roc_auc", prediction, y).item() == pytest.approx((0.5 + 1) / 2)
    assert value("average_precision", prediction, y).item() == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("name", METRICS)
def test_where_nothing_can_be_judged_there_is_no_number(name):
    missing = torch.full((5, 2), torch.nan)
    assert value(name, torch.ones(5, 2), missing).isnan()
    if METRICS[name].kind == "scores":
        assert value(name, torch.randn(5, 2), torch.ones(5, 2)).isnan()
        assert value(name, torch.randn(5, 3), torch.full((5,), 2)).isnan()
    nobody = value(name, torch.ones(5, 2), torch.ones(5, 2), torch.zeros(5, dtype=torch.bool))
    assert nobody == 0 if name in ("accuracy", "mse") else nobody.isnan()


def test_a_label_that_is_neither_there_nor_predicted_has_an_f1_of_nought():
    assert value("f1", -torch.ones(4), torch.zeros(4)) == 0
    # Three ways, of which the third is neither in y nor predicted: no class to judge.
    prediction = torch.eye(3)[torch.tensor([0, 1, 1, 0])]
    assert value("f1", prediction, torch.tensor([0, 1, 0, 0])).item() == pytest.approx((4 / 5 + 2 / 3) / 2)


@pytest.mark.parametrize(("off", "wanted"), [(0.0, 1.0), (0.1, 0.0), (torch.nan, torch.nan)])
@pytest.mark.parametrize("constant", [2.0, 0.1])
def test_r2_of_a_constant_target(off, wanted, constant):
    """0.1 has no exact mean: scikit-learn's r2 of three of them can be a huge negative number."""
    y = torch.full((7,), constant)
    assert value("r2", y + off, y).item() == pytest.approx(wanted, nan_ok=True)
    if constant == 2.0 and off == off:
        assert sklearn_metrics.r2_score(y, y + off) == wanted


def test_r2_takes_two_examples():
    y = torch.tensor([1.0, 2.0, 4.0])
    one = torch.tensor([True, False, False])
    assert value("r2", y, y, one).isnan() and value("r2", y[:1], y[:1]).isnan()
    assert value("r2", y, y, torch.tensor([True, True, False])) == 1
    lonely = torch.stack([y, torch.tensor([torch.nan, 2.0, torch.nan])], -1)
    assert value("r2", torch.zeros(3, 2), lonely).item() == pytest.approx(sklearn_metrics.r2_score(y, torch.zeros(3)))


@pytest.mark.parametrize("name", [*ON_VALUES, "roc_auc", "average_precision"])
def test_a_prediction_that_is_not_a_number_is_not_a_missing_entry(name):
    y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    prediction = torch.randn(3, 2)
    assert value(name, prediction, y).isfinite()
    prediction[1, 0] = torch.nan
    assert value(name, prediction, y).isnan()
    if METRICS[name].kind == "scores":
        assert value(name, prediction, torch.tensor([0, 1, 0])).isnan()


@pytest.mark.parametrize("name", [name for name in METRICS if name not in ("accuracy", "mse")])
def test_low_precision_counts_as_exactly_as_float32(name):
    prediction, y = data(name, 0, "labels", shape=(3000, 2), dtype=torch.bfloat16)
    wanted = value(name, prediction.float(), y.float())
    torch.testing.assert_close(value(name, prediction, y), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", [name for name in ON_VALUES if METRICS[name].kind == "values"])
def test_units_are_the_power_of_the_targets_unit(name):
    prediction, y = many_values(0)
    assert value(name, 10 * prediction, 10 * y).item() == pytest.approx(
        10 ** METRICS[name].units * value(name, prediction, y).item(), rel=1e-9
    )


@pytest.mark.parametrize("name", METRICS)
def test_the_direction_is_that_of_a_better_prediction(name):
    _, y = data(name, 2, "labels", missing=0.0)
    best, worst = (y, y.flip(0)) if name in ON_VALUES else (y - 0.5, 0.5 - y)
    assert (value(name, best, y) > value(name, worst, y)) == METRICS[name].higher_is_better
    assert HIGHER_IS_BETTER[name] == METRICS[name].higher_is_better
    assert METRICS[name].units == 0 or name in ON_VALUES


def test_ndcg_by_hand():
    y = torch.tensor([3.0, 0.0, 1.0, 2.0])
    discount = [1, 1 / np.log2(3), 1 / 2, 1 / np.log2(5)]
    best = np.dot([7, 3, 1, 0], discount)
    assert value("ndcg", torch.tensor([0.0, 3.0, 2.0, 1.0]), y).item() == pytest.approx(
        np.dot([0, 1, 3, 7], discount) / best
    )
    assert value("ndcg", torch.zeros(4), y).item() == pytest.approx(np.dot([7, 0, 1, 3], discount) / best)  # ties stay
    many = torch.cat([torch.zeros(10), torch.ones(1)])
    assert value("ndcg", torch.arange(11, 0, -1.0), many) == 0  # the eleventh of a list is not looked at
    assert value("ndcg", torch.randn(4), torch.zeros(4)).isnan()  # nothing is better than anything


INTEGERS, FLOATS = torch.int64, torch.float32


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_can_judge_passes(name):
    if name in ON_VALUES:
        check(name, (5,), FLOATS, (5,))
        check(name, (5, 2), torch.float64, (5, 2))
    else:
        check(name, (5, 3), INTEGERS, (5,))
        check(name, (5,), INTEGERS, (5,))
        check(name, (5, 1), torch.bool, (5, 1))
        check(name, (5, 4), FLOATS, (5, 4), labels=True)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_cannot_judge_says_so_in_a_line(name):
    if name in ON_VALUES:
        kind, wrong = "expected targets that are values, got labels", ((5, 3), INTEGERS, (5,), None)
        binary = ((5,), FLOATS, (5,), True)
    else:
        kind, wrong = "expected targets that are labels, got values", ((5, 1), FLOATS, (5, 1), None)
        binary = ((5,), INTEGERS, (5,), False)
    for prediction, dtype, y, labels in (wrong, binary):
        with pytest.raises(ConfigError, match=kind) as error:
            check(name, prediction, dtype, y, labels=labels)
        text = str(error.value)
        assert text.startswith(name) and "\n" not in text
        others = {n for n in METRICS if (n in ON_VALUES) != (name in ON_VALUES)}
        assert set(text.split("use one of ")[1].split(", ")) == others


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("prediction", [(5, 1), (4,), (4, 3), (5, 3, 2), ()])
def test_shapes_that_would_broadcast_are_refused(name, prediction):
    of_values = name in ON_VALUES
    with pytest.raises(ShapeError, match="expected equal shapes"):
        check(name, prediction, FLOATS if of_values else INTEGERS, (5,))
    with pytest.raises(ShapeError, match="expected equal shapes"):
        check(name, (5, 3), FLOATS, (5,), labels=not of_values)


def test_unknown_metrics_and_those_of_a_distribution():
    with pytest.raises(ConfigError, match="unknown metric 'roc_acu': did you mean 'roc_auc'"):
        check("roc_acu", (5,), INTEGERS, (5,))
    with pytest.raises(ConfigError, match="did you mean 'log_likelihood'"):
        check("log_likelyhood", (5,), FLOATS, (5,))
    assert DISTRIBUTION_METRICS == ("log_likelihood",) and HIGHER_IS_BETTER["log_likelihood"]
    assert set(HIGHER_IS_BETTER) == {*METRICS, *DISTRIBUTION_METRICS}
    check("log_likelihood", (5,), FLOATS, (5,))
