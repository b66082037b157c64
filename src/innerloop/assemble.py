"""From names and options to a learner and its problem, in one place: what train, compare, doctor and recipes
share.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from innerloop import methods, models
from innerloop import tasks as problems
from innerloop.core import Examples, TaskFamily
from innerloop.errors import ConfigError, InnerloopWarning, InputError, nearest
from innerloop.methods.other_meta_gradient import with_meta_gradient
from innerloop.objectives import losses
from innerloop.registry import Typed, find, is_place, load
from innerloop.training.load import Again, absent, absent_network, remake
from innerloop.training.run_config import read_run_config

_TASKS_FOR_TARGETS = 2_000
_TASKS_FOR_SIZES = 32
_WAYS_OF_FEATURES = 20  # at most, as features are wide and a step's cost grows with the square of the ways


def assemble(
    algorithm: str,
    tasks: str,
    model: str | None = None,
    *,
    algorithm_options: Mapping[str, Any] | None = None,
    task_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    meta_gradient: str | None = None,
    meta_gradient_options: Mapping[str, Any] | None = None,
    seed: int = 0,
    recommended: bool = True,
    typed: bool = False,
) -> tuple[Any, TaskFamily]:
    """A fresh MetaLearner and the problem it is for.

    Args:
        algorithm: a name of `innerloop.methods.ALGORITHMS`.
        tasks: a name of `innerloop.tasks.TASKS`, or a path (`innerloop.tasks.from_path`).
        model: a name of `innerloop.models.MODELS`; None: the problem's default model. A trained network (`photos`, `timm:NAME`,
            an ONNX file) is the problem's ``embedding``, frozen, unless ``tune`` among its options makes it the model.
        algorithm_options: keyword arguments of the method's factory; they win over what is recommended.
        task_options: keyword arguments of the problem's factory.
        model_options: keyword arguments of the model, beside its input shape and output size.
        meta_gradient: a name of `innerloop.meta_gradients.META_GRADIENTS`; None: the method's own.
        meta_gradient_options: its keyword arguments.
        seed: of the initial weights: equal seeds give equal weights.
        recommended: start from `innerloop.methods.settings` for this kind of problem, not from the paper's
            defaults.
        typed: the names come from the user, so that ``package.module:name`` is imported (see `registry.find`).

    Raises:
        ConfigError: an unknown name or option, or a pairing that cannot work.
    """
    make_learner = load("algorithm", methods.NAMED, algorithm, typed=typed)
    if algorithm in methods.OPTIMIZERS:
        _check_names(f"algorithm {algorithm}", make_learner, algorithm_options or {})
        family = jobs_of(tasks, model, task_options, model_options, typed=typed)
        torch.manual_seed(seed)
        return methods.make(algorithm, None, dict(algorithm_options or {})), family
    labelled = {**problems.TASKS, **problems.STREAMS, **problems.TRAINING_RUNS}
    if algorithm in methods.GENERATIVE and (tasks in labelled or is_path(tasks, typed)):
        told = f"; for that folder: drawings --folder {tasks}" if is_path(tasks, typed) else ""
        raise ConfigError(
            f"{algorithm} expected examples without labels, {' or '.join(problems.WITHOUT_LABELS)}, got {tasks}{told}"
        )
    if model is not None and models.is_embedding(model) and not (model_options or {}).get("tune"):
        if "embedding" not in inspect.signature(_factory(tasks, typed)).parameters:
            raise ConfigError(
                f"model {model} expected pictures or texts of your own, whose features it gives, got {tasks}; see innerloop list "
                "models"
            )
        if (task_options or {}).get("embedding") not in (None, model):
            raise ConfigError(
                f"expected one trained network, got the model {model} and another embedding; leave one out"
            )
        task_options = {**(task_options or {}), "embedding": _frozen(model, model_options)}
        model, model_options = None, None
    family = problem(tasks, task_options, typed=typed)
    options, advice, kind = dict(algorithm_options or {}), {}, _kind(family)
    if recommended:
        advice = methods.settings(algorithm, kind or "classification", typed=typed)
        if kind is None:
            advice = _without_rates(algorithm, advice, make_learner, options, family)
        options = {**advice.get("algorithm", {}), **options}
        family = _with_advice(family, tasks, task_options or {}, advice.get("tasks", {}), typed)
    torch.manual_seed(seed)
    net = build_model(model, family, model_options, advice.get("model", {}), typed=typed)
    _check_names(f"algorithm {algorithm}", make_learner, options)
    if "outputs" in inspect.signature(make_learner).parameters:  # of networks that it puts behind the model
        options.setdefault("outputs", family.train.output_size)
    if (
        recommended
        and family.train.item_columns
        and kind == "regression"
        and "prior" in inspect.signature(make_learner).parameters
    ):
        options.setdefault("prior", family.train.output_size)  # what an item is for all tasks
    if recommended and "penalty" in inspect.signature(make_learner).parameters and _of_unequal_sizes(family):
        options.setdefault("penalty", "total")  # many examples may outweigh it
    _set_from_targets(make_learner, options, family)
    learner = methods.make(algorithm, net, options, typed=typed)
    if meta_gradient is not None:
        learner = with_meta_gradient(learner, meta_gradient, **(meta_gradient_options or {}))
    return learner, family


def jobs_of(
    tasks: str,
    model: str | None,
    options: Mapping[str, Any] | None,
    model_options: Mapping[str, Any] | None,
    *,
    typed: bool = False,
) -> TaskFamily:
    """The training runs of this name, of a network of this one.

    Raises:
        ConfigError: a problem that is no training run, or one whose network is given.
    """
    options = dict(options or {})
    if tasks not in problems.TRAINING_RUNS:
        raise ConfigError(
            f"expected training runs, {' or '.join(problems.TRAINING_RUNS)}, got {tasks!r}: a learned optimizer takes no others"
        )
    if model is not None:
        if "make_model" not in inspect.signature(_factory(tasks, typed)).parameters:
            raise ConfigError(f"--model expected a problem whose network can be chosen, got {tasks}; leave it out")
        options |= {"make_model": Typed(model) if typed else model, "model_options": dict(model_options or {}) or None}
    return problem(tasks, options, typed=typed)


def _kind(family: TaskFamily) -> str | None:
    """ "regression" or "classification"; None where tasks hold something else than labelled examples.

    A loss of somebody's own says neither, so the targets do.
    """
    objective = family.train.objective
    if not losses.is_labelled(objective):
        return None
    if objective is None or losses.is_own(objective):
        task = family.train.at(0, 0, 1)
        examples = (
            task.support if isinstance(task.support, Examples) else task.shared
        )  # or row numbers into what is shared
        if isinstance(examples, Examples):
            return "regression" if examples.y.is_floating_point() else "classification"
    return losses.kind_of(objective)


def _without_rates(
    algorithm: str,
    advice: Mapping[str, Any],
    make_learner: Callable[..., Any],
    given: Mapping[str, Any],
    family: TaskFamily,
) -> dict[str, Any]:
    """What is recommended whatever is learned: rates and steps for labels say nothing about another objective."""
    if "inner_lr" in advice.get("algorithm", {}) and "inner_lr" not in given:
        rate = inspect.signature(make_learner).parameters["inner_lr"].default
        objective = losses.name_of(family.train.objective) or type(family.train.objective).__name__
        warnings.warn(
            f"{algorithm} takes inner_lr {rate:g}, its default: nobody can recommend one for the objective {objective}; try "
            "others with --inner-lr",
            InnerloopWarning,
            stacklevel=3,
        )
    return {"model": advice.get("model", {})}


def _of_unequal_sizes(family: TaskFamily) -> bool:
    """Whether some training tasks have more examples in their support sets than others."""
    support = family.train.at(0, 0, _TASKS_FOR_SIZES).support
    mask = support.mask if isinstance(support, Examples) else None
    return mask is not None and mask.sum(1).unique().numel() > 1


def _frozen(model: str, options: Mapping[str, Any] | None) -> Any:
    """A trained network as the option of a problem."""
    given = {name: value for name, value in (options or {}).items() if value is not None and name != "tune"}
    return {"source": model, **given} if given else model


def _set_from_targets(make_learner: Callable[..., Any], options: dict[str, Any], family: TaskFamily) -> None:
    """Give a method the arguments that it makes from targets of the problem's training tasks, such as a histogram's borders."""
    wanted = {
        name: make for name, make in getattr(make_learner, "from_targets", {}).items() if options.get(name) is None
    }
    if wanted and family.train.num_classes is None and family.train.at(0, 0, 1).support.y.is_floating_point():
        support = family.train.at(0, 0, _TASKS_FOR_TARGETS).support
        y = support.y if support.mask is None else support.y[support.mask]
        defaults = {name: p.default for name, p in inspect.signature(make_learner).parameters.items()}
        for name, make in wanted.items():
            options[name] = make(y.flatten()[:1_000_000], {**defaults, **options})


def _with_advice(
    family: TaskFamily, tasks: str, given: Mapping[str, Any], advice: Mapping[str, Any], typed: bool
) -> TaskFamily:
    """The problem again with what the method recommends for it (more training shots, say), where nobody said
    otherwise.
    """
    known = inspect.signature(_factory(tasks, typed)).parameters
    more = {name: value for name, value in advice.items() if name in known and given.get(name) is None}
    if "train_ways" in more and family.train.num_classes is not None:
        more["train_ways"] = min(more["train_ways"], family.train.num_classes)
        if "embedding" in (family.train.preprocessing or {}):
            more["train_ways"] = min(more["train_ways"], _WAYS_OF_FEATURES)
    if not more:
        return family
    try:
        return problem(tasks, {**given, **more}, typed=typed)
    except InputError:
        if tasks in problems.NAMED:
            raise
        return family  # somebody's own data may have too little for it


def is_path(tasks: str, typed: bool = False) -> bool:
    """Whether a problem is a file or folder, and no name."""
    from innerloop.tasks import own_data

    named = is_place(tasks) or find("problem", problems.NAMED, tasks, typed=typed) is not None
    return not named and own_data.looks_like_path(tasks)


def _factory(tasks: str, typed: bool) -> Callable[..., TaskFamily]:
    """What makes the problem of this name or path."""
    from innerloop.tasks import own_data

    if is_path(tasks, typed):
        return own_data.factory_of(tasks)
    return load("problem", problems.NAMED, tasks, typed=typed)


def problem(tasks: str, options: Mapping[str, Any] | None = None, *, typed: bool = False) -> TaskFamily:
    """The problem of this name or path with these options.

    Raises:
        ConfigError: an unknown name or option, or arrays, which live in the program that made them.
        InputError: a path where there is nothing, or nothing that makes tasks.
    """
    from innerloop.tasks import own_data

    own_data.refuse_memory(tasks)
    if tasks in problems.LONG_STREAMS:
        raise ConfigError(
            f"{tasks} is one long stream and has no tasks to train on; learn it: innerloop stream la_maml {tasks}, or "
            "il.learn_stream(il.la_maml(net), stream)"
        )
    make_family = _factory(tasks, typed)
    _check_names(f"problem {tasks}", make_family, options or {})
    if not typed and (options or {}).get("embedding") is not None:
        from innerloop.models.embeddings import frozen

        frozen((options or {})["embedding"], typed=False)
    if is_path(tasks, typed):
        return own_data.from_path(tasks, **(options or {}))
    return problems.make(tasks, options or {}, typed=typed)


def problem_of(
    record: Mapping[str, Any],
    path: Path,
    tasks: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    model: str | None = None,
) -> TaskFamily:
    """The problem of a run.

    Args:
        record: the run's configuration.
        path: of the run, for messages.
        tasks: ``package.module:function`` in place of the run's own name, where no installed package offers that.
        options: in place of the run's.
        model: likewise the network that training runs train.

    Raises:
        ConfigError: the problem or its network is not here, and was not given again; or it is here and was given.
    """
    name = record["tasks"]["name"]
    if tasks is None:
        expect_problem(record, path)
    found = {**(record["tasks"].get("options") or {}), **(options or {})}
    network = absent_network(record)
    if network is not None:
        if model is None:
            raise ConfigError(
                f"the network {network!r} that {str(path)!r} trains is not here; install the package that offers it, or give it "
                f"again: --model {network if is_place(network) else 'package.module:factory'}"
            )
        found["make_model"] = Typed(model)
    return problem(name if tasks is None else tasks, found, typed=tasks is not None)


def expect_problem(record: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError where the problem of a run is not here."""
    from innerloop.tasks import own_data

    name = record["tasks"]["name"]
    own_data.refuse_memory(str(name))
    if "problem" in absent(record):
        word = name if is_place(str(name)) else "package.module:function"
        raise ConfigError(
            f"the problem {name!r} of {str(path)!r} is not here; install the package that offers it, or give it again: "
            f"--tasks {word}"
        )


