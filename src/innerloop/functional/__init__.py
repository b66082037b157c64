"""nn.Module to pure function: the only place that calls a user's model."""

from innerloop.functional.convert import check_model, convert
from innerloop.functional.derivatives import inner_gradient, transformed
from innerloop.functional.parts import Parts, features_of
from innerloop.functional.probe import Probe, observed, probe
from innerloop.functional.pure import PureModel

__all__ = [
    "Parts",
    "Probe",
    "PureModel",
    "check_model",
    "convert",
    "features_of",
    "inner_gradient",
    "observed",
    "probe",
    "transformed",
]
