"""Training jobs: each task is one run of a training loop, with first weights and batches of its own."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from innerloop import keys as random_keys
from innerloop import models
from innerloop.core import Examples, Task, TaskDistribution, TaskFamily
from innerloop.data.arrays import as_tensor
from innerloop.data.mnist_files import mnist_training_examples
from innerloop.errors import ConfigError, InputError, ShapeError, expect_whole, first_line, nearest
from innerloop.functional import PureModel, convert
from innerloop.objectives import losses
from innerloop.objectives.training_run import Begin, Judged, TrainingRun, labels_of
from innerloop.registry import Typed, plain, writable
from innerloop.tasks.in_memory import IN_MEMORY

_STEPS, _WEIGHTS, _QUERIES, _NOISE = range(1, 5)
_ALIKE = 4  # held-out runs of a network that follow one another, where a family has several
NAMED_DATA = ("mnist",)
MakeModel = Callable[[], nn.Module]
DrawData = Callable[[Int64[Tensor, " tasks"]], Examples]  # a run's own examples, by its key


class TrainingJobs(TaskDistribution):
    """One split of a family of training runs; see `training_jobs`.

    Args:
        make_model: a fresh network with random weights; each of the family's.
        objective: with the network as a function, and how many rows are trained on; likewise.
        data: what all runs of a network share, rows that are trained on first; or a function that draws each run's own; likewise.
        horizon: the fewest and the most steps of a run; held-out runs have the most.
        queries: rows that a run is judged on.
    """

    name: str
    split: str
    data: Examples | DrawData
    objective: TrainingRun
    horizon: tuple[int, int]
    queries: int

    def __init__(
        self,
        *,
        name: str,
        split: str,
        make_model: Sequence[MakeModel],
        objective: Sequence[TrainingRun],
        data: Sequence[Examples | DrawData],
        horizon: tuple[int, int],
        queries: int,
    ) -> None:
        self.name, self.split, self.data = name, split, data[0]
        self.networks: tuple[tuple[MakeModel, TrainingRun, Examples | DrawData], ...] = tuple(
            zip(make_model, objective, data, strict=True)
        )
        self.objective, self.horizon, self.queries = objective[0], horizon, queries
        self.metrics: tuple[str, ...] = tuple(self.objective.metrics)
        self.inner_steps: int = horizon[1]  # of held-out runs
        self.alike = _ALIKE if len(self.networks) > 1 and split != "train" else None

    def from_keys(self, keys: Int64[Tensor, " tasks"]) -> Task:
        """The runs of these keys; ``weights`` are what ``make_model`` draws with torch seeded by the key."""
        return self._runs(keys, 0)

    def at(
        self, seed: int, step: int, num_tasks: int, start: int = 0, device: torch.device | str | None = None
    ) -> Task:
        """Runs of one network: training steps take the family's in turn, and so do held-out runs, four after another.

        Raises:
            ConfigError: held-out runs of more than one network, which no batch can hold (``alike`` of one follow one another).
        """
        keys = random_keys.task_keys(seed, self.split, step, start, num_tasks).to(device)
        if self.split == "train":
            return self._runs(keys, step % len(self.networks))
        if self.alike is None:
            return self._runs(keys, 0)
        most = self.alike - start % self.alike
        if num_tasks > most:
            raise ConfigError(
                f"expected runs of one network in a batch, got {num_tasks} from number {start} on, of several; take {most}"
            )
        return self._runs(keys, start // self.alike % len(self.networks))

    def batches(
        self,
        num_tasks: int,
        seed: int = 0,
        start: int = 0,
        *,
        first: int = 0,
        device: torch.device | str | None = None,
    ) -> Iterator[Task]:
        """As of all problems, one step at a time."""
        return (self.at(seed, step, num_tasks, first, device) for step in itertools.count(start))

    def _runs(self, keys: Int64[Tensor, " tasks"], which: int) -> Task:
        make_model, objective, data = self.networks[which]
        drawn = fresh_weights(make_model, random_keys.fold(keys, _WEIGHTS).tolist())
        weights = {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}
        low, high = self.horizon if self.split == "train" else (self.horizon[1], self.horizon[1])
        between = random_keys.uniform(keys, (), _STEPS, torch.float64)
        steps = (low * ((high + 1) / low) ** between).long().clamp(low, high)
        noise, own, rows, shared = random_keys.fold(keys, _NOISE), None, None, None
        if isinstance(data, Examples):
            shared = data
            held = len(shared.y) - objective.rows
            first, number = (objective.rows, held) if held else (0, len(shared.y))
            rows = first + random_keys.integers(keys, number, (min(self.queries, number),), _QUERIES)
        else:
            own = data(keys)
        return Task(
            support=Begin(weights, steps, own),
            query=Judged(rows, own),
            objective=objective,
            noise=noise,
            shared=shared,
        )

    def default_model(self) -> nn.Module:
        """A network such as the runs train."""
        return self.networks[0][0]()


def fresh_weights(make_model: MakeModel, seeds: Sequence[int]) -> list[dict[str, Tensor]]:
    """The first weights of some runs: what the network draws with torch seeded so; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        return [_seeded(make_model, seed) for seed in seeds]