def build_model(
    name: str | None,
    family: TaskFamily,
    options: Mapping[str, Any] | None = None,
    advice: Mapping[str, Any] | None = None,
    *,
    typed: bool = False,
) -> torch.nn.Module:
    """A fresh model for this problem's input shape and output size; None: the problem's default model.

    Args:
        name: a name of `innerloop.models.MODELS`.
        family: the problem.
        options: the model's arguments beside its inputs; "outputs" replaces the problem's output size.
        advice: what the method recommends where ``options`` do not say; what the model does not know is left out. ``name``
            is the model that it is for.
        typed: see `assemble`.
    """
    split = family.train
    advice = dict(advice or {})
    recommended = advice.pop("name", None)
    if (
        name is None
        and recommended is not None
        and "embedding" not in (split.preprocessing or {})
        and not split.item_columns
    ):
        name = recommended
    if name is None:
        if options:
            raise ConfigError(f"expected a model's name beside its options, got options {sorted(options)} alone")
        model = split.default_model()
        spec = models.describe(model)
        known = {} if spec is None else _known(spec["name"], advice)
        if spec is None or not known:
            return model
        return _prepared(models.build(spec["name"], {**spec["arguments"], **known}), split)
    if models.is_embedding(name):
        from innerloop.models.embeddings import pretrained

        return pretrained(name, **(options or {}))
    make_model = load("model", models.NAMED, name, typed=typed)
    of_problem = _known(name, getattr(split, "model_options", {}), typed)
    given = {**_known(name, advice or {}, typed), **of_problem, **(options or {})}
    outputs = given.pop("outputs", split.output_size)
    _check_names(f"model {name}", make_model, {key: v for key, v in given.items() if key not in of_problem})
    return _prepared(models.fitting(name, tuple(split.input_shape), outputs, given, typed=typed), split)


