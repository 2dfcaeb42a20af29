"""Wasserstein gradient flow of L(mu) on particles: dtheta_i/dt = -grad dL/dmu(theta_i) (Kim & Suzuki 2024, dynamics).

Two timescales: W sits at its optimum W_mu all the time (``joint.py`` has the flow in which it does not). Along the exact
flow dL/dt = -sum_i p_i |v_i|^2 and E_mu[a a^T] is conserved (derived by us); both are measured and returned.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import NonFinite, Velocity, velocity
from icl_lib.mean_field.measure import Particles, SingularCovariance, check_particles, covariance
from icl_lib.mean_field.runge_kutta import Parts, runge_kutta
from icl_lib.validate import require_choice, require_number


class Diverged(RuntimeError):
    """The flow left the region where it makes sense; the message names time and step, and the cause."""


@dataclass(frozen=True)
class FlowConfig:
    """How the flow is integrated.

    Attributes:
        method: "euler" (order 1), "rk4" (order 4), or "adaptive" (DOP853 of scipy, order 8, steps chosen by error).
        dt: time step; of "adaptive" the longest time between two checks of the stopping rules.
        t_end: time at which the flow ends.
        every: time between two rows of the history.
        cap: Euler only: a step is shortened so that no member moves by more than this in root mean square over
            particles (weighted by p). inf for none. Time then runs slower: the history tells it per member. `t_end` and
            `every` count steps at their full length dt, and so do births.
        stop_below: stop when every member's loss is below this.
        tolerance: "adaptive" only, relative; absolute is a hundredth of it.
    """

    method: str = "euler"
    dt: float = 0.1
    t_end: float = 10.0
    every: float = 1.0
    cap: float = math.inf
    stop_below: float = 0.0
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        require_choice("method", self.method, ("euler", "rk4", "adaptive"))
        for name in ("dt", "every", "tolerance"):
            require_number(name, getattr(self, name), low=1e-12, allowed="a finite number above 0")
        for name in ("t_end", "stop_below"):
            require_number(name, getattr(self, name), low=0)
        require_number("cap", self.cap, low=1e-12, allowed="a finite number above 0", or_infinity=True)


class State(NamedTuple):
    """A flow between two steps: particles; per member the time, and the integral of sum p |v|^2 so far; steps taken.

    `clock` is the sum of the steps as they were asked for: the time of a member whose steps `cap` has not shortened.
    """

    mu: Particles
    time: Float[Tensor, " E"]
    dissipated: Float[Tensor, " E"]
    step: int = 0
    clock: float = 0.0


# What happens to the particles after a step of length dt (before `cap` shortens it), see ``births.py``
Change = Callable[[State, float], Particles]


def start(mu: Particles) -> State:
    """Time 0 for all members; refuses what ``check_particles`` refuses."""
    check_particles(mu)
    zero = torch.zeros(len(mu.p), dtype=mu.a.dtype)
    return State(mu, zero, zero.clone())


def _moved(mu: Particles, v: Velocity, dt: Tensor) -> Particles:
    h = dt[:, None, None]
    return mu._replace(a=mu.a + h * v.a, w=mu.w + h * v.w)


def _speed2(mu: Particles, v: Velocity) -> Float[Tensor, " E"]:
    return (mu.p * (v.a.square().sum(-1) + v.w.square().sum(-1))).sum(-1)


def _after(state: State, mu: Particles, dt: Tensor, dissipated: Tensor) -> State:
    return state._replace(mu=mu, time=state.time + dt, dissipated=dissipated, step=state.step + 1)


def _euler(state: State, of: Callable[[Particles], Velocity], dt: Tensor, cap: float) -> State:
    v = of(state.mu)
    speed2 = _speed2(state.mu, v)
    dt = torch.minimum(dt, cap / speed2.sqrt().clamp(min=1e-300))
    return _after(state, _moved(state.mu, v, dt), dt, state.dissipated + dt * speed2)


def _rk4(state: State, of: Callable[[Particles], Velocity], dt: Tensor) -> State:
    def slope(y: Parts) -> Parts:
        mu = state.mu._replace(a=y[0], w=y[1])
        v = of(mu)
        return v.a, v.w, _speed2(mu, v)

    a, w, dissipated = runge_kutta(slope, (state.mu.a, state.mu.w, state.dissipated), dt)
    return _after(state, state.mu._replace(a=a, w=w), dt, dissipated)


def _adaptive(state: State, of: Callable[[Particles], Velocity], dt: Tensor, tolerance: float) -> State:
    """All members in one system, whose last entries are their dissipations."""
    mu, sizes = state.mu, [state.mu.a.numel(), state.mu.w.numel(), len(state.mu.p)]

    def unpack(y: object) -> Particles:
        a, w, _ = torch.as_tensor(y, dtype=mu.a.dtype).split(sizes)
        return mu._replace(a=a.view_as(mu.a), w=w.view_as(mu.w))

    def slope(_: float, y: object) -> object:
        now = unpack(y)
        v = of(now)
        return torch.cat([v.a.flatten(), v.w.flatten(), _speed2(now, v)]).numpy()

    y = torch.cat([mu.a.flatten(), mu.w.flatten(), state.dissipated]).numpy()
    done = solve_ivp(slope, (0.0, float(dt[0])), y, method="DOP853", rtol=tolerance, atol=tolerance / 100)
    if not done.success:
        raise Diverged(f"time {float(state.time[0]):.6g}: {done.message}")
    dissipated = torch.as_tensor(done.y[:, -1]).split(sizes)[2].clone()
    return _after(state, unpack(done.y[:, -1]), dt, dissipated)


def flow(
    kernel: Kernel, teacher: Particles, state: State, config: FlowConfig, change: Change | None = None
) -> tuple[State, pd.DataFrame]:
    """Follow the flow from ``state`` (of ``start``, or where another run ended) until its clock is at ``t_end``.

    Interrupted after whole steps, and resumed, its particles are those of the uninterrupted run.

    Args:
        teacher: one per member.
        change: applied after every step (birth-death, perturbations).

    Returns:
        The state at the end, and the history, one row per member and recorded time: member, time, loss, dissipated (the
        integral of sum p |v|^2 since time 0), drift (of E[a a^T] from where this call began, largest entry).

    Raises:
        Diverged: a particle is not finite, or B has become singular; names the time and dt.

    >>> from icl_lib.mean_field.erf import Erf
    >>> from icl_lib.mean_field.measure import InitConfig, TeacherConfig, initial_particles, teachers
    >>> teacher = teachers([TeacherConfig(n=2, d=4, k=2)], Erf())
    >>> mu = initial_particles([InitConfig(n=50, d=4, k=2)])
    >>> config = FlowConfig(method="rk4", dt=0.1, t_end=0.2, every=0.1)
    >>> state, history = flow(Erf(), teacher, start(mu), config)
    >>> state.step, history["time"].round(6).tolist()
    (2, [0.0, 0.1, 0.2])
    >>> bool(history["loss"].is_monotonic_decreasing)
    True
    """
    c = covariance(kernel, teacher, teacher)
    n_members = len(state.mu.p)

    def of(mu: Particles) -> Velocity:
        return velocity(kernel, teacher, mu, c)

    def second_moment(mu: Particles) -> Tensor:
        return mu.weighted.mT @ mu.a

    first = second_moment(state.mu)
    rows: list[tuple] = []
    recorded = 0.0

    def record() -> Tensor:
        now = of(state.mu).loss
        drift = (second_moment(state.mu) - first).abs().amax((1, 2))
        columns = (state.time, now, state.dissipated, drift)
        rows.extend((i, *values) for i, values in enumerate(zip(*(x.tolist() for x in columns), strict=True)))
        return now

    try:
        losses = record()
        while state.clock < config.t_end - 1e-12 and not bool((losses < config.stop_below).all()):
            h = min(config.dt, config.t_end - state.clock)
            dt = torch.full((n_members,), h, dtype=state.mu.a.dtype)
            if config.method == "euler":
                state = _euler(state, of, dt, config.cap)
            else:
                state = _rk4(state, of, dt) if config.method == "rk4" else _adaptive(state, of, dt, config.tolerance)
            if change is not None:
                state = state._replace(mu=change(state, h))
            state, recorded = state._replace(clock=state.clock + h), recorded + h
            if recorded >= config.every - 1e-9 or state.clock >= config.t_end - 1e-12:
                losses, recorded = record(), 0.0
    except (NonFinite, SingularCovariance) as cause:
        raise Diverged(f"time {state.clock:.6g}, dt={config.dt}, {config.method}: {cause}") from cause
    return state, pd.DataFrame(rows, columns=["member", "time", "loss", "dissipated", "drift"])
