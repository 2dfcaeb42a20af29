"""Near a global minimum: the linearised flow and its spectrum, and flows followed over many decades of time.

Kim & Suzuki 2024 state a local rate; its constants are not used here. Ours: the flow is dtheta_i/dt = -(1/p_i) grad_i L, so
its linearisation at a minimum is -D^{-1} Hess L with D = diag(p_i), similar to the symmetric -D^{-1/2} Hess L D^{-1/2}.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.integrate import BDF, DOP853, Radau
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.hessian import exact_loss, gradient_and_hessian
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Velocity, covariances, velocity
from icl_lib.mean_field.measure import (
    NonFinite,
    Particles,
    SingularCovariance,
    check_particles,
    covariance,
    member,
    stack,
)
from icl_lib.rng import generator
from icl_lib.twin import twinned
from icl_lib.validate import require, require_choice, require_number

METHODS = {"BDF": BDF, "Radau": Radau, "DOP853": DOP853}


def jittered(mu: Particles, size: float, seeds: Sequence[int], copies: int = 1) -> Particles:
    """Every particle split into ``copies`` of equal mass, each coordinate then moved by ``size`` times a normal number.

    Stream (seed, "jitter"), one seed per member.
    """
    require_number("size", size, low=0)
    require(len(seeds) == len(mu.p), "seeds", list(seeds), f"one per member, {len(mu.p)}")
    split = Particles(*(x.repeat_interleave(copies, dim=1) for x in mu))
    shape, kind = split.theta.shape[1:], mu.a.dtype
    z = torch.stack([torch.randn(shape, generator=generator(s, "jitter"), dtype=kind) for s in seeds])
    return split.moved_to(split.theta + twinned(size * z, 0))._replace(p=split.p / copies)


class _Problem:
    """One member's flow in flat coordinates, ordered particle by particle (a_i, w_i)."""

    def __init__(self, kernel: Kernel, teacher: Particles, mu: Particles, frozen_w: bool) -> None:
        self.kernel, self.teacher, self.mu, self.shape = kernel, teacher, mu, mu.theta.shape[1:]
        self.c = covariance(kernel, teacher, teacher)
        moves = torch.ones(self.shape, dtype=mu.a.dtype)
        moves[:, mu.a.shape[2] :] *= not frozen_w
        self.moves = moves.flatten().numpy()
        self.masses = mu.p[0].repeat_interleave(self.shape[1]).numpy()
        self.start = mu.theta.flatten().numpy()

    def particles(self, y: ndarray) -> Particles:
        k, theta = self.mu.a.shape[2], torch.as_tensor(y).reshape(1, *self.shape)
        return Particles(theta[..., :k], theta[..., k:], self.mu.p)

    def at(self, y: ndarray) -> Velocity:
        return velocity(self.kernel, self.teacher, self.particles(y), self.c)

    def loss(self, y: ndarray) -> float:
        return float(exact_loss(self.kernel, self.teacher, self.particles(y))[0])

    def field(self, _: float, y: ndarray) -> ndarray:
        return self.flat(self.at(y))

    def flat(self, v: Velocity) -> ndarray:
        return self.moves * torch.cat([v.a, v.w], dim=2).flatten().numpy()

    def hessian(self, y: ndarray) -> ndarray:
        """Second derivatives of L, without 1/p."""
        return gradient_and_hessian(self.kernel, self.teacher, self.particles(y))[1].numpy().reshape(y.size, y.size)

    def jacobian(self, _: float, y: ndarray) -> ndarray:
        return -(self.moves / self.masses)[:, None] * self.hessian(y) * self.moves


