"""What a method says of itself: `method(declares=...)` sets it; help, docs and the contract tests read it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a method can do, and under which settings the contract tests see it learn.

    Attributes:
        regression: it takes targets that are no labels.
        any_ways: one learner takes tasks of any number of classes.
        derivatives: the order that meta-training needs of the model, as the table of docs/how-to-choose.md says it; where nothing
            is said, 2 with inner steps and 1 without.
        memory: what the outer step keeps, K being the number of inner steps, likewise: it grows with K, or is that of one pass.
        meta_gradient: some parameter of the model gets a gradient that is not zero.
        learns: meta-training makes adapted predictions better than they were before it.
        adds_parameters: parameters of its own follow the model's (learned rates, a global head).
        learned_rate: ``inner_lr`` is where a learned rate starts, so it is a parameter.
        inner_loop: it has inner steps, and options for them.
        equivariant: permuting the names of the labels permutes predictions exactly.
        shift_free: a number added to all embeddings changes nothing, so their last bias has no gradient but rounding.
        least_scale: numbers smaller than this are held to the tolerance as if they were of this size: rounding of zeros.
        needs_parameters: the model must have parameters; where not, the method brings networks of its own.
        asks_shape: where the model may have no parameters, the shape of its inputs must be known.
        order_free: the order of the support examples does not matter.
        short_of_names: why the learning test's budget does not teach it that names are arbitrary; a known shortfall.
        starts_adapted: what inner steps begin from has read the support set, so that 0 steps are no blind guess.
        nuisance: noise in the dimensions that say nothing, in the learning tests: how much embedding has to be learned there.
        training: settings of `fit` for the learning test.
        options: the method's own arguments in the learning test, beyond its recommended ones.
    """

    regression: bool = True
    any_ways: bool = False
    derivatives: str = ""
    memory: str = ""
    meta_gradient: bool = True
    learns: bool = True
    adds_parameters: bool = False
    learned_rate: bool = False
    inner_loop: bool = True
    equivariant: bool = False
    shift_free: bool = False
    least_scale: float = 2e-3  # 1.04e-15 was seen where a slope is zero: a bias before batch norm
    needs_parameters: bool = True
    asks_shape: bool = True
    order_free: bool = True
    short_of_names: str = ""
    starts_adapted: bool = False
    nuisance: float = 2.0
    training: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"steps": 80, "outer_lr": 0.01})
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        order, kept = ("2", "grows with K") if self.inner_loop else ("1", "one pass")
        object.__setattr__(self, "derivatives", self.derivatives or order)
        object.__setattr__(self, "memory", self.memory or kept)

    def sentence(self) -> str:
        """What a user asks first."""
        kinds = "Takes classification and regression" if self.regression else "Takes classification"
        ways = "of any number of classes" if self.any_ways else "of as many classes as in training"
        return f"{kinds}, tasks {ways}."
