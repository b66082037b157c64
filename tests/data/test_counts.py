"""Sparse rows: what they hold, how models read them, and a task of them from training to its file."""

import numpy as np
import pytest
import torch

import innerloop as il
from innerloop.data.counts import as_counts, dense
from innerloop.errors import ConfigError, InputError, ShapeError

sparse = pytest.importorskip("scipy.sparse")
RNG = np.random.default_rng(0)
FULL = RNG.poisson(0.3, size=(90, 40)).astype(np.float32)
FULL[4] = 0
LABEL = (FULL[:, :20].sum(1) > FULL[:, 20:].sum(1)).astype(int)
TASK = np.arange(90) % 6


def counts():
    matrix = sparse.csr_matrix(FULL)
    return il.Counts(matrix.indices, matrix.data, matrix.indptr, kinds=40)


def test_rows_come_back_in_full_whatever_they_came_as():
    for given in (counts(), sparse.csr_matrix(FULL), sparse.csc_matrix(FULL), sparse.coo_array(FULL), FULL):
        assert torch.equal(as_counts(given).dense(), torch.as_tensor(FULL))
    rows = [5, 5, 4, 89]
    assert torch.equal(counts().take(rows).dense(), torch.as_tensor(FULL[rows]))
    packed = counts().packed(torch.tensor([[1, 4], [0, 2]]), width=30)
    assert packed.shape == (2, 2, 2, 30)
    assert torch.equal(dense(packed, 40), torch.as_tensor(FULL[[[1, 4], [0, 2]]]))
    unsorted = il.Counts([3, 0, 2, 1], [1, 2, 3, 4], [0, 2, 4])
    assert unsorted.dense().tolist() == [[2, 0, 0, 1], [0, 4, 3, 0]]
    with pytest.raises(InputError, match="rows expected numbers from 0 to 89, got 90 to 90"):
        counts().take([90])
    twice = sparse.csr_matrix(([1.0, 2.0], ([0, 0], [3, 3])), shape=(1, 5))
    assert as_counts(twice).dense().tolist() == [[0, 0, 0, 3.0, 0]]
    assert il.Counts([1, 0], [2, 3], [0, 1]).dense().tolist() == [[0, 2.0], [3.0, 0]]  # without the end of the last row


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (([0, 1], [1, -1], [0, 1, 2]), InputError, "count expected numbers from 0 up, got -1 in row 2"),
        (([0, -4], [1, 1], [0, 2]), InputError, "index expected numbers from 0 up, got -4 in row 1"),
        (([0, 1], [1], [0, 2]), ShapeError, "one length, got 2 and 1"),
        (([0, 1], [1, 1], [0, 2, 1]), InputError, "start expected to rise"),
        (([0, 9], [1, 1], [0, 2], 5), InputError, "index expected numbers below 5, the kinds of entries, got 9"),
        (([0.5], [1], [0, 1]), InputError, "index expected whole numbers"),
        (([0], [float("nan")], [0, 1]), InputError, "count expected finite numbers"),
        (([2, 3, 3], [1, 1, 1], [0, 1, 3]), InputError, "each entry once in a row, got 3 twice in row 2"),
        (([0], [1], [0, 1], 4.5), ConfigError, "kinds expected an integer"),
        (([[0]], [1], [0, 1]), ShapeError, "index expected one axis"),
    ],
)
def test_rows_that_cannot_be_are_refused(given, error, said):
    with pytest.raises(error, match=said):
        il.Counts(*given)


def test_row_sums_are_the_dense_product_in_every_derivative(double):
    torch.manual_seed(0)
    net = il.models.counts_mlp(40, 2, hidden=(5, 4))
    packed, full = counts().packed(), torch.as_tensor(FULL, dtype=torch.float64).log1p()
    y = torch.as_tensor(FULL[:, :2], dtype=torch.float64)
    params = dict(net.named_parameters())

    def sparse_net(values, x):
        return torch.func.functional_call(net, values, x)

    def dense_net(values, x):
        hidden = x @ values["entries.weight"] + values["entries.bias"]
        body = {k.removeprefix("body."): v for k, v in values.items() if k.startswith("body.")}
        z = torch.func.functional_call(net.body, body, hidden)
        return z @ values["head.weight"].T + values["head.bias"]

    def outer(model, x):
        def loss(values, x, y):
            return (model(values, x) - y).square().mean()

        def task(values, x, y):  # an inner step of its own for each task
            grads = torch.func.grad(loss)(values, x, y)
            return loss({k: v - 0.1 * grads[k] for k, v in values.items()}, x, y)

        def mean(values):
            return torch.func.vmap(task, (None, 0, 0))(values, x.unflatten(0, (3, 30)), y.unflatten(0, (3, 30))).mean()

        return torch.func.grad(mean)(params)

    ours, theirs = outer(sparse_net, packed), outer(dense_net, full)
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], rtol=1e-9, atol=1e-12), name
    assert ours["entries.weight"].abs().max() > 1e-4


