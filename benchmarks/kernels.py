"""Products with the exact kernel, K(w, w) R, against the kernel written out and against Monte Carlo at 1 % relative error.

The published width is 500. Sampled inputs are extrapolated: error as S^-1/2, time as S.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case, Size, relative, sizes
from benchmarks.exact_loss import D, K, setting
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.sampled import Sampled, gaussian_inputs
from icl_lib.rng import generator

AXES = sizes("N", 500)
SAMPLES, WANTED = 4096, 0.01
UNIT = "s per product"


def by_blocks(mu: Particles) -> Tensor:
    """Ours."""
    return Erf().products(mu.w, mu.w, mu.a * mu.p[..., None])


def written_out(mu: Particles) -> Tensor:
    """The formula in torch, with the N x N kernel in memory."""
    length = 1 + 2 * mu.w.square().sum(-1)
    inner = 2 * mu.w @ mu.w.mT / (length[..., None] * length[:, None]).sqrt()
    return 2 / torch.pi * inner.asin() @ (mu.a * mu.p[..., None])


def monte_carlo(mu: Particles, seed: int = 0) -> Tensor:
    """The same on ``SAMPLES`` inputs, features first."""
    kernel = Sampled(torch.erf, gaussian_inputs(SAMPLES, D, generator(seed, "benchmark inputs")))
    return kernel.products(mu.w, mu.w, mu.a * mu.p[..., None])


def at(size: Size) -> list[Case]:
    """All variants at one size."""
    _, mu = setting(n := int(size.value))
    exact = by_blocks(mu)
    error = float(np.sqrt(np.mean([relative(exact, monte_carlo(mu, seed)) ** 2 for seed in range(3)])))

    def differs(other: Callable[[Particles], Tensor], work: float) -> Callable[[], float]:
        return lambda: relative(exact, other(mu)) * work**0.5  # extrapolated where the time is

    ours = Case("exact kernel", "ours", size, UNIT, lambda: by_blocks(mu), precision="float64")
    work = min(1.0, (WANTED / error) ** 2)
    return [
        ours._replace(flop=2 * n * n * (D + K)),
        Case(
            "exact kernel", "torch, written out", size, UNIT, lambda: written_out(mu), 1, differs(written_out, 1), 1e-10
        ),
        Case(
            "exact kernel",
            "Monte Carlo, at 1 %",
            size,
            UNIT,
            lambda: monte_carlo(mu),
            work,
            differs(monte_carlo, work),
            3 * WANTED,
        ),
    ]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
