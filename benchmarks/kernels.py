"""Products with the exact kernel, K(w, w) R, against the kernel written out and against Monte Carlo at 1 % relative error.

The published width is 500.
"""

from functools import partial

import torch
from torch import Tensor

from benchmarks.case import Case, Size, sizes
from benchmarks.exact_loss import D, K, against, setting
from icl_lib.mean_field.erf import Erf
from icl_lib.mean_field.measure import Particles
from icl_lib.mean_field.sampled import Sampled, gaussian_inputs
from icl_lib.rng import generator

AXES = sizes("N", 500)
SAMPLES = 4096
UNIT = "s per product"


def by_blocks(mu: Particles) -> Tensor:
    """Ours."""
    return Erf().products(mu.w, mu.w, mu.a * mu.p[..., None])


def written_out(mu: Particles) -> Tensor:
    """The formula in torch, with the N x N kernel in memory."""
    length = 1 + 2 * mu.w.square().sum(-1)
    inner = 2 * mu.w @ mu.w.mT / (length[..., None] * length[:, None]).sqrt()
    return 2 / torch.pi * inner.asin() @ (mu.a * mu.p[..., None])


def monte_carlo(mu: Particles, seed: int) -> Tensor:
    """The same on ``SAMPLES`` inputs, features first."""
    kernel = Sampled(torch.erf, gaussian_inputs(SAMPLES, D, generator(seed, "benchmark inputs")))
    return kernel.products(mu.w, mu.w, mu.a * mu.p[..., None])


def at(size: Size) -> list[Case]:
    """All variants at one size."""
    _, mu = setting(n := int(size.value))
    ours = lambda: by_blocks(mu)  # noqa: E731
    case = Case("exact kernel", "ours", size, UNIT, ours, flop=2 * n * n * (D + K), precision="float64")
    others = {"torch, written out": lambda: written_out(mu)}
    return [case, *against(case, ours(), others, 1e-10, partial(monte_carlo, mu), "Monte Carlo, at 1 %")]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