def flow_spectrum(kernel: Kernel, teacher: Particles, mu: Particles) -> Float[Tensor, "E Nq"]:
    """Eigenvalues of D^{-1/2} Hess L D^{-1/2}, ascending: the rates of the linearised flow; q = k + d. Dense.

    Raises:
        ConfigError: a kernel without second derivatives.
        SingularCovariance: B cannot be inverted.
        icl_lib.mean_field.measure.NonFinite: A is NaN or infinite.
    """
    require(kernel.smooth, "kernel", type(kernel).__name__, "twice differentiable")
    covariances(kernel, teacher, mu).m  # noqa: B018  raises where Sigma_mumu is singular or a teacher NaN
    found = []
    for e in range(len(mu.p)):
        problem = _Problem(kernel, member(teacher, e), member(mu, e), False)
        root = problem.masses**-0.5
        hessian = problem.hessian(problem.start)
        found.append(torch.as_tensor(np.linalg.eigvalsh(root[:, None] * (hessian + hessian.T) / 2 * root)))
    return torch.stack(found)


class Tail(NamedTuple):
    """Particles at the last time, and one row per member and time seen: member, time, loss, speed2 = sum p |v|^2 = -dL/dt."""

    mu: Particles
    history: pd.DataFrame


def follow(
    kernel: Kernel,
    teacher: Particles,
    mu: Particles,
    times: Sequence[float] | ndarray,
    method: str = "BDF",
    tolerance: float = 1e-6,
    stop_below: float = 1e-13,
    frozen_w: bool = False,
    max_steps: int | None = None,
) -> Tail:
    """The flow of L(mu) of each member alone, by an integrator of scipy for stiff systems, with the exact Jacobian.

    Stability bounds the step of an explicit method by the largest eigenvalue, however slow the flow has become. Implicit
    formulas have no such bound, so that decades of time cost little. Work per step grows as (N q)^3.

    Args:
        times: increasing, from 0; where the flow is looked at.
        method: "BDF" or "Radau"; "DOP853" is explicit, for comparison.
        tolerance: relative; absolute is 10^-4 of it.
        stop_below: a member ends where its loss falls below; under 1e-15 of the teacher's variance L is rounding.
        frozen_w: only a moves (a control).
        max_steps: at most so many steps of the integrator for a member; None for any number.

    Raises:
        ConfigError: a kernel without second derivatives.
        Diverged: the integrator gave up or needed more steps, or a particle is not finite, or B has become singular.
    """
    check_particles(mu)
    require_choice("method", method, tuple(METHODS))
    require_number("tolerance", tolerance, low=1e-14)
    require(kernel.smooth, "kernel", type(kernel).__name__, "twice differentiable")
    grid = np.asarray(times, float)
    fits = grid.ndim == 1 and len(grid) >= 2 and grid[0] == 0 and bool((np.diff(grid) > 0).all())
    require(fits, "times", grid.tolist(), "increasing from 0")
    ends, rows = [], []
    for e in range(len(mu.p)):
        problem = _Problem(kernel, member(teacher, e), member(mu, e), frozen_w)
        try:
            seen = _solve(problem, grid, method, tolerance, stop_below, max_steps)
        except (NonFinite, SingularCovariance) as cause:
            raise Diverged(f"member {e}, {method}: {cause}") from cause
        for time, y in seen:
            v = problem.at(y)
            rows.append((e, time, float(v.loss[0]), float((problem.masses * problem.flat(v) ** 2).sum())))
        ends.append(problem.particles(seen[-1][1].copy()))
    return Tail(stack(ends), pd.DataFrame(rows, columns=["member", "time", "loss", "speed2"]))


def _solve(
    problem: _Problem, grid: ndarray, method: str, tolerance: float, stop: float, max_steps: int | None
) -> list[tuple[float, ndarray]]:
    options = {} if method == "DOP853" else {"jac": problem.jacobian}
    steps = {"rtol": tolerance, "atol": tolerance * 1e-4, **options}
    solver = METHODS[method](problem.field, 0.0, problem.start, grid[-1], **steps)
    seen, steps_left = [(0.0, problem.start)], max_steps
    while solver.status == "running" and problem.loss(solver.y) >= stop:
        if steps_left is not None:
            if steps_left == 0:
                raise Diverged(f"time {solver.t:.6g}, {method}: more than {max_steps} steps")
            steps_left -= 1
        message = solver.step()
        if solver.status == "failed":
            raise Diverged(f"time {solver.t:.6g}, {method}: {message}")
        inside = grid[(grid > solver.t_old) & (grid <= solver.t)]
        seen += [(float(t), y) for t, y in zip(inside, solver.dense_output()(inside).T, strict=True)]
    return seen


