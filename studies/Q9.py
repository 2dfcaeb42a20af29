"""Sums of eigenvalues at which the loss of a critical point can lie, and what the loss looks like there (question Q9; derived by us).

At a critical point in the sense of Theorem 3.3 of Kim & Suzuki 2024, M^T zeta = 0. With f° = M h + zeta, C = M B M^T +
Sigma_zeta and M^T Sigma_zeta = 0, so C Sigma_zeta = Sigma_zeta^2: Sigma_zeta is C on a subspace that C maps to itself, and 2 L =
tr Sigma_zeta is the sum of a subset J of the eigenvalues of C (Baldi & Hornik 1989 for linear networks).
"""

from itertools import chain, combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from icl_lib.mean_field.changes import displace, isotropic
from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.hessian import dense_blocks
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles, stack
from icl_lib.rng import generator
from icl_lib.validate import require_integer, require_number


def subsets(k: int) -> list[tuple[int, ...]]:
    """All sets J of missing outputs, the empty one first and the whole one last."""
    return list(chain.from_iterable(combinations(range(k), n) for n in range(k + 1)))


def levels(spectrum: ArrayLike) -> np.ndarray:
    """2 L at critical points that miss some outputs and not all: sums over the proper subsets.

    >>> levels((1.0, 0.6)).tolist()
    [1.0, 0.6]
    """
    lam = np.asarray(spectrum, float)
    return np.array([lam[list(J)].sum() for J in subsets(len(lam))[1:-1]])


def distance(twice_loss: ArrayLike, spectrum: ArrayLike) -> np.ndarray:
    """Distance of each 2 L to the nearest of ``levels``, over the mean one of a number that is uniform in [0, tr C]."""
    known, top = levels(spectrum), float(np.sum(spectrum))
    uniform = np.linspace(0, top, 10_001)
    near = [np.abs(np.asarray(x, float)[:, None] - known).min(axis=1) for x in (uniform, np.atleast_1d(twice_loss))]
    return near[1] / near[0].mean()


def missing(twice_loss: float, spectrum: ArrayLike) -> tuple[int, ...]:
    """J of the level that 2 L is nearest to, the lowest, 0, and the highest, tr C, included."""
    lam = np.asarray(spectrum, float)
    return min(subsets(len(lam)), key=lambda J: abs(lam[list(J)].sum() - twice_loss))


def directions(J: tuple[int, ...], spectrum: ArrayLike) -> int:
    """Directions of descent in the mean field: |J|^2 + #{(i, c): i learnt, c missing, lambda_i < lambda_c}.

    >>> [directions(J, (1.0, 0.6)) for J in ((), (1,), (0,), (0, 1))]
    [0, 1, 2, 4]
    """
    lam = np.asarray(spectrum, float)
    learnt = [i for i in range(len(lam)) if i not in J]
    return len(J) ** 2 + sum(int(lam[i] < lam[c]) for i in learnt for c in J)


def next_level(J: tuple[int, ...], spectrum: ArrayLike) -> tuple[int, ...]:
    """The J of the next lower level, of all but 0; for the lowest the highest."""
    lam = np.asarray(spectrum, float)
    order = sorted(subsets(len(lam))[1:], key=lambda J: lam[list(J)].sum())
    return order[order.index(J) - 1]


def with_silent(mu: Particles, n: int, size: float, seed: int = 0) -> Particles:
    """n neurons with a = 0 and |w| of root mean square ``size`` share half of the mass; the others' a is doubled, so h is the same.

    A critical point in the theorem's sense stays one: dL/dmu is constant wherever the new neurons are (stream "silent").
    """
    require_integer("n", n, 1)
    require_number("size", size, low=1e-9, allowed="a finite number above 0")
    members, _, d = mu.w.shape
    w = torch.randn(members, n, d, generator=generator(seed, "silent"), dtype=mu.w.dtype) * size / d**0.5
    masses = torch.full((members, n), 0.5 / n, dtype=mu.p.dtype)
    silent = torch.zeros(members, n, mu.a.shape[2], dtype=mu.a.dtype)
    return Particles(torch.cat([2 * mu.a, silent], 1), torch.cat([mu.w, w], 1), torch.cat([mu.p / 2, masses], 1))


def negatives(kernel: Kernel, teacher: Particles, mu: Particles) -> np.ndarray:
    """Eigenvalues of each member's particle Hessian below -1e-6 of the largest absolute one."""
    hessians = (hessian for _, hessian in dense_blocks(kernel, teacher, mu))
    values = torch.cat([torch.linalg.eigvalsh((one + one.mT) / 2) for one in hessians])
    return (values < -1e-6 * values.abs().amax(1, keepdim=True)).sum(1).numpy()


def axis_rate(kernel: Kernel, size: float) -> float:
    """kappa = (E[x s(ux)] E[s'(ux)])^2 / E[s(ux)^2]^2 for u = size, x ~ N(0, 1) and the activation s.

    The rate at which the flow leaves a saddle of one neuron per axis, unmixed, is k kappa times the largest missing
    eigenvalue. By Stein's identity E[x s(ux)] = u E[s'(ux)]; the kernel's slope between two axes is their product.
    """
    axes = size * torch.eye(2, dtype=torch.float64)
    first, second = axes[None, :1], axes[None, 1:]
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    slope = kernel.gradient(first, second, one, one)[0, 0, 1]  # E[s(ux_2) s'(ux_1) x_2]
    variance = kernel.gram(first, first)[0, 0, 0]
    return float((slope / variance) ** 2)


def departures(
    kernel: Kernel,
    spectrum: tuple[float, ...],
    seed: int,
    d: int,
    size: float,
    copies: int,
    by: float,
    config: FlowConfig,
) -> pd.DataFrame:
    """The flow from next to the unmixed saddle of every J: its history, with seed and J.

    Args:
        by: how far every start is from its saddle (root mean square over particles).
        config: of the flow.
    """
    sets = subsets(len(spectrum))[1:]
    pairs = [saddle(SaddleConfig(spectrum, J, d, size, copies, mix=False, seed=seed), kernel) for J in sets]
    teacher, mu = (stack([pair[side] for pair in pairs]) for side in (0, 1))
    begin = displace(mu, isotropic(mu, [1000 * seed + i for i in range(len(sets))]), by)
    history = flow(kernel, teacher, start(begin), config)[1]
    return history.assign(seed=seed, J=[sets[m] for m in history["member"]])


def growth(time: np.ndarray, fallen: np.ndarray, low: float, high: float) -> float:
    """Half the slope of ln(L_J - L) against time, by least squares where L_J - L is between low and high; nan if it is nowhere."""
    inside = (fallen > low) & (fallen < high)
    if inside.sum() < 3:
        return float("nan")
    return float(np.polyfit(time[inside], np.log(fallen[inside]), 1)[0]) / 2
