"""Where and how a run computes: device, precision, threads, strategy."""

from __future__ import annotations

import torch

from innerloop.errors import ConfigError, first_line
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


def resolved(name: str) -> str:
    """``name``, or what "auto" is here: "cuda" where every process on this machine has a GPU, else "cpu".

    Apple's "mps" is taken by name alone: it has no double precision, which evaluation computes in.
    """
    if name != "auto":
        return name
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return "cuda" if gpus >= max(1, launch.local_size()) else "cpu"


def going_on(name: str) -> tuple[str, str]:
    """Where a run goes on that was on device ``name``, and a sentence for whoever resumes it where that is another one."""
    try:
        device_of(name)
    except ConfigError:
        here = resolved("auto")
        return (
            here,
            f"this run was on {name}, which is not here; it goes on on {here}, to the same result but for rounding",
        )
    return name, ""


def device_of(name: str) -> torch.device:
    """The device of this process: of several processes on a machine each takes the GPU of its own number."""
    try:
        device = torch.device(resolved(name))
    except RuntimeError:
        raise ConfigError(f"device expected 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps', got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is not available here; use device='cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is not available here, there are {torch.cuda.device_count()}; use device='cuda'"
        )
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:  # torch says "not compiled with ..." by an assertion
        first = first_line(error).partition(". ")[0]
        raise ConfigError(f"device expected one that torch can use here, got {name!r} ({first}); use cpu") from None
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
