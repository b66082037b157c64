"""Update rules: how a gradient changes the fast parameters; those of one method alone stand in its file."""

from innerloop.rules.adam import Adam
from innerloop.rules.hypergradient_descent import HypergradientDescent
from innerloop.rules.learned_rates import PerLayerPerStepRates, PerParameterRates
from innerloop.rules.sgd import SGD

__all__ = ["SGD", "Adam", "HypergradientDescent", "PerLayerPerStepRates", "PerParameterRates"]
