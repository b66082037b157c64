"""How a learner's error on the official runs is counted, on made-up runs of as many classes."""

import torch

import innerloop as il
from innerloop.data.lake_runs import LakeRuns
from innerloop.recipes import RECIPES, lake_errors
from innerloop.recipes.result_rows import protocol


def test_a_learner_that_compares_pixels_finds_what_is_the_same(monkeypatch):
    pictures = torch.randint(0, 256, (2, 20, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    answers = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(run)) for run in range(2)])
    test = torch.stack([pictures[run, answers[run]] for run in range(2)])
    wrong = answers.clone()
    wrong[0, :5] = (wrong[0, :5] + 1) % 20  # five of forty answers are others than the pictures say
    monkeypatch.setattr(lake_errors, "load_lake_runs", lambda size: LakeRuns(pictures, test, wrong))
    learner = il.protonet(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64)))
    found = lake_errors.error_of(learner, 8)
    assert found.error == 5 / 40 and found.per_run == (0.25, 0.0) and found.trials == 40


def test_the_recipes_train_on_what_they_say_and_choose_no_weights():
    for name, split in (("lake-protonet", "background"), ("lake-minimal1-protonet", "minimal1")):
        recipe = RECIPES[name]
        assert protocol(recipe)["split"] == split and recipe.task_options["valid_alphabets"] == 0
        assert recipe.training["validate_every"] == 0
