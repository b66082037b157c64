"""Policies in worlds: RL^2 on bandits and on decision processes, beside players who know what such worlds are like."""

from __future__ import annotations

from innerloop.recipes.recipe import Recipe, Stage

_PAPER = "Duan et al. 2016, arXiv:1611.02779, as Mishra et al. 2018, arXiv:1707.03141, print it"


def recipes() -> list[Recipe]:
    """Bandits of 10 and of 100 pulls, decision processes of 10 and of 25 episodes."""
    here = "innerloop.recipes.beside_agents"
    training = {"schedule": "linear", "threads": 1, "strategy": "vmapped", "clip_norm": 1.0, "valid_tasks": 1_000}
    short = Recipe(
        name="bandits-10-5-rl2",
        summary="RL^2 on Bernoulli bandits, 5 arms, 10 pulls.",
        source=_PAPER,
        algorithm="rl2",
        tasks="bandits",
        algorithm_options={"entropy": 0.03},
        task_options={"arms": 5, "pulls": 10},
        model="gru_policy",
        model_options={"hidden": 32},
        training={
            **training,
            "steps": 480,
            "num_tasks": 1024,
            "outer_lr": 0.01,
            "outer_passes": 8,
            "validate_every": 120,
        },
        evaluations=(),
        beside=f"{here}:beside_bandits",
        published="6.7",
    )
    # The paper's trace, 0.3, tells an action little of what it is worth 90 pulls later: training stood still at 64.
    long = Recipe(
        name="bandits-100-5-rl2",
        summary="RL^2 on Bernoulli bandits, 5 arms, 100 pulls, after 10 and 30.",
        source=_PAPER,
        algorithm="rl2",
        tasks="bandits",
        algorithm_options={"entropy": 0.02, "trace": 0.95, "value": 20.0},
        task_options={"arms": 5, "pulls": 100},
        model="gru_policy",
        model_options={"hidden": 48},
        stages=(
            Stage(task_options={"pulls": 10}, training={"steps": 250, "outer_lr": 0.01, "schedule": "constant"}),
            Stage(task_options={"pulls": 30}, training={"steps": 150, "outer_lr": 7e-3, "schedule": "constant"}),
        ),
        training={
            **training,
            "steps": 1_000,
            "num_tasks": 512,
            "outer_lr": 4e-3,
            "outer_passes": 4,
            "valid_tasks": 500,
            "validate_every": 100,
        },
        evaluations=(),
        beside=f"{here}:beside_bandits",
        published="78.7",
    )
    # Returns of ten steps and more tell next to nothing of one action, and training stands still at a random policy's 1 a step.
    # So what an action brings at once is learned first, then what it brings in a few steps.
    processes = [
        Recipe(
            name=f"mdp-{episodes}-rl2",
            summary=f"RL^2 on decision processes of 10 states and 5 actions, {episodes} episodes of 10 steps; discounts grow.",
            source=_PAPER,
            algorithm="rl2",
            tasks="tabular_mdp",
            algorithm_options={"entropy": 0.01, "discount": 0.9},
            task_options={"episodes": episodes},
            model="gru_policy",
            model_options={"hidden": 64},
            stages=(
                Stage(
                    algorithm_options={"discount": 0.3},
                    task_options={"episodes": 10},
                    training={"steps": 75, "num_tasks": 256, "outer_lr": 0.01, "schedule": "constant"},
                ),
                Stage(
                    algorithm_options={"discount": 0.8},
                    training={"steps": 200, "outer_lr": 0.01, "schedule": "constant"},
                ),
            ),
            training={
                **training,
                "steps": 300,
                "num_tasks": num_tasks,
                "outer_lr": 5e-3,
                "outer_passes": 8,
                "validate_every": 50,
            },
            evaluations=(),
            beside=f"{here}:beside_processes",
            published=published,
        )
        for episodes, num_tasks, published in ((10, 256, ".752"), (25, 128, ".859"))
    ]
    return [short, long, *processes]
