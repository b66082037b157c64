"""`innerloop train`, from flags and files to what `fit` is given."""

import json
import types
from pathlib import Path

import pytest

import innerloop
from innerloop.cli.main import main

RESULT = types.SimpleNamespace(
    steps=7,
    best_step=5,
    best_value=0.25,
    metric="mse",
    wall_seconds=1.0,
    stopped="finished",
    baselines={"mean": 2.0, "nearest": 0.125},
)


@pytest.fixture
def fitted(monkeypatch, tmp_path):
    """Stands in for `fit`: keeps what it was called with, trains nothing."""
    calls = []

    def fit(learner, family, **settings):
        calls.append(types.SimpleNamespace(learner=learner, family=family, settings=settings))
        return RESULT

    monkeypatch.setattr(innerloop, "fit", fit, raising=False)
    monkeypatch.chdir(tmp_path)
    return calls


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_flags_reach_method_problem_model_and_training(fitted, capsys):
    line = "train maml sinusoid --inner_lr 0.5 --adapt head.* body.* --amplitude 0.1 5 --steps 7 --no-inductive"
    assert main([*line.split(), "--model", "mlp", "--model-hidden", "8", "--out", "here"]) == 0
    (call,) = fitted
    assert call.learner.options["inner_lr"] == 0.5
    assert call.learner.options["adapt"] == ["head.*", "body.*"]
    assert list(call.family.options["amplitude"]) == [0.1, 5.0]
    assert call.learner.model_spec["arguments"]["hidden"] in (8, [8])
    assert call.settings["steps"] == 7
    assert call.settings["out"] == Path("here")
    said = capsys.readouterr().out
    assert "best validated mse 0.2500 at step 5" in said
    assert "the baseline nearest needs no training and reaches 0.1250 on the same tasks" in said
    assert "innerloop evaluate here" in said


def test_the_run_directory_has_a_name_of_its_own(fitted):
    assert main(["train", "maml", "sinusoid", "--seed", "3"]) == 0
    assert fitted[0].settings["out"] == Path("runs/maml-sinusoid-seed3")


def test_equal_seeds_give_equal_weights(fitted):
    for seed in ("3", "3", "4"):
        assert main(["train", "maml", "sinusoid", "--seed", seed]) == 0
    first, second, other = ([p.detach().clone() for p in c.learner.parameters()] for c in fitted)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))
    assert not all(a.equal(b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "algorithm: {inner_lr: 2e-1}\ntraining:\n  steps: 9\ntasks: {shots: 4}\nmodel: mlp\n"),
        ("c.yaml", "inner_lr: 0.2\nsteps: 9\nshots: 4\n"),
        ("c.toml", "shots = 4\n[algorithm]\ninner_lr = 0.2\n[training]\nsteps = 9\n"),
        (
            "config.json",
            '{"format": "innerloop-run", "version": 1, "commit": "", "objective": "mse", "training": {"steps": 9},'
            '"algorithm": {"name": "maml", "options": {"inner_lr": 0.2}},'
            '"model": {"name": "mlp", "arguments": {"inputs": 1, "outputs": 1, "hidden": [40, 40]}},'
            '"tasks": {"name": "sinusoid", "options": {"shots": 4}}}',
        ),
    ],
)
def test_a_file_overrides_defaults_and_flags_override_the_file(fitted, name, text):
    line = ["train", "maml", "sinusoid", "--config", write(name, text)]
    assert main(line) == 0
    assert main([*line, "--inner-lr", "0.7", "--steps", "3"]) == 0
    from_file, from_flags = fitted
    assert (from_file.learner.options["inner_lr"], from_file.settings["steps"]) == (0.2, 9)
    assert from_file.family.options["shots"] == 4
    assert (from_flags.learner.options["inner_lr"], from_flags.settings["steps"]) == (0.7, 3)
    assert from_flags.family.options["shots"] == 4


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.yaml", "training:\n  stpes: 4\n", ["c.yaml line 2 (training.stpes)", "did you mean 'steps'?"]),
        ("c.yaml", "\ninner_rl: 4\n", ["c.yaml line 2 (inner_rl)", "did you mean 'inner_lr'?"]),
        ("c.toml", "[training]\nstpes = 4\n", ["c.toml (training.stpes)", "did you mean 'steps'?"]),
        ("c.yaml", "training: {steps: many}\n", ["line 1", "steps expected an integer or none, got 'many'"]),
        ("c.yaml", "algorithm: {inner_lr: .nan}\n", ["inner_lr expected a finite number", "got nan"]),
        ("c.yaml", "training: 5\n", ["(training)", "expected a table", "got 5"]),
        ("c.yaml", "algorithm: {name: reptile}\n", ["expected 'maml'", "got 'reptile'"]),
        ("c.yaml", "a: [\n", ["c.yaml line 2: expected YAML"]),
        ("c.toml", "a = \n", ["expected TOML"]),
        ("c.ini", "a", ["'c.ini'", "expected a .yaml"]),
        ("c.yaml", "- a\n", ["expected a table"]),
    ],
)
def test_a_wrong_file_is_told_on_one_line(fitted, capsys, name, text, said):
    assert main(["train", "maml", "sinusoid", "--config", write(name, text)]) == 2
    assert fitted == []
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    for part in said:
        assert part in told.err


