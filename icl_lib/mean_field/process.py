"""The Gaussian process of ``perturb`` without its matrix: time N^2 and memory N instead of (N (k + d))^2.

sum_j H_mu(theta_i, theta_j) sqrt(p_j) z_j is how grad dL/dmu changes at theta_i, held in place, when every particle j of mu moves along
z_j / sqrt(p_j) (derived by us). A central difference of the exact velocity field gives it to some eight digits.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Covariances
from icl_lib.mean_field.measure import Particles, covariance, inverse_root
from icl_lib.mean_field.perturb import isotropic

DISTANCE = 1e-4  # root mean square displacement of the two measures of the difference


def velocity_at(
    kernel: Kernel, teacher: Particles, mu: Particles, a: Float[Tensor, "E M k"], w: Float[Tensor, "E M d"]
) -> Float[Tensor, "E M q"]:
    """-grad dL/dmu at any points (a, w), q = k + d; at the particles of mu it is ``landscape.velocity``.

    Raises ``SingularCovariance`` where B cannot be inverted.
    """
    known, weighted = teacher.a * teacher.p[..., None], mu.a * mu.p[..., None]
    b = covariance(kernel, mu, mu)
    m = Covariances(covariance(kernel, teacher, mu), (b + b.mT) / 2, b).m  # M needs no C
    v_a = (kernel.products(w, teacher.w, known) - kernel.products(w, mu.w, weighted @ m.mT)) @ m
    left = a @ m.mT
    v_w = kernel.gradient(w, teacher.w, left, known) - kernel.gradient(w, mu.w, left, weighted @ m.mT)
    return torch.cat([v_a, v_w], dim=2)


def draw_process(
    kernel: Kernel, teacher: Particles, mu: Particles, seeds: Sequence[int], step: int = 0
) -> Float[Tensor, "E N q"]:
    """As ``perturb.gaussian_process``, from the same numbers, up to the error of the difference; it raises the same."""
    inverse_root(covariance(kernel, mu, mu), "Sigma_mumu")  # the displaced measures hide that B is singular
    z = isotropic(mu, seeds, step)
    direction = z / mu.p.sqrt()[..., None]
    h = DISTANCE / (mu.p * direction.square().sum(-1)).sum(-1).sqrt()[:, None, None]
    k, ends = mu.a.shape[2], []
    for side in (h, -h):
        moved = mu._replace(a=mu.a + side * direction[..., :k], w=mu.w + side * direction[..., k:])
        ends.append(velocity_at(kernel, teacher, moved, mu.a, mu.w))
    return (ends[1] - ends[0]) / (2 * h)