def _seeded(make_model: MakeModel, seed: int) -> dict[str, Tensor]:
    torch.default_generator.manual_seed(seed)
    return {name: p.detach() for name, p in make_model().named_parameters() if p.requires_grad}


def training_jobs(
    make_model: str | MakeModel | Mapping[str, Any] | Sequence[str | MakeModel | Mapping[str, Any]] = "mlp",
    data: str | Any = "mnist",
    *,
    batch: int | None = 128,
    horizon: int | Sequence[int] = 100,
    loss: Any = None,
    queries: int = 512,
    held_out: float = 0.2,
    size: int | Sequence[int] | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> TaskFamily:
    """Your training runs as tasks: what is learned across them is how to train.

    A task is one run: first weights and batches from its key; the data stands once in `Task.shared`. Training, validation and
    test runs have other keys. Batches are drawn with replacement from the rows that are trained on; a run is judged
    (``end``, ``accuracy``) on rows that no run trains on, the same rows for all splits.

    Args:
        make_model: a function without arguments that returns a fresh network, or a name of `innerloop.models.MODELS`, made for
            the data's shapes, or such a name with arguments: {"name": "mlp", "hidden": [20]}. Several: the outer steps take them
            in turn, held-out runs are of the first. Batch norm uses the statistics of the batch at hand.
        data: (x, y), tensors or arrays (rows, ...); a torch Dataset of pairs; "mnist", the 60,000 training digits as floats in
            [0, 1] from INNERLOOP_DATA; or a function from the runs' keys (tasks,) to their own `Examples` (tasks, rows, ...).
        batch: examples in a step; None: all of a run's own.
        horizon: steps of a run; a pair: log-uniform between the two, while held-out runs have the most.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for integer and mean squared error for floating
            targets.
        queries: on how many held-out rows a run is judged, drawn by its key.
        held_out: the share of rows that no run trains on; 0: runs are judged on rows that they may have trained on.
        size: "mnist" alone: height and width, average-pooled; a list: of each network's pictures; None: 28.
        model_options: arguments of a model by name.

    Raises:
        InputError: data that is not there, is not finite, or has other than one target a row.
        ConfigError: a horizon, batch, share or name that cannot be; a network that cannot take the data.

    Example:
        >>> import torch, innerloop as il
        >>> x, y = torch.randn(100, 4), torch.randint(3, (100,))
        >>> jobs = il.tasks.training_jobs(lambda: torch.nn.Linear(4, 3), (x, y), batch=16, horizon=20)
        >>> jobs.train.at(0, 0, 2).support.weights["weight"].shape
        torch.Size([2, 3, 4])
    """
    low, high = _horizon(horizon)
    expect_whole("queries", queries)
    if not (isinstance(held_out, int | float) and 0 <= held_out < 1):
        raise ConfigError(f"held_out expected a share from 0 to below 1, got {held_out!r}")
    several = list(make_model) if isinstance(make_model, list | tuple) else [make_model]
    if not several:
        raise ConfigError("make_model expected at least one network, got none")
    makers: list[MakeModel] = []
    objectives: list[TrainingRun] = []
    every: list[Examples | DrawData] = []
    for variant, (given, examples) in enumerate(zip(several, _of_each(data, size, len(several)), strict=True)):
        rows, one = _rows_and_one(examples, batch, held_out)
        makers.append(_maker(given, one, examples, model_options))
        every.append(examples)
        net, classes = makers[-1](), labels_of(loss, one.y)
        objectives.append(TrainingRun(_network(net, one), _loss(loss), batch, rows, classes, high, variant))
        _try(objectives[-1], net, one)
    options: dict[str, Any] = {
        "make_model": make_model, "data": data, "batch": batch, "horizon": [low, high] if low < high else high,
        "loss": loss, "queries": queries, "held_out": held_out, "size": plain(size), "model_options": model_options,
    }  # fmt: skip
    again = all(writable(value) for value in options.values())
    name = "training_jobs" if again else f"{IN_MEMORY}training_jobs"

    def split(which: str) -> TrainingJobs:
        return TrainingJobs(
            name=name,
            split=which,
            make_model=makers,
            objective=objectives,
            data=every,
            horizon=(low, high),
            queries=queries,
        )

    return TaskFamily.by_split(name, split, {key: value for key, value in options.items() if writable(value)})


training_jobs.flags = ("data",)  # type: ignore[attr-defined]  # on the command line; --model gives the network


def _of_each(data: Any, size: int | Sequence[int] | None, number: int) -> list[Examples | Any]:
    """What each of so many networks is trained on, in an order that is not the file's; networks of one size share it."""
    sizes: list[int | None] = list(size) if isinstance(size, Sequence) else [size] * number
    if len(sizes) != number:
        raise ConfigError(f"size expected a number or one for each of {number} networks, got {len(sizes)}")
    found = {own: _shuffled(read_examples(data, own)) for own in dict.fromkeys(sizes)}
    return [found[own] for own in sizes]


def _shuffled(examples: Examples | Any) -> Examples | Any:
    if not isinstance(examples, Examples):
        return examples
    order = torch.randperm(len(examples.y), generator=torch.Generator().manual_seed(0))
    return Examples(examples.x[order], examples.y[order])


def _rows_and_one(examples: Examples | Any, batch: int | None, held_out: float) -> tuple[int, Examples]:
    """(how many rows are trained on, a few examples as a network takes them)."""
    if isinstance(examples, Examples):
        if batch is None:
            raise ConfigError(
                "batch expected a number of rows for data that all runs share, got None; give batch=128, say"
            )
        expect_whole("batch", batch)
        return len(examples.y) - int(held_out * len(examples.y)), Examples(examples.x[:2], examples.y[:2])
    if batch is not None:
        raise ConfigError("batch expected None for runs with examples of their own, got a number; leave it out")
    drawn = examples(random_keys.task_keys(0, "train", 0, 0, 1))
    if not isinstance(drawn, Examples) or drawn.y.shape[:1] != (1,):
        raise InputError("data expected a function from keys (tasks,) to il.Examples (tasks, rows, ...), got another")
    return 0, Examples(drawn.x[0], drawn.y[0])


def _loss(loss: Any) -> Any:
    """A loss as an objective takes it: a name or a function."""
    return loss if loss is None or isinstance(loss, str) else losses.as_function(loss)


def _horizon(horizon: Any) -> tuple[int, int]:
    """(fewest, most) steps of a run."""
    pair = [horizon, horizon] if isinstance(horizon, int) else list(horizon) if isinstance(horizon, Sequence) else []
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in pair):
        raise ConfigError(f"horizon expected a number of steps, or the fewest and the most, got {horizon!r}")
    if pair[0] > pair[1]:
        raise ConfigError(f"horizon expected the fewest and the most steps, got {horizon!r}; turn them round")
    return pair[0], pair[1]