def test_a_missing_file_is_told_on_one_line(fitted, capsys):
    assert main(["train", "maml", "sinusoid", "--config", "nowhere.yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train", "expected ALGORITHM and TASKS, got no names"),
        ("train maml", "expected TASKS after maml"),
        ("train maml sinusoid extra", "'extra'"),
        ("train maml sinusoid --inr-lr 3", "unknown flag '--inr-lr': did you mean '--inner-lr'?"),
        ("train maml sinusoid --inner-lr nan", "--inner-lr expected a finite number, got 'nan'"),
        ("train maml sinusoid --inner-lr inf", "--inner-lr expected a finite number, got 'inf'"),
        ("train maml sinusoid --inner-lr -1", "expected a finite number of at least 0, got -1.0"),
        ("train maml sinusoid --steps 1.5", "--steps expected an integer or none, got '1.5'"),
        ("train maml sinusoid --steps 0", "steps expected an integer of at least 1, got 0"),
        ("train maml sinusoid --steps", "got nothing after --steps"),
        ("train maml sinusoid --steps 1 --steps 2", "expected --steps once"),
        ("train maml sinusoid --amplitude 1", "expected 2 values"),
        ("train maml sinusoid --schedule linaer", "did you mean 'linear'?"),
        ("train maml sinusoid --device gpu", "device expected"),
        ("doctor mlp --device gpu", "device expected"),
        ("train maml sinusoid --train-ways 3", "unknown flag '--train-ways'"),
        ("train maml .", "expected pictures or texts (.txt) in one subfolder a class, or tables"),
        ("train --resume .", "without config.json"),
        ("train --resume nowhere", "got nothing there"),
        ("train --resume . --steps 3000", "a resumed run keeps its settings, got --steps"),
        ("train --resume . --inner-lr=1", "a resumed run keeps its settings, got --inner-lr"),
        ("train --resume . --quite", "unknown flag '--quite': did you mean '--quiet'?"),
        ("adapt . .", "expected --out, the task file to write, got none; give --out task.il, say"),
        ("adapt . . --out", "expected a value, got nothing after --out"),
        ("adapt . . --yaml --out x", "unknown flag '--yaml': see innerloop adapt --help"),
        ("list --out", "unknown flag '--out': see innerloop list --help"),
        ("qqq", "unknown command 'qqq': see innerloop --help"),
        ("run qqq", "unknown recipe 'qqq': see innerloop list recipes"),
        ("train qqq sinusoid", "unknown algorithm 'qqq': see innerloop list algorithms"),
        ("run lake-hausdorff --out x", "--out expected a recipe that trains, got lake-hausdorff"),
    ],
)
def test_bad_input_is_told_on_one_line(fitted, capsys, line, said):
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert fitted == []
    assert told.out == ""
    assert told.err.startswith("innerloop: error: ")
    assert told.err.count("\n") == 1
    assert said in told.err


def test_an_existing_run_is_kept_without_force(fitted, capsys):
    Path("old").mkdir()
    write("old/config.json", "{}")
    assert main(["train", "maml", "sinusoid", "--out", "old"]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["train", "maml", "sinusoid", "--out", "old", "--force"]) == 0
    assert fitted[0].settings["force"] is True


def test_json_is_the_only_thing_on_stdout(fitted, capsys):
    assert main(["train", "maml", "sinusoid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["best_value"] == 0.25
    assert fitted[0].settings["quiet"] is True


def test_help_shows_the_flags_of_method_problem_and_training(fitted, capsys):
    assert main(["train", "mamlpp", "glyphs", "--help"]) == 0
    said = capsys.readouterr().out
    for flag in ("--multi-step-loss, --no-multi-step-loss", "--train-ways", "--steps", "--config", "--model"):
        assert flag in said
    assert "╭" not in said
    assert fitted == []
