"""Where and how a run computes: device, precision, threads, strategy."""

from __future__ import annotations

import torch

from innerloop.errors import ConfigError
from innerloop.meta_learner.meta_learner import MetaLearner
from innerloop.training import launch
from innerloop.training.config import TrainConfig


def settle(learner: MetaLearner, config: TrainConfig) -> None:
    """Put the learner where its run computes.

    Raises:
        ConfigError: no such device here, or one GPU for several processes.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    dtype = {None: None, "float64": torch.float64}.get(config.precision, torch.float32)
    learner.to(device=device_of(config.device), dtype=dtype)
    learner.low_precision = torch.bfloat16 if config.precision == "bfloat16" else None
    if config.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    learner.strategy = config.strategy
    learner.chunk_size = config.chunk_size
    learner.recompute = config.recompute


def device_of(name: str) -> torch.device:
    """The device of this process: of several processes on a machine each takes the GPU of its own number."""
    try:
        device = torch.device(name)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"device {name!r} is not available here; use device='cpu'")
    except RuntimeError:
        raise ConfigError(f"device expected 'cpu', 'cuda' or 'cuda:N', got {name!r}") from None
    if device.type != "cuda" or launch.size() == 1:
        return device
    if device.index is not None:
        raise ConfigError(f"device expected 'cuda' for several processes, each with its own GPU, got {name!r}")
    there, own = torch.cuda.device_count(), launch.local_rank()
    if own >= there:
        raise ConfigError(
            f"expected a GPU for every process on a machine, got {there} for process {own} (from 0); "
            f"start {there} with --nproc-per-node {there}"
        )
    torch.cuda.set_device(own)
    return torch.device("cuda", own)
