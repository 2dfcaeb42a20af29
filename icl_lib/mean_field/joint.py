"""Gradient flow of L_TF in particles and W together (Kim & Suzuki 2024, Lemma 3.1 and the two timescales).

dtheta_i/dt = -grad dL_TF/dmu(theta_i) and dW/dt = -ratio dL_TF/dW; ratio = 0 freezes W, a large one approaches the flow
of L(mu). First variation at any W, derived by us, with F(w) = E[f° sigma(w^T x)], q(w) = E[h_mu sigma(w^T x)] and
D = E[h (f° - A W h)^T] = A^T - B W^T A^T: dL_TF/dmu(a, w) = -a^T [W D F(w) + W^T A^T (F(w) - A W q(w))]; at W = W_mu, D is 0.
E_mu[a a^T] - (W W^T + W^T W) / ratio is conserved (L_TF does not change under a -> R a, W -> R^{-T} W R^{-1}).
"""

from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.integrate import Parts, integrate, runge_kutta
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Covariances, NonFinite, covariances, loss, loss_at
from icl_lib.mean_field.measure import Particles, check_particles
from icl_lib.validate import require, require_number


class Joint(NamedTuple):
    """A joint flow between two steps."""

    mu: Particles
    w: Float[Tensor, "E k k"]
    time: float


def attention_velocity(cov: Covariances, w: Float[Tensor, "E k k"]) -> Float[Tensor, "E k k"]:
    """-dL_TF/dW = A^T A (1 - W B)."""
    ata = cov.a.mT @ cov.a
    return ata - ata @ w @ cov.b


def linear_rate(cov: Covariances) -> Float[Tensor, " E"]:
    """2 lambda_min(A^T A) lambda_min(B): the slowest rate at which L_TF - L falls at fixed mu, where dW/dt is linear."""
    smallest = [torch.linalg.eigvalsh(x)[:, 0] for x in (cov.a.mT @ cov.a, cov.b)]
    return 2 * smallest[0] * smallest[1]


def joint_velocity(
    kernel: Kernel, teacher: Particles, mu: Particles, w: Float[Tensor, "E k k"]
) -> tuple[Float[Tensor, "E N k"], Float[Tensor, "E N d"], Float[Tensor, "E k k"]]:
    """-grad dL_TF/dmu at the particles, in a and in w, and -dL_TF/dW."""
    known, weighted = teacher.weighted, mu.weighted
    f, q = kernel.products(mu.w, teacher.w, known), kernel.products(mu.w, mu.w, weighted)
    cov = Covariances(f.mT @ weighted, q.mT @ weighted, torch.zeros(len(w), f.shape[2], f.shape[2], dtype=w.dtype))
    aw = cov.a @ w
    d = cov.a.mT - cov.b @ aw.mT
    of_teacher, of_self = w @ d + aw.mT, aw.mT @ aw  # (k, k0), (k, k)
    d_a = f @ of_teacher.mT - q @ of_self.mT
    d_w = kernel.gradient(mu.w, teacher.w, mu.a @ of_teacher, known)
    d_w = d_w - kernel.gradient(mu.w, mu.w, mu.a @ of_self, weighted)
    return d_a, d_w, attention_velocity(cov, w)


def follow_both(
    kernel: Kernel,
    teacher: Particles,
    state: Joint,
    step: Callable[[Joint, float], Joint],
    dt: float,
    t_end: float,
    every: int,
) -> tuple[Joint, pd.DataFrame]:
    """Steps of length `dt` by any rule from ``state`` to ``t_end``; results and errors as ``joint_flow``."""
    check_particles(state.mu)
    require_number("dt", dt, low=1e-12, allowed="a finite number above 0")
    k = state.mu.a.shape[2]
    require(state.w.shape == (len(state.mu.p), k, k), "w", tuple(state.w.shape), f"of shape (E, {k}, {k})")
    rows: list[tuple] = []

    def record(now: Joint) -> None:
        cov = covariances(kernel, teacher, now.mu)
        losses, best = loss_at(cov, now.w), loss(cov)
        if not losses.isfinite().all():
            raise NonFinite(f"the loss of member {int(losses.isfinite().int().argmin())} is NaN or infinite")
        rows.extend((i, now.time, *pair) for i, pair in enumerate(zip(losses.tolist(), best.tolist(), strict=True)))

    plan = repeat(dt, max(0, round((t_end - state.time) / dt)))
    state = integrate(state, step, plan, record, every, lambda now: f"time {now.time:.6g}, dt={dt}")
    return state, pd.DataFrame(rows, columns=["member", "time", "loss", "optimum"])


def joint_flow(
    kernel: Kernel, teacher: Particles, state: Joint, ratio: float, dt: float, t_end: float, every: int = 1
) -> tuple[Joint, pd.DataFrame]:
    """Runge-Kutta steps of order 4, from ``state`` to ``t_end``.

    Args:
        ratio: how much faster W moves than the particles.
        every: steps between two rows of the history.

    Returns:
        The end, and one row per member and recorded step: member, time, loss (L_TF), optimum (L(mu), W at its best).

    Raises:
        Diverged: a loss is not finite, or B is singular; names time and dt.
    """
    require_number("ratio", ratio, low=0)

    def field(y: Parts) -> Parts:
        d_a, d_w, d_attention = joint_velocity(kernel, teacher, state.mu._replace(a=y[0], w=y[1]), y[2])
        return d_a, d_w, ratio * d_attention

    def step(now: Joint, h: float) -> Joint:
        a, w, attention = runge_kutta(field, (now.mu.a, now.mu.w, now.w), h)
        return Joint(now.mu._replace(a=a, w=w), attention, now.time + h)

    return follow_both(kernel, teacher, state, step, dt, t_end, every)
