"""The Gaussian process of ``perturb`` without its matrix: time N^2 and memory N instead of (N (k + d))^2.

sum_j H_mu(theta_i, theta_j) sqrt(p_j) z_j is how grad dL/dmu changes at theta_i, held in place, when every particle j of mu moves along
z_j / sqrt(p_j) (derived by us). A central difference of the exact velocity field gives it to some eight digits.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import velocity_at
from icl_lib.mean_field.measure import Particles, covariance, inverse_root
from icl_lib.mean_field.perturb import isotropic

DISTANCE = 1e-4  # root mean square displacement of the two measures of the difference


def draw_process(
    kernel: Kernel, teacher: Particles, mu: Particles, seeds: Sequence[int], step: int = 0
) -> Float[Tensor, "E N q"]:
    """As ``perturb.gaussian_process``, from the same numbers, up to the error of the difference; it raises the same."""
    inverse_root(covariance(kernel, mu, mu), "Sigma_mumu")  # the displaced measures hide that B is singular
    z = isotropic(mu, seeds, step)
    direction = z / mu.p.sqrt()[..., None]
    h = DISTANCE / (mu.p * direction.square().sum(-1)).sum(-1).sqrt()[:, None, None]
    sides = (mu.moved_to(mu.theta + side * direction) for side in (h, -h))
    ends = [velocity_at(kernel, teacher, moved, mu.a, mu.w) for moved in sides]
    return (ends[1] - ends[0]) / (2 * h)
