"""W at fixed particles, and the joint flow at any ratio of the timescales (claim K2; Kim & Suzuki 2024, Lemma 3.1).

At fixed mu dW/dt = A^T A (1 - W B) is linear: with A^T A = U diag(s) U^T and B = V diag(b) V^T the entry (i, j) of
U^T (W - B^{-1}) V falls like exp(-s_i b_j t), and L_TF - L = 1/2 |A (W - B^{-1}) B^{1/2}|^2 at twice these rates
(derived by us). ``relax`` does not use this: it integrates the flow numerically.
"""

import math

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.flows import Joint, attention_velocity, follow_both, joint_velocity
from icl_lib.mean_field.integrate import Parts, runge_kutta
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Covariances, covariances
from icl_lib.mean_field.measure import NonFinite, Particles
from icl_lib.validate import require, require_choice, require_integer, require_number


def rates(cov: Covariances) -> Float[Tensor, "E k k"]:
    """2 s_i b_j, both ascending: the rates at which the parts of L_TF - L fall at fixed mu; [:, 0, 0] is the slowest."""
    s, b = (torch.linalg.eigvalsh(x) for x in (cov.a.mT @ cov.a, cov.b))
    return 2 * s[:, :, None] * b[:, None, :]


def excess(cov: Covariances, w: Float[Tensor, "E k k"]) -> Float[Tensor, " E"]:
    """L_TF(mu, W) - L(mu) = 1/2 tr(A D B D^T A^T), D = W - B^{-1}: no cancellation, so that it can be followed down."""
    ad = cov.a @ (w - cov.optimum)
    return (ad * (ad @ cov.b)).sum((1, 2)) / 2


def relax(
    cov: Covariances,
    w: Float[Tensor, "E k k"],
    horizon: Float[Tensor, " E"],
    n_points: int,
    method: str = "rk4",
    tolerance: float = 1e-8,
) -> Float[Tensor, "E T"]:
    """L_TF - L along the flow of W at fixed mu, at T = n_points + 1 times from 0 to each member's horizon.

    Args:
        w: where the members start.
        method: "rk4", fixed steps, which keep the relative size of slow parts down to rounding; or "radau" of scipy
            (implicit, order 5), for stiff flows, whose parts are lost once they are below its tolerance.
        tolerance: of "radau", relative; absolute is a hundredth of it.

    Raises:
        Diverged: the solver gave up; names the member.
        icl_lib.mean_field.measure.NonFinite: the excess at the start is NaN or infinite, as with NaN in a teacher.
    """
    require_choice("method", method, ("rk4", "radau"))
    require_integer("n_points", n_points, 1)
    require_number("tolerance", tolerance, low=1e-14, high=0.1)
    ok = horizon.shape == w.shape[:1] and bool((horizon.isfinite() & (horizon > 0)).all())
    require(ok, "horizon", horizon.tolist(), "positive and finite, one per member")
    if not excess(cov, w).isfinite().all():
        raise NonFinite(f"L_TF - L at the start is NaN or infinite: {excess(cov, w).tolist()}")
    if method == "rk4":
        return _rk4(cov, w, horizon, n_points)
    return _radau(cov, w, horizon, n_points, tolerance)


def _rk4(cov: Covariances, w: Tensor, horizon: Tensor, n_points: int) -> Tensor:
    fastest = rates(cov)[:, -1, -1] / 2
    substeps = int((horizon * fastest / n_points).max().ceil().clamp(min=1))
    h, found = horizon / n_points / substeps, [excess(cov, w)]
    for _ in range(n_points):
        for _ in range(substeps):
            (w,) = runge_kutta(lambda y: (attention_velocity(cov, y[0]),), (w,), h)
        found.append(excess(cov, w))
    return torch.stack(found, dim=1)


def _radau(cov: Covariances, w: Tensor, horizon: Tensor, n_points: int, tolerance: float) -> Tensor:
    found = []
    for e in range(len(w)):
        one = Covariances(*(part[e : e + 1] for part in cov))

        def field(_: float, y: np.ndarray, one: Covariances = one) -> np.ndarray:
            return attention_velocity(one, torch.as_tensor(y).view_as(one.b)).flatten().numpy()

        jacobian = -np.kron((one.a.mT @ one.a)[0].numpy(), one.b[0].numpy())
        at = np.linspace(0.0, float(horizon[e]), n_points + 1)
        options = {"rtol": tolerance, "atol": tolerance / 100, "jac": jacobian}
        done = solve_ivp(field, (0.0, at[-1]), w[e].flatten().numpy(), method="Radau", t_eval=at, **options)
        if not done.success:
            raise Diverged(f"member {e}, tolerance={tolerance}: {done.message}")
        path = torch.as_tensor(done.y.T.copy()).view(-1, *one.b.shape[1:])
        found.append(excess(Covariances(*(part.expand(len(path), -1, -1) for part in one)), path))
    return torch.stack(found)


