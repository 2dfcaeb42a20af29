"""Coupled particles on their way past a saddle (question Q12; ours, after Kawata, Nitanda & Suzuki, arXiv:2610.10218).

A start is a cloud around a constructed saddle with one unstable direction e (a unit vector of L2(mu)): every particle
is one of its neurons, moved by ``shift`` along e and by independent normal numbers of size ``spread``. Derived by us:
beside the saddle the flow is linear, the component along e of N particles is shift + spread z / N^{1/2} at time 0 and
grows like e^{|lambda| t}, so that coupled particles are spread N^{-1/2} (e^{|lambda| t} - 1) apart. With masses that
are sampled, too, lambda itself is off: it is inversely proportional to the mass of the neuron that turns, which adds
shift ((k - 1) / N)^{1/2} |lambda| t e^{|lambda| t} as long as |lambda| t is small against N^{1/2}.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import binom
from torch import Tensor

from icl_lib.mean_field.coupling import distances, parts, trajectories
from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig
from icl_lib.mean_field.hessian import dense_blocks
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import covariances, trace
from icl_lib.mean_field.measure import Particles, covariance, uniform
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_integer, require_number


class Direction(NamedTuple):
    """Least eigenvalue of the linearised flow, and its unit eigenvector in L2(mu), as displacements of the particles."""

    eigenvalue: Float[Tensor, " E"]
    displacement: Float[Tensor, "E N q"]


def least(kernel: Kernel, teacher: Particles, mu: Particles) -> Direction:
    """Of D^{-1/2} Hess D^{-1/2}, D the masses; dense, so few particles only. The sign of the eigenvector is arbitrary."""
    root = mu.p.sqrt().repeat_interleave(mu.theta.shape[2], dim=1)
    hessians = torch.cat([hessian for _, hessian in dense_blocks(kernel, teacher, mu)])
    values, vectors = torch.linalg.eigh(hessians / (root[:, :, None] * root[:, None]))
    return Direction(values[:, 0], (vectors[..., 0] / root).view_as(mu.theta))


class Cloud(NamedTuple):
    """How particles are drawn around a critical point.

    `masses`: "fixed", equally many particles of each neuron, neuron after neuron; "sampled", the neuron is drawn.
    """

    n: int
    spread: float
    shift: float
    masses: str = "fixed"


def cloud(mu: Particles, along: Float[Tensor, "1 N q"], config: Cloud, seed: int) -> Particles:
    """Particles around the neurons of a measure, an ensemble of one; stream (seed, "cloud")."""
    n, k, gen = config.n, mu.a.shape[1], generator(seed, "cloud")
    require_integer("n", n, k)
    require(config.masses in ("fixed", "sampled"), "masses", config.masses, "fixed or sampled")
    require_number("spread", config.spread, low=0)
    noise = torch.randn(n, mu.theta.shape[2], generator=gen, dtype=mu.a.dtype)
    drawn = torch.randint(k, (n,), generator=gen)
    which = torch.arange(n) % k if config.masses == "fixed" else drawn
    theta = mu.theta[:, which] + config.shift * along[:, which] + config.spread * noise
    return mu._replace(p=uniform(n)).moved_to(twinned(theta, seed))


class Passage(NamedTuple):
    """A pool and its parts on their way: times in units of 1 / |lambda|, the pool's losses and places, and r_t."""

    times: Float[ndarray, " T"]
    loss: Float[ndarray, " T"]
    places: Float[Tensor, "1 T n q"]
    distances: dict[int, Float[ndarray, " T"]]
    kept: Float[Tensor, "parts T N q"] | None


def passage(
    kernel: Kernel,
    teacher: Particles,
    pool: Particles,
    widths: tuple[int, ...],
    rate: float,
    step: float,
    end: float,
    keep: int = 0,
) -> Passage:
    """Flows of a pool and of its parts, Runge-Kutta with steps of ``step`` / rate until ``end`` / rate.

    Args:
        keep: the width whose parts' places are returned; 0 for none.
    """
    config = FlowConfig("rk4", step / rate, end / rate, every=step / rate)
    times, losses, places = trajectories(kernel, teacher, pool, config)
    found, kept = {}, None
    for width in widths:
        _, _, ours = trajectories(kernel, teacher, parts(pool, width), config)
        found[width] = distances(ours, places)[0]
        kept = ours if width == keep else kept
    return Passage((times * rate).round(6), losses[0], places, found, kept)


def curvature(kernel: Kernel, teacher: Particles, places: Float[Tensor, "T n q"], k: int) -> Float[ndarray, " T"]:
    """Least eigenvalue of the linearised flow along a path of particles of equal masses, k outputs; dense."""
    mu = Particles(places[..., :k], places[..., k:], uniform(places.shape[1]).expand(len(places), -1))
    shared = Particles(*(x.expand(len(places), *x.shape[1:]) for x in teacher))
    return least(kernel, shared, mu).eigenvalue.numpy()


def amplification(kappa: Float[ndarray, " T"], step: float) -> Float[ndarray, " T"]:
    """C_t = int_0^t exp(-int_s^t kappa) ds, the accumulated curvature of the bound; kappa linear between its times.

    >>> amplification(np.full(5, -1.0), 0.5).round(4).tolist() == (np.exp([0, 0.5, 1, 1.5, 2]) - 1).round(4).tolist()
    True
    """
    found = [0.0]
    for mean in (kappa[1:] + kappa[:-1]) / 2 * step:
        decay = 1.0 if abs(mean) < 1e-12 else -np.expm1(-mean) / mean
        found.append(float(found[-1] * np.exp(-mean) + step * decay))
    return np.array(found)


def predicted(x: Float[ndarray, " T"], config: Cloud, width: int, k: int) -> Float[ndarray, " T"]:
    """r_t beside the saddle for parts of N = ``width`` particles, x = |lambda| t; first order in what the pool is off.

    Sampled masses: the mean over how many of N are of the neuron that turns, m, at the rate |lambda| N / (k m) each.
    """
    pool = 1 - width / config.n
    if config.masses == "fixed":
        return config.spread * np.expm1(x) * np.sqrt(pool / width)
    m = np.arange(1, width + 1)[:, None]
    m = m[binom.pmf(m, width, 1 / k)[:, 0] > 1e-7]  # rarer ones do not occur, and would leave the linear law
    faster = x * width / (k * m)
    late = k * (config.shift * (np.exp(faster) - np.exp(x))) ** 2 * m / width
    square = late + (config.spread * np.expm1(faster)) ** 2 / width
    return np.sqrt(pool * (binom.pmf(m, width, 1 / k) * square).sum(0))


def function_distance(kernel: Kernel, teacher: Particles, mu: Particles, nu: Particles) -> Float[Tensor, " E"]:
    """1/2 E|M h_mu - M' h_nu|^2, the distance of the best predictors of two measures, which no invertible map of a changes."""
    first, second = (covariances(kernel, teacher, x) for x in (mu, nu))
    cross = first.m @ covariance(kernel, mu, nu) @ second.m.mT
    return trace(first.m @ first.a.mT + second.m @ second.a.mT - 2 * cross) / 2


def start_of(config: SaddleConfig, kernel: Kernel) -> tuple[Particles, Particles, Direction]:
    """Teacher, critical point and least direction of a configuration with one particle per neuron."""
    require(config.copies == 1, "copies", config.copies, "1: one particle per neuron, of equal masses")
    teacher, mu = saddle(config, kernel)
    return teacher, mu, least(kernel, teacher, mu)
