"""`innerloop train`: one set of flags for each method and problem, made from their factories' signatures."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from innerloop.allocation import keeps
from innerloop.cli import config_file, given_again, output, parts, seeds
from innerloop.cli.boundary import GIVES_BACK, INTERRUPTED, Stop, say
from innerloop.cli.listing import offered
from innerloop.cli.options import arity, own_flags, sections
from innerloop.cli.program import closest, dashed, existing_folder, is_flag, run, split
from innerloop.errors import ConfigError, InputError
from innerloop.training import launch
from innerloop.training.seeds import has_seeds, parse_seeds, read_seeds

_HELP = """Usage: innerloop train ALGORITHM TASKS [--steps N --seed S --ways N --shots K --queries Q ...]
       innerloop train ALGORITHM TASKS --seeds 0,1,2 [...]
       innerloop train --resume RUN

Meta-train a method on a problem. The flags are the method's, the problem's and the training's:
see innerloop train ALGORITHM --help and innerloop train ALGORITHM TASKS --help.

Algorithms: {algorithms}
Tasks: {tasks}; or the path of your own: a folder of class folders, a .zip of it, a table
Either may also be a function of your own, as package.module:function."""


def train(argv: Sequence[str]) -> int:
    """Find the names, build the flags that belong to them, parse, train."""
    words, own = dashed(argv), own_flags(_train)
    if "--resume" in words or any(w.startswith("--resume=") for w in words):
        _keeps_settings(words, own)
        return run("train", resume, words)
    algorithms, tasks = offered("algorithms"), offered("tasks")
    if words and words[0] in ("--help", "-h"):
        print(_HELP.format(algorithms=", ".join(algorithms), tasks=", ".join(tasks)))
        return 0
    names, _ = split(words, {**_training_flags(own), **own}, 1, algorithms)
    if not names:
        raise ConfigError("expected ALGORITHM and TASKS, got no names; for example: innerloop train maml sinusoid")
    algorithm = parts.known("algorithm", names[0])
    if words[0] == algorithm and len(words) > 1 and not words[1].startswith("-"):
        parts.known("tasks", words[1])  # the usual order: a wrong name is told before torch is loaded
    file, more = _prescan(words)
    about: dict[str, str | None] = {"training": "", "algorithm": algorithm, **more}
    names, rest = split(words, {**parts.parts(about, own).arity(), **own}, 2, [algorithm, *tasks])
    if len(names) < 2 and not {"--help", "-h"} & set(words):
        usage = f"for example: innerloop train {algorithm} sinusoid"
        raise ConfigError(f"expected TASKS after {algorithm}, got nothing; {usage}")
    problem = parts.known("tasks", names[1]) if len(names) > 1 else None
    about = {"training": "", "algorithm": algorithm, "tasks": problem, **more}
    made = parts.parts(about, own)
    hint = "" if problem else f"\n\nA problem has flags of its own: innerloop train {algorithm} TASKS --help."
    chosen = {part: name for part, name in about.items() if name}
    typed = shlex.join(["innerloop", "train", *argv])
    doc = f"Meta-train {algorithm}: {parts.summary('algorithm', algorithm)}{hint}"
    command = made.command(_train, chosen, file, made, typed, doc=doc)
    return run(" ".join(["train", algorithm, problem or "TASKS"]), command, rest)


def _keeps_settings(words: Sequence[str], own: Collection[str]) -> None:
    """Refuse flags that would change a run that goes on."""
    known = ["--resume", "--quiet", "--no-quiet", "--json", "--no-json", "--help", *given_again.FLAGS.values()]
    settings = {*_training_flags(own), *own}
    for word in words[: words.index("--")] if "--" in words else words:
        name = word.partition("=")[0]
        if not is_flag(word) or name in (*known, "-h"):
            continue
        if name in settings or not closest(name, known, ""):
            raise ConfigError(
                f"a resumed run keeps its settings, got {name}; leave it out, or train a new run without --resume"
            )


def _training_flags(own: Collection[str]) -> dict[str, int | None]:
    """How many words follow the flags that every method has; known without torch."""
    return arity(sections([("training", "", parts.part_options("training", None))], own))


def _prescan(words: Sequence[str]) -> tuple[config_file.File | None, dict[str, str | None]]:
    """The config file; and the names of the model and the meta-gradient, which decide what other flags there are."""
    path = parts.value_of(words, "--config")
    file = config_file.read(Path(path)) if path is not None else None
    found: dict[str, str | None] = {}
    for part, flag in (("model", "--model"), ("meta_gradient", "--meta-gradient")):
        name = typed = parts.value_of(words, flag)
        if name is None and file is not None:
            name = config_file.part_name(file, part)
        found[part] = None if name is None else parts.known(part, name, typed=typed is not None)
    return file, found


def _train(
    names: dict[str, str],
    file: config_file.File | None,
    made: parts.Parts,
    typed: str,
    records: dict[str, Any],
    /,
    *,
    model: str | None = None,
    meta_gradient: str | None = None,
    out: Path | None = None,
    config: Path | None = None,
    seeds: str | None = None,
    force: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Train a method; ``names`` are those of the parts that have one.

    Args:
        model: A name of `innerloop list models`, or package.module:factory; or, before pictures and texts of your own, a trained
            network: a name of `innerloop list embeddings`, timm:NAME, an ONNX file or one of weights. Left out: the problem's.
        meta_gradient: Another estimator of the meta-gradient, a name of `innerloop list meta-gradients`; left out: the method's
            own.
        out: The run directory; left out: runs/ALGORITHM-TASKS-seedN.
        config: A YAML, TOML or config.json file of settings: tables algorithm, tasks, training, model; or keys that only one of
            them has. Flags win over the file.
        seeds: Several seeds, 0,1,2: a run of each in OUT/seed-0, OUT/seed-1, ...; --minutes is then the time of all together.
        force: Overwrite an existing run directory.
        quiet: No progress bar.
        json: Print one JSON object about the run, and nothing else.
    """
    del model, meta_gradient, config  # read before: they say what other flags there are
    algorithm = names["algorithm"]
    if "tasks" not in names:
        raise ConfigError(f"expected TASKS after {algorithm}, got nothing; see innerloop list tasks")
    merged = made.merged(records, file, names)
    settings = merged.get("training", {})
    if seeds is not None:
        if "seed" in records.get("training", {}):
            raise ConfigError("expected --seed or --seeds, got both; leave one out")
        return _train_seeds(merged, names, seeds, out, force, quiet, json, typed)
    from innerloop.training.config import TrainConfig

    checked = TrainConfig(**settings)  # wrong numbers are told before any data is read
    other = names.get("meta_gradient")
    method = parts.short(algorithm) if other is None else f"{parts.short(algorithm)}-{other}"
    out = out or Path("runs") / f"{method}-{parts.short(names['tasks'])}-seed{checked.seed}"
    if launch.size() == 1:
        _expect_new(out, force)  # told before torch is loaded
    from innerloop import fit
    from innerloop.training.distributed import joined
    from innerloop.training.placement import device_of

    with joined() as group:
        with group.together():
            if group.leads:  # it makes the directory, maybe before the others look
                _expect_new(out, force)
            device_of(checked.device)  # told before any data is read
            learner, family = parts.assembled(names, merged, checked.seed, typed=True)
        result = fit(learner, family, out=out, force=force, quiet=quiet or json, command=typed, **settings)
    return told(result, out, json)


