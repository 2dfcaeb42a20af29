"""Random displacements of all particles: a Gaussian process made from the Hessian kernel, or isotropic noise.

Kim & Suzuki 2024 perturb near a saddle by a Gaussian process whose covariance comes from H_mu. We take the covariance
int H_mu(theta, .) H_mu(., theta') dmu (our reading), which is positive by construction and is drawn exactly: the
displacement of particle i is sum_j H_mu(theta_i, theta_j) sqrt(p_j) z_j with standard normal z. Both kinds are then
scaled to one Wasserstein budget, so that they differ in direction and in nothing else.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.hessian import hessian_kernel
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.measure import Particles
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_number


def isotropic(mu: Particles, seeds: Sequence[int], step: int = 0) -> Float[Tensor, "E N q"]:
    """Independent standard normal displacements of (a, w), q = k + d; stream (seed, "perturb", step) of each member."""
    require(len(seeds) == len(mu.p), "seeds", list(seeds), f"one per member, {len(mu.p)}")
    shape = (mu.a.shape[1], mu.a.shape[2] + mu.w.shape[2])
    draws = [torch.randn(shape, generator=generator(s, "perturb", step), dtype=mu.a.dtype) for s in seeds]
    return torch.stack(draws)


def gaussian_process(
    kernel: Kernel, teacher: Particles, mu: Particles, seeds: Sequence[int], step: int = 0
) -> Float[Tensor, "E N q"]:
    """One draw of the Gaussian process at the particles, made from the same numbers as ``isotropic``.

    Time and memory grow as (N q)^2. Raises ``SingularCovariance`` where B cannot be inverted.
    """
    z = isotropic(mu, seeds, step) * mu.p.sqrt()[..., None]
    return torch.einsum("enmqr,emr->enq", hessian_kernel(kernel, teacher, mu, mu.theta, mu.theta), z)


def displace(mu: Particles, displacement: Float[Tensor, "E N q"], budget: float) -> Particles:
    """Particles moved so that each member's root mean square displacement, weighted by p, is ``budget``.

    This is an upper bound on the 2-Wasserstein distance, and equal to it for small budgets.

    Raises:
        ConfigError: a negative budget, or a displacement that is zero or not finite.

    >>> from icl_lib.mean_field.measure import InitConfig, initial_particles
    >>> mu = initial_particles([InitConfig(n=50, d=4, k=2)])
    >>> moved = displace(mu, isotropic(mu, seeds=[0]), budget=0.1)
    >>> square = (moved.a - mu.a).square().sum(-1) + (moved.w - mu.w).square().sum(-1)
    >>> round(float((mu.p * square).sum().sqrt()), 6)
    0.1
    """
    require_number("budget", budget, low=0)
    size = (mu.p * displacement.square().sum(-1)).sum(-1).sqrt()
    ok = bool((size > 0).all()) and bool(size.isfinite().all())
    require(ok, "displacement", size.tolist(), "finite and not zero (sizes of the members)")
    return mu.moved_to(mu.theta + twinned(displacement * (budget / size)[:, None, None], 0))