def read_examples(data: Any, size: int | None = None) -> Examples | Any:
    """The rows that runs share, floats or integers as they come; or the function that draws each run's own."""
    if isinstance(data, str):
        if data not in NAMED_DATA:
            raise ConfigError(f"unknown data {data!r}: {nearest(data, NAMED_DATA)}, or give (x, y)")
        return mnist_training_examples(28 if size is None else size)
    if size is not None:
        raise ConfigError("size expected data='mnist', got data of your own; give it in the size that you want")
    if isinstance(data, Examples):
        data = (data.x, data.y)
    if isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], int | float):
        x, y = as_tensor(data[0], "x"), as_tensor(data[1], "y")
    elif hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        items = [data[i] for i in range(len(data))]
        if not items or any(not isinstance(item, tuple | list) or len(item) != 2 for item in items):
            raise InputError("data expected a data set of (input, target) pairs, got another; give (x, y)")
        x = torch.stack([as_tensor(item[0], "x") for item in items])
        y = torch.stack([as_tensor(item[1], "y") for item in items])
    elif callable(data):
        return data
    else:
        raise InputError(f"data expected (x, y), a data set of pairs, a name or a function, got {type(data).__name__}")
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y) or len(x) < 2:
        raise ShapeError(
            f"data expected equally many rows of x and y, at least 2, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.dtype == torch.uint8:
        x = x.float() / 255
    return Examples(x, y if y.is_floating_point() else y.long())


def _maker(make_model: Any, one: Examples, data: Any, options: Mapping[str, Any] | None) -> Any:
    """A function without arguments that makes the network."""
    if isinstance(make_model, nn.Module):
        raise ConfigError(
            f"make_model expected a function that returns a fresh network, got a {type(make_model).__name__}, whose weights are "
            "drawn already; give lambda: MyNet(), or its class"
        )
    if isinstance(make_model, Mapping):
        options = {**(options or {}), **{key: value for key, value in make_model.items() if key != "name"}}
        make_model = make_model.get("name")
    if isinstance(make_model, str):
        typed = isinstance(make_model, Typed)
        y = data.y if isinstance(data, Examples) else one.y
        outputs = int(y.max()) + 1 if not y.is_floating_point() else 1 if y.ndim < 2 else y.shape[1]
        shape = tuple(one.x.shape[1:])
        return lambda: models.fitting(make_model, shape, outputs, dict(options or {}), typed=typed)
    if options:
        raise ConfigError("model_options expected a model by name, got a function; put them into the function")
    if not callable(make_model):
        raise ConfigError(f"make_model expected a function that returns a network, got {type(make_model).__name__}")
    needed = [p.name for p in inspect.signature(make_model).parameters.values()
              if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]  # fmt: skip
    if needed:
        raise ConfigError(f"make_model expected a function without arguments, got one that needs {', '.join(needed)}")
    return make_model


def _network(net: Any, one: Examples) -> Any:
    """The network as a function of its weights."""
    module, _ = convert(net, "batch")
    pure = PureModel(module, "batch")
    pure.look_into(one.x)
    held = {name: b.detach().clone() for name, b in module.named_buffers()}
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}

    def network(weights: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Any, noise: Tensor | None) -> Tensor:
        device = next(iter(weights.values())).device
        own = {name: value.to(device) for name, value in {**frozen, **held}.items()}
        return pure.apply({**own, **weights}, buffers, x, training=noise is not None, noise=noise)[0]

    return network


def _try(objective: TrainingRun, net: nn.Module, one: Examples) -> None:
    """Run the network once; what it says then is told in one line."""
    weights = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    if not weights:
        raise ConfigError("make_model expected a network with parameters to train, got none that requires_grad")
    try:
        prediction = objective.network(weights, {}, one.x, torch.zeros((), dtype=torch.int64))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ConfigError(
            f"the network cannot take the data, of shape {tuple(one.x.shape)}: {first_line(error)}"
        ) from error
    losses.check_shapes(losses.resolve(objective.given, one.y), prediction, one.y)
