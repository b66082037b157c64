"""DARTS: an architecture by gradient descent, its choices on validation examples and its network's weights on training examples.

Liu, Simonyan and Yang 2019, "DARTS: differentiable architecture search", arXiv:1806.09055.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from innerloop.core import Examples, Task, TaskFamily
from innerloop.errors import ConfigError, DivergedError, InputError, expect_whole, first_line, nearest
from innerloop.functional import PureModel, convert
from innerloop.keys import task_keys
from innerloop.models.architecture import Architecture, architecture_of, chosen_by, expect_choices
from innerloop.models.cells import MixedOp
from innerloop.objectives import losses
from innerloop.tasks.training_runs.jobs import read_examples
from innerloop.training.hypergradients import hypergradients
from innerloop.training.progress import Display

Gradient = Literal["exact", "differences", "first_order"]
Values = dict[str, Tensor]
LossAt = Callable[[Values, Values, Examples, Tensor | None], Tensor]  # weights, choices, examples, key of the noise
_APART = 0.01  # how far the weights move for a difference, as in the authors' code
_SPLIT = "architecture search"


class Pair(NamedTuple):
    """What one step sees."""

    train: Examples
    valid: Examples


def darts(
    supernet: nn.Module,
    tasks: Any,
    *,
    gradient: Gradient = "exact",
    steps: int = 2000,
    warmup_steps: int = 0,
    batch: int = 64,
    num_tasks: int = 4,
    inner_lr: float = 0.025,
    inner_min_lr: float = 0.001,
    inner_momentum: float = 0.9,
    inner_weight_decay: float = 3e-4,
    inner_clip_norm: float = 5.0,
    outer_lr: float = 3e-4,
    outer_weight_decay: float = 1e-3,
    valid_share: float = 0.5,
    loss: Any = None,
    seed: int = 0,
    quiet: bool = False,
) -> Architecture:
    """Search for an architecture: choose one operation for each `il.models.MixedOp` of a supernet.

    Each step first moves the choices (``alpha`` of the mixed operations, by Adam with betas 0.5 and 0.999) down the validation
    loss that the network would have after one training step, then takes that training step (momentum, rate falling as a
    cosine). At the end each choice becomes its best operation. The supernet stays as it is.

    Args:
        supernet: `il.models.cell_supernet(1, 10)`, or any module with `il.models.MixedOp` in it. It may have ``choose(shares)``,
            which says what the shares of each operation, by choice and name, are made into (default: the largest share), and
            ``discrete(operations)``, which makes the final network. Its batch norms use the statistics of the batch.
        tasks: pictures or anything else the supernet takes, as `il.tasks.training_jobs` takes them: (x, y), a data set of pairs,
            or "mnist"; they are parted by chance into training and validation rows. Or a family such as `il.tasks.omniglot()`:
            weights learn from the support sets of its training tasks, choices from the query sets; classes go by the numbers
            that all tasks share, and the supernet needs an output for each.
        gradient: of the choices. "exact": second order, through the training step, by `il.hypergradients`. "differences": second
            order as in the authors' code, the mixed derivatives by a difference of two gradients. "first_order": as if the
            weights did not depend on the choices.
        steps: of the search. The paper's 50 epochs are some 19,500; a short search wants a higher ``outer_lr``.
        warmup_steps: of these, the first in which the weights learn alone. Before the weights are good for something, operations
            that have none look best (Xu et al. 2020, arXiv:1907.05737; the paper has no such steps).
        batch: rows of a step, of training and of validation rows each.
        num_tasks: tasks of a step, of a family.
        inner_lr, inner_min_lr: rate of the weights at the beginning and at the end.
        inner_momentum, inner_weight_decay, inner_clip_norm: of the weights' steps.
        outer_lr, outer_weight_decay: of the choices' Adam.
        valid_share: of the rows that choices learn from.
        loss: ``loss(prediction, y) -> scalar`` or a name; None: cross-entropy for integer and mean squared error for floating
            targets.
        seed: of the parting, the batches and the supernet's noise. The weights begin as those of ``supernet``.
        quiet: no progress on stderr.

    Returns:
        An `il.Architecture`: ``arch.operations``, ``arch.model()``, ``arch.save(path)``; printed, it reads as text.

    Raises:
        ConfigError: no mixed operation, a value out of range, or a supernet that does not fit the data.
        InputError: data that cannot be read.
        DivergedError: a loss that is not finite.

    Where it differs from the authors' code: "exact" is the default: it takes about as long, and has no step size that can
    be wrong; weights of choices begin at what the supernet has (zeros) in place of noise of sd 0.001; in the look-ahead step the
    gradient is not clipped, as there.

    Example:
        >>> import torch, innerloop as il
        >>> x, y = torch.randn(40, 1, 8, 8), torch.randint(3, (40,))
        >>> net = il.models.cell_supernet((1, 8, 8), 3, channels=2, nodes=2)
        >>> arch = il.darts(net, (x, y), steps=2, batch=8, quiet=True)
        >>> arch.model()(x).shape
        torch.Size([40, 3])
    """
    mixed = expect_choices(supernet)
    if gradient not in get_args(Gradient):
        known = get_args(Gradient)
        raise ConfigError(
            f"gradient expected one of {', '.join(known)}, got {gradient!r}: {nearest(str(gradient), known)}"
        )
    for name, whole in (("steps", steps), ("batch", batch), ("num_tasks", num_tasks)):
        expect_whole(name, whole)
    expect_whole("warmup_steps", warmup_steps, 0)
    if warmup_steps >= steps:
        raise ConfigError(f"warmup_steps expected fewer than steps={steps}, got {warmup_steps}; lower it")
    rates = {"inner_lr": inner_lr, "outer_lr": outer_lr, "inner_clip_norm": inner_clip_norm}
    others = {"inner_min_lr": inner_min_lr, "inner_momentum": inner_momentum,
              "inner_weight_decay": inner_weight_decay, "outer_weight_decay": outer_weight_decay}  # fmt: skip
    for name, value in {**rates, **others}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ConfigError(f"{name} expected a finite number of at least 0, got {value!r}")
        if name in rates and value == 0:
            raise ConfigError(f"{name} expected a number above 0, got {value!r}; raise it")
    if inner_min_lr > inner_lr:
        raise ConfigError(f"inner_min_lr expected at most inner_lr={inner_lr}, got {inner_min_lr}; lower it")
    pairs, classes = _pairs(tasks, batch, num_tasks, valid_share, seed)
    first = next(pairs)
    search = Search(supernet, first, loss=loss, classes=classes)
    weights = torch.optim.SGD(
        search.weights.values(), inner_lr, momentum=inner_momentum, weight_decay=inner_weight_decay
    )
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(weights, steps, inner_min_lr)
    choices = torch.optim.Adam(search.choices.values(), outer_lr, betas=(0.5, 0.999), weight_decay=outer_weight_decay)
    settings = {k: v for k, v in locals().items() if k in _SETTINGS and isinstance(v, bool | int | float | str)}
    noise = task_keys(seed, _SPLIT, 0, 0, steps)
    history, seen = [], list[float]()
    with Display(f"darts, {gradient}", steps, 0, quiet) as display:
        started = time.monotonic()
        for step in range(steps):
            pair = search.fitting(first if step == 0 else next(pairs))
            if step >= warmup_steps:
                valid, slopes = search.slopes(
                    pair,
                    gradient,
                    float(weights.param_groups[0]["lr"]),
                    momentum=inner_momentum,
                    weight_decay=inner_weight_decay,
                    moved=_buffers(weights, search.weights),
                    noise=noise[step],
                )
                for name, p in search.choices.items():
                    p.grad = slopes[name]
                choices.step()
                seen.append(float(valid))
            chosen = {name: p.detach() for name, p in search.choices.items()}
            train = search.loss(search.weights, chosen, pair.train, noise[step])
            found = torch.autograd.grad(train, list(search.weights.values()), allow_unused=True, materialize_grads=True)
            for p, g in zip(search.weights.values(), found, strict=True):
                p.grad = g
            nn.utils.clip_grad_norm_(search.weights.values(), inner_clip_norm)
            weights.step()
            falling.step()
            row = {"step": step + 1, "train_loss": float(train.detach())} | ({"valid_loss": seen[-1]} if seen else {})
            if not all(map(math.isfinite, row.values())):
                got = ", ".join(f"{name} {value:g}" for name, value in row.items())
                raise DivergedError(f"the search expected finite losses, got {got}; lower inner_lr or outer_lr")
            if (step + 1) % max(1, steps // 20) == 0 or step + 1 == steps:
                best = chosen_by(supernet, search.shares(mixed))
                row["skips"] = sum(name == "skip" for name in best.values())
                history.append({name: float(value) for name, value in row.items()})
            per_second = (step + 1) / max(time.monotonic() - started, 1e-9)
            display.advance(
                step + 1, steps, per_second, f"  validation loss {seen[-1]:.3f}" if seen else "  weights alone"
            )
    shares = search.shares(mixed)
    last = seen[-max(1, len(seen) // 10) :]
    return architecture_of(
        supernet,
        chosen_by(supernet, shares),
        shares=shares,
        steps=steps,
        loss=sum(last) / len(last),
        settings=settings,
        history=tuple(history),
    )


class Search:
    """A supernet as a function of its weights and its choices, and the gradient of its choices.

    Args:
        supernet: copied, not changed.
        pair: examples that it has to take.
        loss: see `darts`.
        classes: of the data; None: values.

    Attributes:
        weights: the network's parameters by name, as leaves.
        choices: the ``alpha`` of the mixed operations, likewise.
    """

    dtype: torch.dtype
    device: torch.device

    def __init__(self, supernet: nn.Module, pair: Pair, *, loss: Any = None, classes: int | None = None) -> None:
        module, _ = convert(supernet, "batch")
        self.pure: PureModel = PureModel(module, "batch")
        self.given: str | losses.Loss | None = (
            loss if loss is None or isinstance(loss, str) else losses.as_function(loss)
        )
        mixed = {path: layer for path, layer in module.named_modules() if isinstance(layer, MixedOp)}
        for path, layer in mixed.items():
            if layer.only is not None:
                raise ConfigError(
                    f"{path} expected all of its operations to choose from, got only={layer.only!r}; set it to None"
                )
        alphas = {id(layer.alpha) for layer in mixed.values()}
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        fresh = {n: p.detach().clone().requires_grad_() for n, p in named.items()}
        self.weights: dict[str, Tensor] = {n: p for n, p in fresh.items() if id(named[n]) not in alphas}
        self.choices: dict[str, Tensor] = {n: p for n, p in fresh.items() if id(named[n]) in alphas}
        for found, what in ((self.weights, "weights besides its choices"), (self.choices, "choices")):
            if not found:
                raise ConfigError(f"expected a supernet with {what} to train, got none that requires_grad")
        self._held = {n: p.detach() for n, p in module.named_parameters() if not p.requires_grad}
        names = {id(p): n for n, p in module.named_parameters()}
        self._mixed = {layer.name or path: names[id(layer.alpha)] for path, layer in reversed(mixed.items())}
        first = next(iter(self.weights.values()))
        self.dtype, self.device = first.dtype, first.device
        pair = self.fitting(pair)
        try:
            self.pure.look_into(pair.train.x[:2])
            with torch.no_grad():
                prediction = self._predict(self.weights, self.choices, pair.train.x, task_keys(0, _SPLIT, 0, 0, 1)[0])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ConfigError(
                f"the supernet cannot take the data, of shape {tuple(pair.train.x.shape)}: {first_line(error)}"
            ) from error
        losses.check_shapes(losses.resolve(self.given, pair.train.y), prediction, pair.train.y)
        if classes is not None and prediction.ndim == 2 and prediction.shape[1] > 1 and classes > prediction.shape[1]:
            raise ConfigError(
                f"the supernet expected labels 0 to {prediction.shape[1] - 1}, got {classes - 1}; make it with an output for "
                "each class"
            )

    def fitting(self, pair: Pair) -> Pair:
        """The examples on the supernet's device, in its precision."""

        def moved(value: Tensor) -> Tensor:
            return value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)

        return Pair(*(Examples(moved(side.x), moved(side.y)) for side in pair))

    def _predict(self, weights: Values, choices: Values, x: Any, noise: Tensor | None) -> Tensor:
        return self.pure.apply({**self._held, **weights, **choices}, {}, x, training=True, noise=noise)[0]

    def loss(self, weights: Values, choices: Values, data: Examples, noise: Tensor | None = None) -> Tensor:
        """The loss of these weights and choices on these examples."""
        return losses.objective(self.given, self._predict(weights, choices, data.x, noise), data.y)

    def shares(self, mixed: Mapping[str, list[MixedOp]]) -> dict[str, dict[str, float]]:
        """What each operation's share is, by choice and name."""
        found = {}
        for name, layers in mixed.items():
            at = self._mixed[name]
            own = torch.softmax((self.choices[at] if at in self.choices else self._held[at]).detach(), 0).tolist()
            found[name] = dict(zip(layers[0].operations, own, strict=True))
        return found

    def slopes(
        self,
        pair: Pair,
        gradient: Gradient,
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        moved: Mapping[str, Tensor] | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Values]:
        """(validation loss, its gradient by the choices) after a look ahead of one training step, or where the weights are.

        Args:
            pair: examples.
            gradient: see `darts`.
            lr, momentum, weight_decay: of the step.
            moved: the momentum's running sum for each weight; None: zeros.
            noise: the key of what the supernet draws.
        """
        names = list(self.choices)
        if gradient == "first_order":
            loss = self.loss(self.weights, self.choices, pair.valid, noise)
            return loss.detach(), self._by(loss, names)
        # What the step adds to the weights besides the gradient does not depend on the choices.
        shift = {
            name: -lr * (weight_decay * p.detach() + (0.0 if moved is None else momentum * moved[name]))
            for name, p in self.weights.items()
        }
        if gradient == "exact":
            loss, slopes = hypergradients(
                self.choices,
                lambda w, choices, step: self.loss(w, choices, pair.train, noise),
                lambda w, choices: self.loss({n: w[n] + shift[n] for n in w}, choices, pair.valid, noise),
                steps=1,
                params={name: p.detach() for name, p in self.weights.items()},
                lr=lr,
                check=False,
                with_loss=True,
            )
            return loss, slopes
        return self._by_differences(pair, lr, shift, noise)

    def _by_differences(self, pair: Pair, lr: float, shift: Values, noise: Tensor | None) -> tuple[Tensor, Values]:
        """As the authors' code: ``d/da L_train`` at two places along the validation gradient stands for the mixed derivative."""
        names, here = list(self.choices), self.weights
        train = self.loss(here, self.choices, pair.train, noise)
        steps = torch.autograd.grad(train, list(here.values()), allow_unused=True, materialize_grads=True)
        ahead = {
            name: (p.detach() - lr * g + shift[name]).requires_grad_()
            for (name, p), g in zip(here.items(), steps, strict=True)
        }
        valid = self.loss(ahead, self.choices, pair.valid, noise)
        every = torch.autograd.grad(
            valid, [*self.choices.values(), *ahead.values()], allow_unused=True, materialize_grads=True
        )
        direct, along = every[: len(names)], every[len(names) :]
        size = torch.sqrt(
            sum((v.square().sum() for v in along), torch.zeros((), dtype=along[0].dtype, device=along[0].device))
        )
        if not bool(size > 0):
            return valid.detach(), dict(zip(names, direct, strict=True))
        apart = _APART / size
        sides = []
        for sign in (1, -1):
            there = {name: p.detach() + sign * apart * v for (name, p), v in zip(here.items(), along, strict=True)}
            sides.append(self._by(self.loss(there, self.choices, pair.train, noise), names))
        return valid.detach(), {
            name: d - lr * (sides[0][name] - sides[1][name]) / (2 * apart)
            for name, d in zip(names, direct, strict=True)
        }

    def _by(self, loss: Tensor, names: list[str]) -> Values:
        found = torch.autograd.grad(loss, list(self.choices.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(names, found, strict=True))


def _buffers(optimizer: torch.optim.Optimizer, weights: Values) -> Values:
    """The momentum's running sums by the weights' names; zeros before the first step."""
    found = {}
    for name, p in weights.items():
        held = optimizer.state[p].get("momentum_buffer") if p in optimizer.state else None
        found[name] = torch.zeros_like(p) if held is None else held.detach().clone()
    return found


def _pairs(tasks: Any, batch: int, num_tasks: int, valid_share: float, seed: int) -> tuple[Iterator[Pair], int | None]:
    """(training and validation examples, step by step without end; how many classes there are)."""
    if isinstance(tasks, TaskFamily):
        return _of_family(tasks, num_tasks, seed), tasks.train.num_classes
    examples = read_examples(tasks)
    if not isinstance(examples, Examples):
        raise InputError(
            "darts expected (x, y), a data set of pairs, or a family of tasks, got a function; call it first"
        )
    classes = None
    if not examples.y.is_floating_point():
        if int(examples.y.min()) < 0:
            raise InputError(f"darts expected labels from 0 on, got {int(examples.y.min())}; number the classes from 0")
        classes = int(examples.y.max()) + 1
    return _of_rows(examples, batch, valid_share, seed), classes


def _of_rows(examples: Examples, batch: int, valid_share: float, seed: int) -> Iterator[Pair]:
    if isinstance(valid_share, bool) or not isinstance(valid_share, int | float) or not 0 < valid_share < 1:
        raise ConfigError(f"valid_share expected a share above 0 and below 1, got {valid_share!r}")
    if not bool(torch.isfinite(examples.x).all()) or not bool(torch.isfinite(examples.y).all()):
        raise InputError("darts expected finite inputs and targets, got others; clean them")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(examples.y), generator=generator)
    held = min(max(round(valid_share * len(order)), 1), len(order) - 1)

    def rows(own: Tensor) -> Iterator[Examples]:
        while True:
            mixed = own[torch.randperm(len(own), generator=generator)]
            # A rest that is smaller than a batch waits for another order, unless there is nothing else.
            for start in range(0, max(len(own) - batch, 0) + 1, batch):
                chosen = mixed[start : start + batch]
                yield Examples(examples.x[chosen], examples.y[chosen])

    return map(Pair, rows(order[held:]), rows(order[:held]))