def late_rate(history: pd.DataFrame, after: float = 0.0) -> float:
    """Rate at which -dL/dt of one member falls after a time, which next to a minimum is that of L: a least-squares slope."""
    late = history[history["time"] >= after]
    return -float(np.polyfit(late["time"], np.log(late["speed2"]), 1)[0])


class Steadiness(NamedTuple):
    """The loss at the end of a flow, and its rate in the last quarter of time over that in the quarter before: 1 for e^{-rt}."""

    loss: float
    ratio: float


def steadiness(
    kernel: Kernel,
    teacher: Particles,
    mu: Particles,
    rate: float,
    lifetimes: float = 6.0,
    tolerance: float = 1e-9,
    close: float = 0.02,
) -> Steadiness:
    """Whether the flow of one member comes to fall at a constant rate, read off -dL/dt, and no eigenvalue needed.

    First half of ``lifetimes`` / ``rate``, to come near. Then up to twice as many lifetimes of the rate that was seen last, so that
    L falls by a fixed factor: under a power of time t^{-p} the ratio would then be near 0.75 however late one looks. It
    ends where the ratio is within ``close`` of 1; nan if the rate is not above 0, both nan if 5 000 steps do not suffice.
    """
    require(len(mu.p) == 1, "mu", len(mu.p), "an ensemble of one")
    require_number("rate", rate, low=1e-300)
    ratio = np.nan
    for leg in range(3):
        times = np.linspace(0, (lifetimes if leg else lifetimes / 2) / rate, 33)
        try:
            mu, history = follow(kernel, teacher, mu, times, tolerance=tolerance, stop_below=-1, max_steps=5000)
        except Diverged:
            return Steadiness(np.nan, np.nan)
        late = [late_rate(history.iloc[start:end]) for start, end in ((16, 25), (24, 33))]
        if not min(late) > 0:
            return Steadiness(float(history["loss"].iloc[-1]), np.nan)
        ratio, rate = late[1] / late[0], late[1] / 2
        if leg and abs(ratio - 1) < close:
            break
    return Steadiness(float(history["loss"].iloc[-1]), ratio)


def last_decade(history: pd.DataFrame) -> pd.Series:
    """Per member, the exponent of L against t between a tenth of its last time and that time (logs interpolated)."""
    found = {}
    for e, part in history[history["time"] > 0].groupby("member"):
        log_t, log_l = np.log(part["time"].to_numpy()), np.log(part["loss"].to_numpy())
        start = log_t[-1] - np.log(10)
        require(bool(log_t[0] <= start), "history", float(part["time"].iloc[0]), "of at least a decade of time")
        found[e] = (log_l[-1] - np.interp(start, log_t, log_l)) / np.log(10)
    return pd.Series(found, name="exponent")


def slowest(spectrum: Float[Tensor, "E Nq"], k: int, tolerance: float = 1e-10) -> Float[Tensor, " E"]:
    """The smallest eigenvalue that is not one of the k^2 zeros of the invariance a -> R a.

    Raises:
        ConfigError: fewer than k^2 eigenvalues below ``tolerance`` times the largest, or more: the minimum is degenerate.
    """
    sizes = torch.sort(spectrum.abs(), dim=1)[0]
    n_zero = (sizes < tolerance * sizes[:, -1:]).sum(1)
    require(bool((n_zero == k * k).all()), "spectrum", n_zero.tolist(), f"with exactly k^2 = {k * k} zeros")
    return sizes[:, k * k]