def relaxed(cov: Covariances, w: Float[Tensor, "E k k"], time: float) -> Float[Tensor, "E k k"]:
    """Where the flow of W at fixed mu is after `time`, exactly; W_mu = B^{-1} for an infinite one."""
    best = cov.optimum
    if time == math.inf:
        return best
    (s, u), (b, v) = (torch.linalg.eigh(x) for x in (cov.a.mT @ cov.a, cov.b))
    decay = torch.exp(-time * s[:, :, None] * b[:, None, :])
    return best + u @ ((u.mT @ (w - best) @ v) * decay) @ v.mT


def split_flow(
    kernel: Kernel, teacher: Particles, state: Joint, ratio: float, dt: float, t_end: float, every: int = 1
) -> tuple[Joint, pd.DataFrame]:
    """The joint flow by Strang's splitting: W exactly for dt/2, the particles by Runge-Kutta for dt at fixed W, W again.

    Of order 2, and stable for any `ratio`, where ``joint_flow`` needs steps of order 1 / ratio. A ratio of inf keeps W
    at W_mu between the steps: the two-timescale flow to order 1.

    Returns and raises what ``joint_flow`` does.
    """
    require_number("ratio", ratio, low=0, or_infinity=True)

    def step(now: Joint, h: float) -> Joint:
        w = relaxed(covariances(kernel, teacher, now.mu), now.w, ratio * h / 2)

        def field(y: Parts) -> Parts:
            return joint_velocity(kernel, teacher, now.mu._replace(a=y[0], w=y[1]), w)[:2]

        a, moved = runge_kutta(field, now.mu[:2], h)
        mu = now.mu._replace(a=a, w=moved)
        return Joint(mu, relaxed(covariances(kernel, teacher, mu), w, ratio * h / 2), now.time + h)

    return follow_both(kernel, teacher, state, step, dt, t_end, every)


def ridge_flow(
    kernel: Kernel,
    teacher: Particles,
    state: Joint,
    ratio: float,
    ridge: Float[Tensor, " E"],
    dt: float,
    t_end: float,
    every: int = 1,
) -> tuple[Joint, pd.DataFrame]:
    """``joint_flow`` with -ridge W in the velocity of W: as fast, but what W converges to is not W_mu (a control, ours).

    Returns and raises what ``joint_flow`` does; losses are those without the ridge.
    """
    require_number("ratio", ratio, low=0)
    require(ridge.shape == state.w.shape[:1], "ridge", tuple(ridge.shape), "one per member")

    def field(y: Parts) -> Parts:
        a, w, attention = joint_velocity(kernel, teacher, state.mu._replace(a=y[0], w=y[1]), y[2])
        return a, w, ratio * (attention - ridge[:, None, None] * y[2])

    def step(now: Joint, h: float) -> Joint:
        a, w, attention = runge_kutta(field, (now.mu.a, now.mu.w, now.w), h)
        return Joint(now.mu._replace(a=a, w=w), attention, now.time + h)

    return follow_both(kernel, teacher, state, step, dt, t_end, every)


def invariant(state: Joint, ratio: float) -> Float[Tensor, "E k k"]:
    """E[a a^T] - (W W^T + W^T W) / ratio, which the joint flow conserves (derived by us, see ``flows.py``)."""
    second = state.mu.weighted.mT @ state.mu.a
    return second - (state.w @ state.w.mT + state.w.mT @ state.w) / ratio


def linear_rate(cov: Covariances) -> Float[Tensor, " E"]:
    """2 lambda_min(A^T A) lambda_min(B): the slowest rate at which L_TF - L falls at fixed mu, where dW/dt is linear."""
    smallest = [torch.linalg.eigvalsh(x)[:, 0] for x in (cov.a.mT @ cov.a, cov.b)]
    return 2 * smallest[0] * smallest[1]
