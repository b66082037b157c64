"""JAX by hand: the whole outer step under one jit, Adam from optax, weights donated; tasks by vmap or by lax.map."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.contenders.contender import Contender
from benchmarks.speed.nets import ConvNet, Net

if TYPE_CHECKING:
    from benchmarks.speed.problem import Problem

_UNROLLED = 10  # inner steps; more are a lax.scan, since compiling takes about two seconds for each that is written out


def _to_jax(value: np.ndarray) -> np.ndarray:
    """torch's layout as JAX likes it: dense weights (in, out), kernels (height, width, in, out)."""
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 else value


def _to_torch(value: np.ndarray) -> np.ndarray:
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T if value.ndim == 2 else value


def _forward(net: Net) -> Any:
    import jax  # pyright: ignore[reportMissingImports]
    from jax import numpy as jnp  # pyright: ignore[reportMissingImports]

    def mlp(w: list[Any], x: Any) -> Any:
        for i in range(0, len(w) - 2, 2):
            x = jax.nn.relu(x @ w[i] + w[i + 1])
        return x @ w[-2] + w[-1]

    def conv4(w: list[Any], x: Any) -> Any:
        for i in range(0, 16, 4):
            x = jax.lax.conv_general_dilated(
                x, w[i], (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + w[i + 1]
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-5) * w[i + 2] + w[i + 3])
        return jnp.mean(x, (1, 2)) @ w[16] + w[17]

    return conv4 if isinstance(net, ConvNet) else mlp


class JaxOptax(Contender):
    name = "jax"
    distribution = "jax"
    modules = ("jax", "optax")
    warmup = 1  # it is compiled by then
    one_by_one = False

    def refuses(self, problem: Problem) -> str | None:
        if isinstance(problem.net, ConvNet) and (problem.net.pool or problem.net.outputs is None):
            return "written here for the strided net with a head only"
        return super().refuses(problem)

    def prepare(self, problem: Problem) -> None:
        import jax  # pyright: ignore[reportMissingImports]
        import optax  # pyright: ignore[reportMissingImports]
        from jax import numpy as jnp  # pyright: ignore[reportMissingImports]

        self.problem = problem
        forward = _forward(problem.net)

        def loss(prediction: Any, y: Any) -> Any:
            if problem.loss == "mse":
                return jnp.mean((prediction - y) ** 2)
            return optax.softmax_cross_entropy_with_integer_labels(prediction, y).mean()

        def support_loss(weights: Any, x: Any, y: Any) -> Any:
            return loss(forward(weights, x), y)

        def task_loss(weights: Any, sx: Any, sy: Any, qx: Any, qy: Any) -> Any:
            def inner_step(weights: Any, _: None) -> tuple[Any, None]:
                grads = jax.grad(support_loss)(weights, sx, sy)
                return [w - problem.inner_lr * g for w, g in zip(weights, grads, strict=True)], None

            if problem.inner_steps > _UNROLLED:
                weights, _ = jax.lax.scan(inner_step, weights, None, length=problem.inner_steps)
            else:
                for _ in range(problem.inner_steps):
                    weights, _ = inner_step(weights, None)
            return loss(forward(weights, qx), qy)

        def batch_loss(weights: Any, batch: Any) -> Any:
            if self.one_by_one:
                return jax.lax.map(lambda task: task_loss(weights, *task), batch).mean()
            return jax.vmap(task_loss, in_axes=(None, 0, 0, 0, 0))(weights, *batch).mean()

        adam = optax.adam(problem.outer_lr)

        def outer_step(weights: Any, state: Any, batch: Any) -> Any:
            updates, state = adam.update(jax.grad(batch_loss)(weights, batch), state)
            return optax.apply_updates(weights, updates), state

        def given(array: np.ndarray) -> Any:
            return jnp.asarray(np.moveaxis(array, 2, -1) if array.ndim == 5 else array)  # channels last

        self.given = [tuple(given(array) for array in batch) for batch in problem.batches]
        self.batches = cycle(self.given)
        self.weights = [jnp.asarray(_to_jax(w)) for w in problem.weights.values()]
        self.state = adam.init(self.weights)
        self.gradient = jax.jit(jax.grad(batch_loss))
        self.outer = jax.jit(outer_step, donate_argnums=(0, 1))

    def meta_gradient(self, batch: int = 0) -> dict[str, np.ndarray]:
        grads = self.gradient(self.weights, self.given[batch])
        return {name: _to_torch(np.asarray(g)) for name, g in zip(self.problem.weights, grads, strict=True)}

    def step(self) -> None:
        self.weights, self.state = self.outer(self.weights, self.state, next(self.batches))

    def run(self, steps: int) -> None:
        import jax  # pyright: ignore[reportMissingImports]

        super().run(steps)
        jax.block_until_ready(self.weights)


class JaxMap(JaxOptax):
    """One task after the other inside the jit: vmap makes grouped convolutions, which XLA is slow at on CPUs."""

    name = "jax_map"
    one_by_one = True
