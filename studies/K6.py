"""How a perturbed saddle is left (claim K6): the linearised flow, its unstable directions, growth rates, escape times.

Derived by us. The gradient of L in particle i is p_i times that of dL/dmu, so near a critical point the displacement u
of the particles follows du/dt = -D^{-1} Hess u with D = diag(p). In v = D^{1/2} u this is dv/dt = -S v with S
symmetric. Where dL/dmu vanishes on all of Theta, S_ij = (p_i p_j)^{1/2} H_mu(theta_i, theta_j), and |v| is the
Wasserstein budget.
"""

from collections.abc import Callable
from dataclasses import replace
from math import asin, pi
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from icl_lib.mean_field.changes import displace
from icl_lib.mean_field.critical_points import SaddleConfig, escape_times
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.hessian import hessian_kernel
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.validate import require, require_choice, require_number

# Square roots of the covariance as functions of the eigenvalues of S, by what the covariance is made of
READINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "squared": lambda x: x,  # int H_mu H_mu dmu, the reading of ``gaussian_process``
    "absolute": lambda x: x.abs().sqrt(),  # |H_mu|
    "negative part": lambda x: (-x).clamp(min=0).sqrt(),
    "positive part": lambda x: x.clamp(min=0).sqrt(),
}


class Modes(NamedTuple):
    """Eigenvalues of S in ascending order, and its eigenvectors as columns, in coordinates v (particles first)."""

    eigenvalues: Float[Tensor, "E n"]
    eigenvectors: Float[Tensor, "E n n"]


def modes(kernel: Kernel, teacher: Particles, mu: Particles) -> Modes:
    """Of the operator H_mu on L2(mu): at critical points with dL/dmu = 0 on all of Theta, those of the linearised flow.

    Time and memory grow as (N q)^2, q = k + d. Raises ``SingularCovariance`` where B cannot be inverted.
    """
    e, n, q = mu.theta.shape
    h = hessian_kernel(kernel, teacher, mu, mu.theta, mu.theta).permute(0, 1, 3, 2, 4).reshape(e, n * q, n * q)
    root = mu.p.sqrt().repeat_interleave(q, dim=1)
    s = root[:, :, None] * h * root[:, None]
    return Modes(*torch.linalg.eigh((s + s.mT) / 2))


def growth_rate(eigenvalue: Float[Tensor, " E"], dt: float = 0.0) -> Float[Tensor, " E"]:
    """ln(1 + dt |lambda|) / dt of explicit Euler; |lambda| for dt = 0, the continuous flow.

    >>> growth_rate(torch.tensor([-2.0, -0.5])).tolist()
    [2.0, 0.5]
    """
    require_number("dt", dt, low=0)
    size = eigenvalue.abs()
    return torch.log1p(dt * size) / dt if dt else size


def factors_off(slopes: ArrayLike, rates: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """How far slope times rate is off 1, per seed, as a factor of at least 1: with its own rate, and with all others'.

    Own is exp |ln(slope_i rate_i)|, others exp of the mean over j != i of |ln(slope_i rate_j)|. Both of shape (seeds,).

    >>> own, others = factors_off([1.0, 0.5], [1.0, 2.0])
    >>> own.tolist(), others.round(6).tolist()
    ([1.0, 1.0], [2.0, 2.0])
    """
    off = np.abs(np.log(np.multiply.outer(np.asarray(slopes, float), np.asarray(rates, float))))
    require(len(off) > 1 and off.shape[0] == off.shape[1], "rates", off.shape, "one per slope, at least two")
    own = np.diag(off)
    return np.exp(own), np.exp((off.sum(1) - own) / (len(off) - 1))


def overlaps(found: Modes, mu: Particles, displacement: Float[Tensor, "E N q"]) -> Float[Tensor, "E n"]:
    """Share of each eigenvector in the displacement: |e^T v| / |v| in the coordinates v. Squares sum to 1."""
    v = (mu.p.sqrt()[..., None] * displacement).flatten(1)
    return (v[:, None] @ found.eigenvectors)[:, 0].abs() / torch.linalg.vector_norm(v, dim=1, keepdim=True)


def process(found: Modes, mu: Particles, z: Float[Tensor, "E N q"], reading: str = "squared") -> Float[Tensor, "E N q"]:
    """The Gaussian process with another covariance made from H_mu, out of standard normal z; see ``READINGS``."""
    require_choice("reading", reading, tuple(READINGS))
    inside = (z.flatten(1)[:, None] @ found.eigenvectors)[:, 0] * READINGS[reading](found.eigenvalues)
    return (found.eigenvectors @ inside[..., None])[..., 0].view_as(z) / mu.p.sqrt()[..., None]


def time_to_escape(
    kernel: Kernel,
    teacher: Particles,
    mu: Particles,
    displacement: Float[Tensor, "E N q"] | None,
    budget: float,
    levels: Float[Tensor, " E"],
    run: FlowConfig,
) -> Float[Tensor, " E"]:
    """Displace by a budget (None: not at all) and flow until every member is below its level.

    Times are linear between the losses that ``run.every`` records, and nan where `run` ends before the escape.
    """
    moved = mu if displacement is None else displace(mu, displacement, budget)
    run = replace(run, stop_below=float(levels.min()))
    return escape_times(flow(kernel, teacher, start(moved), run)[1], levels)


def unstable_eigenvalue(config: SaddleConfig) -> float:
    """The most negative eigenvalue of S at a saddle of sigma = erf that misses one output J (closed form, derived by us).

    -k lambda_J (G / K)^2 with s = |w|, G = 4 s / (pi (1 + 2 s^2)) and K = E[erf(w^T x)^2]: neurons of the missing
    output turn to the teacher's axis. Learnt neuron i could turn there too, with eigenvalue
    k (4 lambda_i / (pi K (1 + 4 s^2)^{1/2}) - lambda_J (G / K)^2), negative only where lambda_J / lambda_i is large.
    """
    require(len(config.missing) == 1, "missing", config.missing, "one output")
    s, k = config.size, len(config.spectrum)
    slope, square = 4 * s / (pi * (1 + 2 * s * s)), 2 / pi * asin(2 * s * s / (1 + 2 * s * s))
    return -k * config.spectrum[config.missing[0]] * (slope / square) ** 2
