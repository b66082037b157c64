"""learn2learn (Arnold et al. 2020, arXiv:2008.12284): its MAML wrapper."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
import types
from functools import lru_cache
from importlib.machinery import ModuleSpec
from typing import Any

from torch import Tensor

from benchmarks.speed.contenders.module_peer import ModulePeer


@lru_cache(maxsize=1)
def _wrapper() -> tuple[Any, bool]:
    """(learn2learn's MAML class, whether the whole package could be imported).

    ``import learn2learn`` needs torchvision, an old gym and compiled data sets; its MAML needs only torch. Where the
    package does not come in, that file is imported beside empty stand-ins for the packages above it.
    """
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # gym, where it is there, prints advice
            return importlib.import_module("learn2learn").algorithms.MAML, True
    except Exception:
        loaded = [name for name in sys.modules if name.partition(".")[0] == "learn2learn"]
        for name in loaded:
            del sys.modules[name]
    spec = importlib.util.find_spec("learn2learn")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("learn2learn")
    folder = spec.submodule_search_locations[0]
    for name, path in (("learn2learn", folder), ("learn2learn.algorithms", f"{folder}/algorithms")):
        stand_in = types.ModuleType(name)
        stand_in.__spec__ = ModuleSpec(name, None, is_package=True)
        stand_in.__path__ = [path]
        sys.modules[name] = stand_in
    return importlib.import_module("learn2learn.algorithms.maml").MAML, False


class Learn2Learn(ModulePeer):
    name = "learn2learn"
    distribution = "learn2learn"
    modules = ("learn2learn",)
    whole = True

    def available(self) -> str | None:
        reason = super().available()
        if reason:
            return reason
        try:
            self.wrapper, self.whole = _wrapper()
        except Exception as error:
            return f"installed, but cannot be imported: {' '.join(str(error).split())[:120]}"
        return None

    def remark(self) -> str:
        return "" if self.whole else "only its algorithms/maml.py can be imported here, not the package"

    def set_up(self) -> None:
        self.maml = self.wrapper(self.module, lr=self.problem.inner_lr)

    def backward(self, sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor, weight: float) -> None:
        clone = self.maml.clone()
        for _ in range(self.problem.inner_steps):
            clone.adapt(self.loss(clone(sx), sy))
        (weight * self.loss(clone(qx), qy)).backward()