def _train_seeds(
    merged: dict[str, dict[str, Any]],
    names: dict[str, str],
    text: str,
    out: Path | None,
    force: bool,
    quiet: bool,
    as_json: bool,
    typed: str,
) -> int:
    from innerloop.training.config import TrainConfig

    chosen = parse_seeds(text)
    if launch.size() > 1:
        raise ConfigError(f"--seeds expected one process, got {launch.size()}; train seed by seed, with --seed")
    config = TrainConfig(**{**merged.get("training", {}), "seed": chosen[0]})  # wrong numbers are told before the work
    from innerloop.training.placement import device_of

    device_of(config.device)
    method = "-".join(names[part] for part in ("algorithm", "meta_gradient") if part in names)
    out = out or Path("runs") / f"{method}-{parts.short(names['tasks'])}-seeds{'-'.join(map(str, chosen))}"
    return seeds.train(seeds.begin(out, chosen, merged, names, force, typed), quiet, as_json)


def _expect_new(out: Path, force: bool) -> None:
    """Refuse a run directory that is in use, unless torchrun may have started this process again to go on there."""
    output.folder(out)
    if (out / "config.json").exists() and not force and not launch.restarts():
        raise InputError(f"expected a new run directory, got the existing {str(out)!r}; add --force or another --out")


