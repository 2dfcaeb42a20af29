"""Activations by name: what the network's fast pass, the exact kernels and autograd each need of one.

The fast pass works in place on blocks of numpy arrays. It writes sigma(z) = value[0] + value[1] phi and
sigma'(z) = slope[0] + slope[1] psi, and ``fill`` turns scale * z into phi and psi, so that offsets and factors are
applied to sums over tokens and not to every token. numpy's tanh is several times as fast as torch's, and
the sigmoid is a tanh.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.mean_field.kernels.base import Kernel, OfOthers, OfRows, Others, Pairs, Rows
from icl_lib.mean_field.kernels.erf import Erf, ErfSum, sigmoid, tanh
from icl_lib.mean_field.kernels.relu import ReLU
from icl_lib.validate import require_choice

Fill = Callable[[ndarray, ndarray | None], None]
Sigma = Callable[[Tensor], Tensor]  # by torch
BLOCK = 2**17  # values of sigma at a time: half a megabyte of float32, which stays in the second-level cache


@dataclass(frozen=True)
class Activation:
    """One activation.

    Attributes:
        scale, value, slope, fill: of the fast pass, see the module; fill's second array may be None (no slopes wanted).
        function: by torch, for autograd.
        kernel: makes the exact kernel for x ~ N(0, I_d).
        mean, mean_slope: E sigma(w^T x) and E sigma'(w^T x) as functions of |w|.
    """

    name: str
    scale: float
    value: tuple[float, float]
    slope: tuple[float, float]
    fill: Fill
    function: Sigma
    kernel: Callable[[], Kernel]
    mean: Callable[[Tensor], Tensor]
    mean_slope: Callable[[Tensor], Tensor]

    def means(self, w: Float[Tensor, "E N d"]) -> Float[Tensor, "E N"]:
        """E sigma(w^T x)."""
        return self.mean(torch.linalg.vector_norm(w, dim=-1))

    def linear_parts(self, w: Float[Tensor, "E N d"]) -> Float[Tensor, "E N d"]:
        """E[sigma(w^T x) x] = E[sigma'(w^T x)] w (Stein)."""
        return self.mean_slope(torch.linalg.vector_norm(w, dim=-1))[..., None] * w


def _fill_tanh(z: ndarray, psi: ndarray | None) -> None:
    np.tanh(z, out=z)
    if psi is not None:
        np.multiply(z, z, out=psi)


def _fill_relu(z: ndarray, psi: ndarray | None) -> None:
    if psi is not None:
        np.greater(z, 0, out=psi)
    np.maximum(z, 0, out=z)


def _fill_erf(z: ndarray, psi: ndarray | None) -> None:
    if psi is not None:
        np.multiply(z, z, out=psi)
        np.negative(psi, out=psi)
        np.exp(psi, out=psi)
    torch.from_numpy(z).erf_()


def _fill_identity(z: ndarray, psi: ndarray | None) -> None:
    if psi is not None:
        psi[:] = 0


class Linear(Kernel):
    """sigma(z) = z: K(w, v) = w^T v for any x with E[x x^T] = 1."""

    def gram(self, w: Rows, v: Others) -> Pairs:
        return w @ v.mT

    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        return w.detach() @ (v.detach().mT @ right.detach())

    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        return left.detach() @ (right.detach().mT @ v.detach())


def _erf_slope(weights: tuple[float, ...], scales: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """E sigma'(w^T x) for sigma = sum_p c_p erf(s_p z): sum_p 2 c_p s_p / sqrt(pi (1 + 2 s_p^2 |w|^2))."""

    def mean_slope(norm: Tensor) -> Tensor:
        parts = [2 * c * s / (pi * (1 + 2 * (s * norm).square())).sqrt() for c, s in zip(weights, scales, strict=True)]
        return torch.stack(parts).sum(0)

    return mean_slope


def _of_sum(name: str, scale: float, value: tuple[float, float], function: Sigma, terms: ErfSum) -> Activation:
    """The sigmoid and tanh: with t = tanh(scale z), sigma = v_0 + v_1 t and sigma' = v_1 scale (1 - t^2)."""
    slope, mean_slope = (value[1] * scale, -value[1] * scale), _erf_slope(terms.weights, terms.scales)

    def mean(norm: Tensor) -> Tensor:
        return torch.full_like(norm, value[0])

    return Activation(name, scale, value, slope, _fill_tanh, function, lambda: terms, mean, mean_slope)


PLAIN = (0.0, 1.0)  # sigma is what `fill` makes
_ALL = (
    _of_sum("sigmoid", 0.5, (0.5, 0.5), torch.sigmoid, sigmoid()),
    _of_sum("tanh", 1.0, PLAIN, torch.tanh, tanh()),
    Activation(
        "erf", 1.0, PLAIN, (0.0, 2 / sqrt(pi)), _fill_erf, torch.erf, Erf, torch.zeros_like, _erf_slope((1.0,), (1.0,))
    ),
    Activation(
        "relu", 1.0, PLAIN, (0.0, 1.0), _fill_relu, torch.relu, ReLU,
        lambda r: r / sqrt(2 * pi), lambda r: torch.full_like(r, 0.5),
    ),
    # Not for teachers that should be nonlinear: with it attention without an MLP is the same code, see ``moments.py``.
    Activation(
        "identity", 1.0, PLAIN, (1.0, 0.0), _fill_identity, lambda z: z, Linear, torch.zeros_like, torch.ones_like,
    ),
)  # fmt: skip
ACTIVATIONS = {one.name: one for one in _ALL}


def activation(name: str) -> Activation:
    """One of ``ACTIVATIONS`` by name; refuses others.

    >>> activation("tanh").mean(torch.tensor([1.0, 2.0])).tolist()
    [0.0, 0.0]
    >>> activation("softplus")
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: activation='softplus': must be one of 'sigmoid', 'tanh', 'erf', 'relu', 'identity'
    """
    require_choice("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]


def network(act: Activation, a: Float[Tensor, "N k"], w: Float[Tensor, "N d"], x: Tensor) -> Tensor:
    """sum_i a_i sigma(w_i^T x) for inputs x (..., d), in the precision of x and in bounded memory; no autograd.

    ``a`` holds the masses already, as ``Particles.weighted`` does.
    """
    flat, kind = x.reshape(-1, x.shape[-1]).numpy(), x.numpy().dtype
    inner = np.ascontiguousarray(act.scale * w.detach().numpy().T, dtype=kind)
    outer = (act.value[1] * a.detach().numpy()).astype(kind)
    offset = (act.value[0] * a.detach().numpy().sum(0)).astype(kind)
    rows = max(1, BLOCK // inner.shape[1])
    z, out = np.empty((rows, inner.shape[1]), kind), np.empty((len(flat), outer.shape[1]), kind)
    for i in range(0, len(flat), rows):
        part = flat[i : i + rows]
        block = z[: len(part)]
        np.matmul(part, inner, out=block)
        act.fill(block, None)
        np.matmul(block, outer, out=out[i : i + rows])
    out += offset
    return torch.from_numpy(out).view(*x.shape[:-1], -1)