def _prepared(net: torch.nn.Module, tasks: Any) -> torch.nn.Module:
    """The model as these tasks begin with it, where they have a word in that."""
    return tasks.prepared(net) if hasattr(tasks, "prepared") else net


def _known(model: str, advice: Mapping[str, Any], typed: bool = False) -> dict[str, Any]:
    """Of these arguments those that the model has."""
    parameters = inspect.signature(load("model", models.NAMED, model, typed=typed)).parameters
    return {name: value for name, value in advice.items() if name in parameters}


def from_run(
    path: Path, *, model: str | None = None, learner: str | None = None, tasks: str | None = None
) -> tuple[Any, TaskFamily, dict[str, Any]]:
    """(fresh learner, problem, training settings) of a run directory, as they were before its first step.

    Args:
        path: the run.
        model, learner, tasks: ``package.module:name`` of its parts, where no installed package offers them; see
            `training.load.load`.

    Raises:
        CheckpointError: no config.json there, or one that is damaged or of a newer version; or the run's learner or model is
            somebody's own, and not here.
        ConfigError: its problem is not here.
    """
    record = read_run_config(path)
    family = problem_of(record, path, tasks, model=model)
    training = dict(record["training"])
    torch.manual_seed(training.get("seed", 0))
    return remake(record, path, Again(model=model, learner=learner, tasks=tasks)), family, training


def _check_names(owner: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.default is not p.empty]
    for name in options:
        if name not in known:
            raise ConfigError(f"{owner} has no option {name!r}: {nearest(name, known)}")
