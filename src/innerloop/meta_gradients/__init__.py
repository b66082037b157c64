"""Estimators of the outer gradient."""

from innerloop.meta_gradients.average import AverageOfSolutions
from innerloop.meta_gradients.backprop import Backprop
from innerloop.meta_gradients.displacement import Displacement
from innerloop.meta_gradients.none import NoGradient
from innerloop.meta_gradients.pooled import Pooled

__all__ = ["AverageOfSolutions", "Backprop", "Displacement", "NoGradient", "Pooled"]