def _of_family(tasks: TaskFamily, num_tasks: int, seed: int) -> Iterator[Pair]:
    for drawn in tasks.train.batches(num_tasks, seed=seed):
        sides = []
        for side in (drawn.support, drawn.query):
            if not isinstance(side, Examples) or not isinstance(side.x, Tensor):
                raise ConfigError(
                    f"darts expected tasks of labelled examples, got {tasks.name}; give (x, y) or another family"
                )
            sides.append(_pooled(tasks, drawn, side))
        yield Pair(*sides)


def _pooled(tasks: TaskFamily, drawn: Task, side: Examples) -> Examples:
    """The examples of all tasks, labels by the numbers that all tasks share."""
    y = side.y
    if not y.is_floating_point():
        if drawn.class_ids is None:
            raise ConfigError(
                f"darts expected classes that all tasks share, got {tasks.name}, whose labels are each task's own; give (x, y)"
            )
        y = torch.gather(drawn.class_ids, 1, y)
    x, y = side.x.flatten(0, 1), y.flatten(0, 1)
    return Examples(x, y) if side.mask is None else Examples(x[side.mask.flatten()], y[side.mask.flatten()])


_SETTINGS = frozenset(inspect.signature(darts).parameters) - {"supernet", "tasks", "quiet"}
