"""`--seeds 0,1,2`: one run a seed, resumed and judged together."""

import json
import math

import pytest

import innerloop as il
from innerloop.cli.main import main
from innerloop.storage import load_tensors
from innerloop.training import fit as fit_module

LINE = (
    "train maml sinusoid --steps 3 --num-tasks 1 --valid-tasks 2 --strategy vmapped --quiet --amplitude 0.1 5 --shots 3"
)
MODEL = "--model mlp --model-hidden 4"


def weights(run):
    tensors, _ = load_tensors(run / "checkpoint.safetensors", "innerloop-checkpoint", 1)
    return {name: value for name, value in tensors.items() if name.startswith("learner/")}


def test_each_seed_is_the_run_that_it_would_be_alone_and_they_are_judged_together(tmp_path, capsys):
    several, alone = tmp_path / "several", tmp_path / "alone"
    assert main([*LINE.split(), *MODEL.split(), "--seeds", "3,1", "--out", str(several), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["seed"], row["steps"]) for row in found["seeds"]] == [(3, 3), (1, 3)]
    assert main([*LINE.split(), *MODEL.split(), "--seed", "1", "--out", str(alone)]) == 0
    one, same = weights(alone), weights(several / "seed-1")
    assert one and all(value.equal(same[name]) for name, value in one.items())
    assert not all(value.equal(same[name]) for name, value in weights(several / "seed-3").items())
    capsys.readouterr()
    assert main(["evaluate", str(several), "--num-tasks", "5", "--curve-steps", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    reports = [
        il.evaluate(
            il.load(several / f"seed-{seed}"), il.tasks.sinusoid(amplitude=(0.1, 5.0), shots=3).test, num_tasks=5
        )
        for seed in (3, 1)
    ]
    means = [report.mean for report in reports]
    assert [(row["seed"], row["mean"], row["ci95"]) for row in found["seeds"]] == [
        (seed, pytest.approx(r.mean), pytest.approx(r.ci95)) for seed, r in zip((3, 1), reports, strict=True)
    ]
    assert found["mean"] == pytest.approx(sum(means) / 2)
    spread = abs(means[0] - means[1]) / math.sqrt(2)  # the sample's sd of two
    assert found["ci95"] == pytest.approx(1.96 * spread / math.sqrt(2)) and found["ci95_over"] == "seeds"
    assert {"metric", "num_tasks", "seed", "split", "transductive"} <= set(found)
    assert len(found["curve"]) == len(found["curve_ci95"]) == 3
    assert main(["evaluate", str(several), "--num-tasks", "2"]) == 0
    assert "95 % interval over 2 seeds" in capsys.readouterr().out


@pytest.mark.slow
def test_stopped_seeds_go_on_and_finished_ones_are_left_alone(tmp_path, monkeypatch, capsys):
    run, whole = str(tmp_path / "run"), str(tmp_path / "whole")
    line = [*LINE.split(), "--checkpoint-every", "1", "--seeds", "0,1,2"]
    assert main([*line, "--out", whole]) == 0
    step = fit_module.Stepper.run
    begun: list[int] = []

    def stopping(self, batches, first_step, rates, interrupted):
        """Ctrl-C twice in the second seed's second step."""
        if first_step == 0:
            begun.append(1)
        if len(begun) == 2 and first_step == 1:
            raise KeyboardInterrupt
        return step(self, batches, first_step, rates, interrupted)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module.Stepper, "run", stopping)
        assert main([*line, "--out", run]) == 130
    assert not (tmp_path / "run" / "seed-2").exists()
    capsys.readouterr()
    assert main(["evaluate", run]) == 2
    told = capsys.readouterr().err
    assert "got none of 2; train it: innerloop train --resume" in told and told.count("\n") == 1
    finished = tmp_path / "run" / "seed-0"
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in finished.glob("*.safetensors")}
    assert main(["train", "--resume", run, "--quiet"]) == 0
    assert before == {
        file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in finished.glob("*.safetensors")
    }
    for seed in (0, 1, 2):
        one, same = weights(tmp_path / "run" / f"seed-{seed}"), weights(tmp_path / "whole" / f"seed-{seed}")
        assert one and all(value.equal(same[name]) for name, value in one.items())


@pytest.mark.slow
def test_the_time_is_shared_and_a_folder_is_begun_once(tmp_path, capsys):
    line = "train maml sinusoid --num-tasks 1 --valid-tasks 2 --strategy vmapped --quiet --minutes 0.004 --seeds 0,1"
    run = tmp_path / "run"
    assert main([*line.split(), "--out", str(run)]) == 0
    for seed in (0, 1):
        training = json.loads((run / f"seed-{seed}" / "config.json").read_text())["training"]
        assert (training["minutes"], training["seed"]) == (0.002, seed)
    capsys.readouterr()
    assert main([*line.split(), "--out", str(run)]) == 2
    assert "add --force or another --out" in capsys.readouterr().err
    first = weights(run / "seed-0")
    assert main([*LINE.split(), "--seeds", "0,1", "--force", "--out", str(run)]) == 0
    assert not all(value.equal(first[name]) for name, value in weights(run / "seed-0").items())
    assert json.loads((run / "seed-1" / "config.json").read_text())["training"]["steps"] == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--seed 1 --seeds 0,1", "expected --seed or --seeds, got both"),
        ("--seeds 0", "--seeds expected two or more"),
        ("--seeds 0,0", "--seeds expected different"),
        ("--seeds 0,x", "--seeds expected integers"),
        ("--seeds 0,1.5", "--seeds expected integers"),
        ("--seeds 0,", "--seeds expected integers"),
    ],
)
def test_wrong_seeds_are_told_on_one_line(flags, said, tmp_path, capsys):
    assert main(["train", "maml", "sinusoid", *flags.split(), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1 and not (tmp_path / "run").exists()
