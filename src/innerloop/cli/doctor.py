"""`innerloop doctor`: is the meta-gradient right on this model? Exit code 2 where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from innerloop.cli import given_again, output, parts, program
from innerloop.cli.boundary import MENDABLE
from innerloop.cli.listing import offered, registry_of
from innerloop.errors import ConfigError, InnerloopError
from innerloop.registry import find


def doctor(argv: Sequence[str]) -> int:
    return program.run("doctor", _doctor, argv)


def _doctor(
    model_or_run: str,
    /,
    *,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    num_tasks: int = 2,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """Compare the meta-gradient of the plain loop, of vmap and of float64 finite differences.

    Args:
        model_or_run: a run directory, or a name of `innerloop list models`.
        algorithm: the method, where a model's name is given; left out: maml. With a run, tasks and model too: its own, given
            again as package.module:name, where no installed package offers it.
        tasks: the problem, where a model's name is given; left out: the first whose inputs the model takes.
        model: see algorithm.
        num_tasks: tasks in the batch that is tried.
        seed: of weights and tasks.
        device: cpu, auto (a GPU where there is one), cuda, cuda:1 or mps, of which doubles are computed on the CPU.
        json: print one JSON object and nothing else.
    """
    if num_tasks < 1:
        raise ConfigError(f"--num-tasks expected an integer of at least 1, got {num_tasks}")
    if Path(model_or_run).is_dir():
        from innerloop import load
        from innerloop.assemble import problem_of
        from innerloop.training.run_config import read_run_config

        run = Path(model_or_run)
        again = given_again.checked(run, algorithm=algorithm, tasks=tasks, model=model)
        learner: Any = load(run, **again)
        family = problem_of(read_run_config(run), run, again.get("tasks"), model=again.get("model"))
    else:
        models = registry_of("models")
        if find("model", models, model_or_run, typed=True) is None:
            hint = program.closest(model_or_run, offered("models"), "see innerloop list models")
            raise ConfigError(f"expected a run directory or a model, got {model_or_run!r}: {hint}")
        if model is not None:
            raise ConfigError(
                f"--model expected a run directory before it, got the model {model_or_run!r}; leave it out"
            )
        algorithm = parts.known("algorithm", algorithm or "maml")
        learner, family = _built(model_or_run, algorithm, tasks, seed)
    from innerloop import check_meta_gradient
    from innerloop.training.placement import device_of

    diagnosis = check_meta_gradient(learner.to(device=device_of(device)), family.train.at(seed, 0, num_tasks))
    if json:
        output.print_json({"right": diagnosis.right, **output.plain(diagnosis)})
    else:
        print(diagnosis)
    return 0 if diagnosis.right else MENDABLE


def _built(model: str, algorithm: str, tasks: str | None, seed: int) -> Any:
    """(learner, family) on the problem asked for, or on the first that the model can read."""
    import torch

    from innerloop.assemble import assemble

    if tasks is not None:
        return assemble(algorithm, parts.known("tasks", tasks), model, seed=seed, typed=True)
    for name in ("sinusoid", "glyphs"):
        try:
            learner, family = assemble(algorithm, name, model, seed=seed, typed=True)
            with torch.no_grad():
                learner.model(family.train.at(seed, 0, 1).support.x[0])
            return learner, family
        except (InnerloopError, RuntimeError, TypeError):
            continue
    raise ConfigError(f"expected --tasks with the model {model}, got none: it reads neither sinusoid nor glyphs")
