"""Local minima of the n-sample loss over particles: does a finite prompt make spurious basins? (Exploratory, ours.)

Kim & Suzuki 2024 argue (Appendix C.4) that spurious basins of L^n have a Wasserstein radius that vanishes with n.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor
from torch.func import hessian

from icl_lib.mean_field.activations import Sigma
from icl_lib.mean_field.finite_prompts import best_loss_n, empirical_moments
from icl_lib.mean_field.measure import Particles
from icl_lib.validate import require, require_integer


class Minimum(NamedTuple):
    """Where a minimisation ended: one member, its loss, the largest entry of the gradient, the least curvature.

    ``curvature`` is the smallest eigenvalue of the Hessian over the largest; 0 along a -> G a, so never above rounding.
    """

    mu: Particles
    loss: float
    slope: float
    curvature: float


def minimise_n(
    activation: Sigma, teacher: Particles, mu: Particles, x: Float[Tensor, "S d"], n: float, max_steps: int = 2000
) -> Minimum:
    """Minimise min_W L^n(mu, W) over the particles of one member (L-BFGS of scipy), x being the law of the inputs.

    L^n does not change under a -> G a. Masses stay as they are.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    require(len(mu.a) == 1, "mu", tuple(mu.a.shape), "an ensemble of one")
    require_integer("max_steps", max_steps, 1)
    sizes = [mu.a.numel(), mu.w.numel()]

    def unpack(theta: Tensor) -> Particles:
        a, w = theta.split(sizes)
        return mu._replace(a=a.view_as(mu.a), w=w.view_as(mu.w))

    def loss(theta: Tensor) -> Tensor:
        return best_loss_n(empirical_moments(activation, teacher, unpack(theta), x), n)[0]

    def value(theta: np.ndarray) -> tuple[float, np.ndarray]:
        at = torch.tensor(theta, requires_grad=True)
        out = loss(at)
        return out.item(), torch.autograd.grad(out, at)[0].numpy()

    start = torch.cat([mu.a.flatten(), mu.w.flatten()]).numpy()
    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}
    done = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    if not math.isfinite(done.fun):
        raise FloatingPointError(f"n={n}: the loss is not finite after {done.nit} steps")
    end = torch.tensor(done.x)
    eigenvalues = torch.linalg.eigvalsh(hessian(loss)(end))
    curvature = float(eigenvalues[0] / eigenvalues[-1])
    return Minimum(unpack(end), float(done.fun), float(abs(done.jac).max()), curvature)