def resume(
    *,
    resume: Path,
    algorithm: str | None = None,
    tasks: str | None = None,
    model: str | None = None,
    quiet: bool = False,
    json: bool = False,
) -> int:
    """Continue an interrupted run, to the same result as if it had not been.

    Args:
        resume: the run directory.
        algorithm, tasks, model: the run's own, given again as package.module:name; where no installed package offers it.
        quiet: no progress bar.
        json: print one JSON object about the run, and nothing else.
    """
    if has_seeds(resume):
        if launch.size() > 1:
            raise ConfigError(
                f"expected one process for the runs of several seeds, got {launch.size()}; leave torchrun out"
            )
        again = {"algorithm": algorithm, "tasks": tasks, "model": model}
        return seeds.train(read_seeds(resume), quiet, json, again)
    from innerloop import fit
    from innerloop.assemble import from_run
    from innerloop.training.distributed import joined
    from innerloop.training.placement import going_on

    command = shlex.join(["innerloop", "train", "--resume", str(resume)])
    with joined() as group:
        with group.together():
            existing_folder(resume, "a run directory", "see the folders that `innerloop train` made")
            again = given_again.checked(resume, algorithm=algorithm, tasks=tasks, model=model)
            learner, family, config = from_run(resume, **again)
            config["device"], moved = going_on(config.get("device", "cpu"))
        if moved and group.leads:
            say(f"note: {moved}")
        result = fit(learner, family, out=resume, resume=True, quiet=quiet or json, command=command, **config)
    return told(result, resume, json)


def _better_baseline(result: Any) -> str:
    """A sentence where a baseline that needs no training is better on the validation tasks."""
    from innerloop.objectives.losses import HIGHER_IS_BETTER

    sign = 1.0 if HIGHER_IS_BETTER.get(result.metric, True) else -1.0
    name = max(result.baselines, key=lambda name: sign * result.baselines[name], default="")
    if not name or sign * result.baselines[name] <= sign * result.best_value:
        return ""
    return (
        f"the baseline {name} needs no training and reaches {result.baselines[name]:.4f} on the same tasks: train longer, "
        f"or try another method"
    )


def _part(out: Path, part: str) -> str:
    """The name of a run's method or problem; nothing where the run cannot be read."""
    from innerloop.training.run_config import read_run_config

    with contextlib.suppress(InputError):
        return read_run_config(out)[part]["name"]
    return ""


def used(out: Path) -> str:
    """What to do with a run, in a line."""
    from innerloop.methods import OPTIMIZERS
    from innerloop.tasks import WORLDS

    if _part(out, "algorithm") in OPTIMIZERS:
        return f"in Python: il.Optimizer({str(out)!r}, model.parameters(), num_steps=...)"
    run_directory = shlex.quote(str(out))
    if _part(out, "tasks") in WORLDS:
        return f"innerloop adapt {run_directory} --world 0 --out agent.il    (one new world; --env for one of your own)"
    return f"innerloop adapt {run_directory} SUPPORT --out task.il    (one new task of your own)"


def told(result: Any, out: Path, as_json: bool) -> int:
    """Print what a training run came to, where it is, and what to do with it next; of several processes, one prints."""
    from innerloop.tasks import STREAMS

    interrupted = result.stopped == "interrupted"
    if launch.rank() > 0:
        if interrupted:
            raise Stop(INTERRUPTED)
        return 0
    has_best = result.best_value is not None and result.best_step is not None
    if as_json:
        keys = ("steps", "best_step", "best_value", "metric", "stopped", "wall_seconds", "baselines")
        output.print_json({"run": str(out), **{key: getattr(result, key) for key in keys}})
    else:
        end = {"early": ", stopped early", "interrupted": ", interrupted"}.get(result.stopped, "")
        kept = f" (freed memory was kept for the next step; {GIVES_BACK} gives it back)" if keeps() else ""
        print(f"{result.steps} outer steps in {result.wall_seconds:.1f} s{end}{kept}")
        if has_best:
            print(f"best validated {result.metric} {result.best_value:.4f} at step {result.best_step}")
            worse = _better_baseline(result)
            if worse:
                print(worse)
        print(f"run directory: {out}")
        if not interrupted:
            judge = "stream" if _part(out, "tasks") in STREAMS else "evaluate"
            print(f"next: innerloop {judge} {shlex.quote(str(out))}")
            print(f"      innerloop report {shlex.quote(str(out))}")
            print(f"      {used(out)}")
    if interrupted:
        say(f"stopped by Ctrl-C; continue with: innerloop train --resume {shlex.quote(str(out))}")
        raise Stop(INTERRUPTED)
    return 0
