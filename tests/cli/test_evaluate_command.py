"""`innerloop evaluate`: adaptation curves and the device, for methods with and without gradient steps."""

import json

import pytest
import torch

import innerloop as il
from innerloop.cli.main import main

MADE = {
    "maml": lambda: (il.maml(il.models.mlp(1, 1, hidden=(4,)), inner_steps=1), sine()),
    "cnp": lambda: (il.cnp(il.models.mlp(1, None, hidden=(4,)), outputs=1, width=4), sine()),
    "protonet": lambda: (il.protonet(il.models.mlp((1, 28, 28), 4, hidden=())), letters()),
    "mann": lambda: (il.mann(il.models.mlp((1, 28, 28), 4, hidden=()), outputs=3), letters()),
}


def sine():
    return il.tasks.sinusoid(shots=3, queries=3)


def letters():
    return il.tasks.glyphs(ways=3, shots=1, queries=2)


def trained(name, folder):
    torch.manual_seed(0)
    learner, tasks = MADE[name]()
    il.fit(learner, tasks, out=folder, steps=1, num_tasks=1, validate_every=0, strategy="looped", quiet=True)
    return learner, tasks


@pytest.mark.parametrize("name", MADE)
def test_every_method_has_a_curve(name, tmp_path, capsys):
    learner, tasks = trained(name, tmp_path / "run")
    line = ["evaluate", str(tmp_path / "run"), "--num-tasks", "4", "--seed", "3"]
    assert main([*line, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert not {"curve", "curve_ci95"} & set(plain)
    assert main([*line, "--curve-steps", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    report = il.evaluate(learner, tasks.test, num_tasks=4, seed=3, curve_steps=3)
    # The last bit may depend on where tensors lie in memory (seen with MKL on Intel).
    assert found["curve"] == pytest.approx(list(report.curve), rel=1e-6) and len(found["curve"]) == 4
    assert found["curve_ci95"] == pytest.approx(list(report.curve_ci95), rel=1e-6) and len(found["curve_ci95"]) == 4
    assert found["mean"] == pytest.approx(plain["mean"], rel=1e-6)
    if name == "maml":
        assert found["mean"] == found["curve"][1] != found["curve"][0]


def test_the_curve_is_one_short_line(tmp_path, capsys):
    trained("maml", tmp_path / "run")
    line = ["evaluate", str(tmp_path / "run"), "--num-tasks", "2", "--curve-steps"]
    assert main([*line, "0"]) == 0
    (short,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("after inner steps")]
    assert short.count(":") == 2 and " 0: " in short
    assert main([*line, "57"]) == 0
    (long,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("after inner steps")]
    assert " 0: " in long and " 57: " in long and len(long) < 200


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--curve-steps -1", "--curve-steps expected an integer of at least 0, got -1"),
        ("--curve-steps 1.5", "--curve-steps expected an integer or none, got '1.5'"),
        ("--curve-steps nan", "--curve-steps expected an integer or none, got 'nan'"),
        ("--curve-steps 2 --shift phase=1", "--shift too; leave one of them out"),
        ("--device gpu", "device expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got 'gpu'"),
        ("--device meta", "device expected one that torch can use here, got 'meta'"),
    ],
)
def test_what_cannot_be_is_told_on_one_line(flags, said, tmp_path, capsys):
    trained("maml", tmp_path / "run")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), *flags.split()]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.err.count("\n") == 1 and told.out == ""
