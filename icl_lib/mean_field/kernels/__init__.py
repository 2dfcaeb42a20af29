"""Activations and their kernels E[sigma(w^T x) sigma(v^T x)], exact for Gaussian x and sampled for any other.

A new activation is a file with a `Kernel` (for a closed form a `Zonal` one) and an entry in `activations.ACTIVATIONS`.
"""

from icl_lib.mean_field.kernels.activations import ACTIVATIONS, Activation, Sigma, activation, network
from icl_lib.mean_field.kernels.base import Kernel, Zonal
from icl_lib.mean_field.kernels.erf import SIGMOID_ERRORS, Erf, ErfSum, Terms, sigmoid, tanh
from icl_lib.mean_field.kernels.relu import ReLU
from icl_lib.mean_field.kernels.sampled import Sampled, gaussian_inputs

__all__ = [
    "ACTIVATIONS",
    "SIGMOID_ERRORS",
    "Activation",
    "Erf",
    "ErfSum",
    "Kernel",
    "ReLU",
    "Sampled",
    "Sigma",
    "Terms",
    "Zonal",
    "activation",
    "gaussian_inputs",
    "network",
    "sigmoid",
    "tanh",
]
