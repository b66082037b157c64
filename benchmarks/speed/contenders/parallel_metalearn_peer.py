"""parallel-metalearn, as its README uses it: a backbone and a head of its own layers, vmapped over tasks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.contenders.contender import Contender
from benchmarks.speed.nets import ConvNet

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem


class _Chain(nn.Module):
    """Layers in a row; its models are called with ``training=`` and the like, which only norm layers look at."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        for layer in self.layers:
            takes = type(layer).__module__.startswith("metalearn")
            x = layer(x, **options) if takes else layer(x)
        return x


def _layers(problem: Problem) -> list[nn.Module]:
    """The plain module's layers, batch norm replaced by the library's own, which is right under vmap."""
    found = list(problem.net.plain().children())
    if isinstance(problem.net, ConvNet):
        from metalearn.nn_models.basic_layers import BatchNorm  # pyright: ignore[reportMissingImports]

        for i, layer in enumerate(found):
            if isinstance(layer, nn.BatchNorm2d):
                found[i] = BatchNorm(layer.num_features, track_running_stats=False)
    return found


def _loss_module(problem: Problem) -> Any:
    from metalearn.loss.base import BaseLoss  # pyright: ignore[reportMissingImports]

    function = problem.loss_function()

    class Loss(BaseLoss):
        def forward(self, out_dict: Any, targets: Any, model_states: Any = None, **_: Any) -> tuple[Tensor, Tensor]:
            del model_states
            value = function(out_dict["logits"], targets["labels"])
            return value, value.detach()

    return Loss()


class ParallelMetalearn(Contender):
    name = "parallel_metalearn"
    distribution = "parallel-metalearn"
    modules = ("metalearn",)

    def prepare(self, problem: Problem) -> None:
        self.problem = problem
        self.batches = cycle([self._given(batch.tensors()) for batch in problem.batches])
        self.algorithm = self._algorithm(lambda parameters: torch.optim.Adam(parameters, lr=problem.outer_lr))

    @staticmethod
    def _given(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Any, ...]:
        sx, sy, qx, qy = batch
        return sx, {"labels": sy}, qx, {"labels": qy}

    def _algorithm(self, optimizer: Any) -> Any:
        from metalearn.algorithms import MAML  # pyright: ignore[reportMissingImports]
        from metalearn.inner_optimizers import InnerSGD  # pyright: ignore[reportMissingImports]
        from metalearn.model_wrappers import MAML_Model  # pyright: ignore[reportMissingImports]

        problem = self.problem
        layers = _layers(problem)
        self.model = MAML_Model(backbone=_Chain(layers[:-1]), head=_Chain(layers[-1:]))
        problem.load(self.model)
        inner = InnerSGD(
            self.model.get_fast_weights(),
            inner_lr=problem.inner_lr,
            max_inner_steps=problem.inner_steps,
            first_order=False,
            learn_lr=False,
        )
        return MAML(
            model=self.model,
            optimizer=optimizer(self.model.parameters()),
            inner_optimizer=inner,
            support_loss_fn=_loss_module(problem),
            inner_steps=problem.inner_steps,
            chunk_size=problem.num_tasks,
            device=torch.device("cpu"),
        )

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        # Its step leaves the gradients behind; with a rate of 0 it leaves the weights as they were.
        still = self._algorithm(lambda parameters: torch.optim.SGD(parameters, lr=0.0))
        model = self.model
        still.step(iter([self._given(self.problem.batches[batch].tensors())]))
        found = self.problem.named([p.grad.clone() for p in model.parameters() if p.grad is not None])
        self.model = self.algorithm.model
        return found

    def _one(self) -> Iterator[Any]:
        yield next(self.batches)

    def step(self) -> None:
        self.algorithm.step(self._one())
