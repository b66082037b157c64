"""glyphs 5-way 1-shot: all methods on the built-in pictures, a few minutes each on one core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innerloop.recipes.recipe import Evaluation, Recipe

_TASKS = {"ways": 5, "shots": 1, "queries": 5, "train_queries": 1}
_ADAM = {"outer_lr": 3e-3, "schedule": "cosine", "num_tasks": 8}
_MANY_SHOTS = {"train_shots": 10, "train_queries": 1}


def _glyphs(
    algorithm: str,
    options: Mapping[str, Any],
    training: Mapping[str, Any],
    tasks: Mapping[str, Any] = {},
    model: Mapping[str, Any] = {},
    net: str = "conv4",
) -> Recipe:
    """One method, with as many outer steps as about two minutes on one core allow, validated four times."""
    return Recipe(
        name=f"glyphs-5w1s-{algorithm.replace('_', '-')}",
        summary=f"glyphs 5-way 1-shot, {algorithm}, about two minutes on one core.",
        source="this project; no published number",
        algorithm=algorithm,
        tasks="glyphs",
        algorithm_options=options,
        task_options={**_TASKS, **tasks},
        model=net,
        model_options={**({"filters": 32} if net == "conv4" else {}), **model},
        training={"valid_tasks": 50, "validate_every": max(1, training["steps"] // 4), "threads": 1, **training},
        evaluations=(Evaluation(num_tasks=600),),
    )


def recipes() -> list[Recipe]:
    one_step = {"inner_lr": 0.4, "inner_steps": 1}
    one_task = {**_ADAM, "num_tasks": 1}
    many_ways = {"train_ways": 20, "train_queries": 5}
    embedding = {"outputs": None, "downsample": "max_pool"}
    # Networks that learn to read a support set: at a higher rate they stay where all answers are alike.
    gently = {**_ADAM, "outer_lr": 1e-3, "clip_norm": 1.0}
    return [
        _glyphs("maml", {**one_step, "eval_steps": 3}, {**_ADAM, "steps": 500}),
        _glyphs("fomaml", {**one_step, "eval_steps": 3}, {**_ADAM, "steps": 800}),
        _glyphs("anil", {"inner_lr": 0.4, "inner_steps": 3}, {**_ADAM, "steps": 800}),
        _glyphs("boil", one_step, {**_ADAM, "steps": 500}),
        _glyphs("meta_sgd", {"rate_low": 0.1, "rate_high": 0.5}, {**_ADAM, "steps": 500}),
        _glyphs("mamlpp", {"inner_lr": 0.2, "inner_steps": 3, "phase_steps": 15}, {**_ADAM, "steps": 200}),
        _glyphs(
            "reptile",
            {
                "inner_lr": 1e-3,
                "inner_steps": 8,
                "inner_batch": 10,
                "eval_batch": 5,
                "eval_steps": 50,
                "second_moments": "kept",
            },
            {"steps": 120, "num_tasks": 5, "strategy": "vmapped"},
            _MANY_SHOTS,
        ),
        _glyphs(
            "imaml",
            {"inner_lr": 0.3, "inner_steps": 5, "cg_steps": 3, "strength": 0.5, "eval_strength": 0.0},
            {**_ADAM, "num_tasks": 4, "steps": 250},
        ),
        _glyphs("protonet", {}, {**one_task, "outer_lr": 1e-2, "steps": 700}, many_ways, embedding),
        _glyphs("matching", {"scale": 10.0}, {**one_task, "outer_lr": 1e-2, "steps": 600}, many_ways, embedding),
        _glyphs(
            "relation",
            {},
            {**one_task, "steps": 400},
            {"train_ways": 20, "train_queries": 2},
            {**embedding, "halvings": 2, "spatial": "map"},
        ),
        _glyphs("siamese", {"pairs": 1_024}, {**one_task, "outer_lr": 1e-2, "steps": 600}, many_ways, embedding),
        _glyphs(
            "mann",
            {"sharpen": True, "memory_rows": 16, "units": 128, "whole_sequence": False},
            {**_ADAM, "outer_lr": 2e-3, "num_tasks": 32, "steps": 1_600, "clip_norm": 10.0},
            {"train_queries": 2},
            {"outputs": None, "hidden": (128,), "batch_norm": True, "activation": "tanh"},
            "mlp",
        ),
        _glyphs(
            "metanet",
            {"groups": 1, "adapt": ["body.9.weight"]},
            {**_ADAM, "outer_lr": 2e-3, "num_tasks": 4, "steps": 600, "clip_norm": 10.0},
            {"train_queries": 3},
            {**embedding, "norm": "none"},
        ),
        _glyphs(
            "snail",
            {"max_examples": 5, "filters": 32, "keys": (32, 64, 64), "values": (32, 64, 64)},
            {**_ADAM, "steps": 600, "strategy": "vmapped"},
            {"train_queries": 2},
            embedding,
        ),
        _glyphs(
            "lstm_metalearner",
            {"inner_steps": 5},
            {**_ADAM, "rule_lr": 2e-2, "clip_norm": 1.0, "num_tasks": 4, "steps": 180},
            model={"filters": 16},
        ),
        _glyphs("r2d2", {}, {**one_task, "outer_lr": 1e-2, "steps": 600}, many_ways, embedding),
        _glyphs(
            "proto_maml",
            {"inner_lr": 0.1, "inner_steps": 2},
            {**_ADAM, "outer_lr": 5e-3, "num_tasks": 4, "steps": 450},
            {"train_queries": 3},
            embedding,
        ),
        _glyphs("cnp", {}, {**_ADAM, "steps": 500}, {"train_queries": 2}, embedding),
        _glyphs(
            "anp",
            {"score_support": False, "latent": False, "self_attention": 0, "init": "glorot"},
            {**gently, "steps": 1_200},
            {"train_queries": 5},
            {"outputs": None},
        ),
        _glyphs("pfn", {"depth": 2}, {**gently, "steps": 1_100}, {"train_queries": 5}, {"outputs": None}),
        _glyphs("pretrained", {"inner_lr": 1.0, "inner_steps": 10, "adapt": "head"}, {**_ADAM, "steps": 1_000}),
        _glyphs(
            "multitask_average",
            {"inner_lr": 1e-3, "inner_steps": 30, "eval_steps": 50},
            {"steps": 30, "num_tasks": 5, "strategy": "vmapped"},
            _MANY_SHOTS,
        ),
        _glyphs(
            "scratch", {"inner_lr": 1e-3, "inner_steps": 50, "inner_optimizer": "adam"}, {"steps": 1, "num_tasks": 1}
        ),
    ]
