"""The loss of drawn prompts, and local minima of the n-sample loss (claim K9; the minima are exploratory, ours).

Kim & Suzuki 2024 argue (Appendix C.4) that spurious basins of L^n have a Wasserstein radius that vanishes with n.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor
from torch.func import hessian

from icl_lib.mean_field.kernels import Kernel, Sigma
from icl_lib.mean_field.kernels.base import OfOthers, OfRows, Others, Pairs, Rows
from icl_lib.mean_field.landscape import Covariances, trace
from icl_lib.mean_field.measure import Particles, member
from icl_lib.mean_field.moments import best_loss_n, empirical_moments, features
from icl_lib.mean_field.prompts import task_vectors
from icl_lib.rng import generator
from icl_lib.validate import require, require_integer


class Cube(Kernel):
    """sigma(z) = z^3 under x ~ N(0, I): K(w, v) = 9 |w|^2 |v|^2 w^T v + 6 (w^T v)^3 (Isserlis). A feature without a bound.

    >>> w = torch.tensor([[[2.0]]], dtype=torch.float64)
    >>> float(Cube().gram(w, w))  # 15 * 2^6
    960.0
    """

    def gram(self, w: Rows, v: Others) -> Pairs:
        inner = w @ v.mT
        sizes = w.square().sum(2)[..., None] * v.square().sum(2)[:, None]
        return 9 * sizes * inner + 6 * inner**3

    def products(self, w: Rows, v: Others, right: OfOthers) -> OfRows:
        return self.gram(w, v) @ right

    def gradient(self, w: Rows, v: Others, left: OfRows, right: OfOthers) -> Rows:
        inner, weight = w @ v.mT, left @ right.mT
        squares = v.square().sum(2)[:, None]
        along = weight * (9 * w.square().sum(2)[..., None] * squares + 18 * inner**2)
        return along @ v + 18 * (weight * squares * inner).sum(2)[..., None] * w


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


def prompt_excess(
    cov: Covariances, w: Float[Tensor, "E k k"], a_hat: Float[Tensor, "E P k0 k"]
) -> Float[Tensor, "E P"]:
    """``prompt_losses`` less L_TF and less their linear part in A_hat - A, whose mean is 0: 1/2 |(A_hat - A) W B^{1/2}|^2.

    The same mean as prompt_losses - L_TF with a smaller variance; at W = B^{-1} the linear part is 0 for every prompt.
    """
    off = (a_hat - cov.a[:, None]) @ w[:, None]
    return trace(off @ cov.b[:, None] @ off.mT) / 2


def whole_prompt_losses(
    activation: Sigma,
    nu: tuple[Particles, Particles],
    w: Float[Tensor, "E k k"],
    n: int,
    n_prompts: int,
    seeds: Sequence[int],
    law: str = "gaussian",
    noise: float = 0.0,
) -> Float[Tensor, "E P"]:
    """1/2 (y_q - prediction)^2 of whole prompts, nothing averaged; nu = (teacher, mu).

    Args:
        law: of v, see ``task_vectors``.
        noise: standard deviation of that on context labels.
    """
    found = []
    for e, seed in enumerate(seeds):
        gen, one = generator(seed, "check", n), [member(m, e) for m in nu]
        x = torch.randn(n_prompts * (n + 1), one[0].w.shape[2], generator=gen, dtype=w.dtype)
        f, h = (features(activation, m, x)[0].view(n_prompts, n + 1, -1) for m in one)
        v = task_vectors(law, (n_prompts, f.shape[2]), gen)
        y = torch.linalg.vecdot(f, v[:, None])
        labels = y[:, :n] + noise * torch.randn(n_prompts, n, generator=gen, dtype=w.dtype)
        g = (labels[..., None] * h[:, :n]).mean(1)
        found.append((y[:, n] - torch.linalg.vecdot(g @ w[e], h[:, n])).square() / 2)
    return torch.stack(found)
