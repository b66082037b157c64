"""2-D navigation: a point that finds its goal after one policy gradient (Finn et al. 2017); and how fast worlds are."""

from __future__ import annotations

from innerloop.recipes.recipe import Evaluation, Recipe, Stage

_TABLE = "Finn et al. 2017, arXiv:1703.03400, appendix, table 4 (published)"


def recipes() -> list[Recipe]:
    return [
        Recipe(
            name="navigation-maml",
            summary="2-D navigation, MAML-RL, mean return after 0, 1, 2 and 3 policy gradients of 20 episodes each.",
            source=f"{_TABLE}; training first by PPO on episodes of 40 steps is ours",
            algorithm="maml_rl",
            tasks="navigation",
            algorithm_options={"inner_lr": 0.1, "later_lr": 0.05, "inner_steps": 1, "eval_steps": 3, "outer": "trpo"},
            model="gaussian_policy",
            model_options={"hidden": (100, 100), "activation": "relu", "deviation": 0.3},
            # A goal is at most 7 steps away: what there is to learn happens in the first 40 of 100, where PPO is quick. But the
            # gradient of long episodes is another, and there PPO makes the policy worse again where trust regions do not.
            stages=(
                Stage(
                    algorithm_options={"outer": "ppo"},
                    task_options={"steps": 40},
                    training={
                        "steps": 150,
                        "outer_lr": 1.5e-3,
                        "outer_passes": 2,
                        "clip_norm": 0.5,
                        "schedule": "constant",
                        "validate_every": 0,
                    },
                ),
            ),
            training={
                "steps": 120,
                "num_tasks": 20,
                "valid_tasks": 40,
                "validate_every": 20,
                "strategy": "vmapped",
                "threads": 1,
            },
            evaluations=(),
            beside="innerloop.recipes.beside_navigation:beside",
        ),
        Recipe(
            name="half-cheetah-maml",
            summary="A MuJoCo robot that runs forwards or backwards, MAML-RL: the first twenty minutes. Extra mujoco.",
            source="Finn et al. 2017, arXiv:1703.03400, figure 5: about 300 after one step, by TRPO, of far more episodes",
            algorithm="maml_rl",
            tasks="half_cheetah",
            algorithm_options={"inner_lr": 0.1, "inner_steps": 1, "eval_steps": 3},
            model="scaled_policy",
            model_options={"gaussian": True, "hidden": (100, 100), "activation": "relu", "deviation": 0.6},
            training={
                "minutes": 20.0,
                "num_tasks": 4,
                "outer_lr": 1e-3,
                "outer_passes": 4,
                "valid_tasks": 2,
                "strategy": "vmapped",
                "threads": 1,
            },
            evaluations=(Evaluation(steps=(0, 1, 2, 3), num_tasks=8),),
        ),
        Recipe(
            name="worlds-speed",
            summary="Steps a second on one core, random actions: our worlds beside gymnasium's vector environments.",
            source="this project; no published number",
            runner="innerloop.recipes.worlds_speed:measure",
        ),
    ]