def test_a_task_of_sparse_rows_from_training_to_its_file(tmp_path):
    family = il.tasks.from_arrays(sparse.csr_matrix(FULL), LABEL, task=TASK, support_size=6)
    assert family.train.preprocessing == {"kind": "counts", "kinds": 40}
    learner = il.protonet(il.models.counts_mlp(40, None, hidden=(8, 8)))
    il.fit(learner, family, steps=3, num_tasks=2, out=tmp_path / "run")
    report = il.evaluate(learner, family.test)
    x = torch.as_tensor(FULL, dtype=torch.float64)
    task = family.test.each(torch.arange(1), torch.zeros(1, dtype=torch.int64))
    full = dense(task.support.x[0].double(), 40)
    assert all(bool((row == x).all(1).any()) for row in full)
    full_rows = il.tasks.from_arrays(FULL, LABEL, task=TASK, support_size=6)  # the same rows, drawn alike
    beside = il.evaluate(il.protonet(il.models.mlp(40, None)), full_rows.test).baselines
    for name in ("class_mean", "nearest", "ridge"):  # baselines see sparse rows in full
        assert report.baselines[name].mean == pytest.approx(beside[name].mean, abs=1e-9)
    shown, asked = sparse.csr_matrix(FULL[:10]), sparse.csr_matrix(FULL[10:30])
    fitted = il.load(tmp_path / "run").adapt(shown, LABEL[:10])
    expected = fitted.predict_proba(asked)
    assert isinstance(expected, np.ndarray)
    assert np.allclose(fitted.predict_proba(FULL[10:30]), expected) and np.allclose(
        fitted.predict_proba(counts().take(range(10, 30))), expected
    )
    fitted.save(tmp_path / "task.il", support=True)
    again = il.load(tmp_path / "task.il")
    assert np.allclose(again.predict_proba(asked), expected)
    wider = sparse.csr_matrix(np.ones((2, 40)))  # more entries than any row before
    more = again.learn(wider, [0, 1])
    assert more.num_examples == 12 and len(more.predict(wider)) == 2
    with pytest.raises(ShapeError, match="expected 40 columns as the training rows had, got 12"):
        fitted.predict(sparse.csr_matrix(FULL[:2, :12]))
    with pytest.raises(InputError, match=r"x expected sparse rows .*, which files do not hold, got PosixPath"):
        fitted.predict(tmp_path / "rows.csv")
    with pytest.raises(InputError, match=r"expected a dense array, got csr_matrix; use x.toarray\(\)"):
        il.protonet(il.models.mlp(40, None)).adapt(shown, LABEL[:10])
    assert set(il.judge(fitted, scikit=False).judged.baselines) == {"class_mean", "nearest", "ridge"}


@pytest.mark.parametrize("method", ["protonet", "r2d2", "maml"])
def test_a_task_of_sparse_rows_is_exported(method, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from innerloop.serving.export import export_fitted

    family = il.tasks.from_arrays(sparse.csr_matrix(FULL), LABEL, task=TASK, support_size=6)
    learner = getattr(il, method)(il.models.counts_mlp(40, 2 if method == "maml" else None, hidden=(8, 8)))
    learner.spec = family.train.spec
    fitted = learner.adapt(sparse.csr_matrix(FULL[:10]), LABEL[:10])
    assert export_fitted(fitted, tmp_path / "task.onnx", "onnx") < 1e-4
    packed = counts().take(range(10, 30)).packed(dtype=torch.float32)
    session = onnxruntime.InferenceSession(tmp_path / "task.onnx")
    room = fitted.support.x.shape[-1]
    found = session.run(None, {"x": packed[..., :room].numpy()})[0]
    assert packed[..., room:].sum() == 0 and np.allclose(found, fitted.predict_proba(packed), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["preprocessing"] == '{"kind": "counts", "kinds": 40}'
