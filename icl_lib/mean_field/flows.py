"""Wasserstein gradient flow of L(mu) on particles: dtheta_i/dt = -grad dL/dmu(theta_i) (Kim & Suzuki 2024, dynamics).

Two timescales: W sits at its optimum W_mu all the time (``joint.py`` has the flow in which it does not). Along the exact
flow dL/dt = -sum_i p_i |v_i|^2 and E_mu[a a^T] is conserved (derived by us); both are measured and returned.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.integrate import Parts, euler, integrate, runge_kutta, speed2
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Velocity, velocity
from icl_lib.mean_field.measure import Particles, check_particles, covariance
from icl_lib.validate import require_choice, require_number


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


def _after(state: State, mu: Particles, dt: Tensor | float, dissipated: Tensor) -> State:
    return state._replace(mu=mu, time=state.time + dt, dissipated=dissipated, step=state.step + 1)


def _euler(state: State, of: Callable[[Particles], Velocity], h: float, config: FlowConfig) -> State:
    v = of(state.mu)
    square = speed2(state.mu, v.a, v.w)
    dt = (config.cap / square.sqrt().clamp(min=1e-300)).clamp(max=h)  # ``capped``, which rounds otherwise
    return _after(state, euler(state.mu, v.a, v.w, dt), dt, state.dissipated + dt * square)


def _rk4(state: State, of: Callable[[Particles], Velocity], h: float, config: FlowConfig) -> State:
    def field(y: Parts) -> Parts:
        mu = state.mu._replace(a=y[0], w=y[1])
        v = of(mu)
        return v.a, v.w, speed2(mu, v.a, v.w)

    a, w, dissipated = runge_kutta(field, (state.mu.a, state.mu.w, state.dissipated), h)
    return _after(state, state.mu._replace(a=a, w=w), h, dissipated)


def _adaptive(state: State, of: Callable[[Particles], Velocity], h: float, config: FlowConfig) -> State:
    """All members in one system, whose last entries are their dissipations."""
    mu, sizes = state.mu, [state.mu.a.numel(), state.mu.w.numel(), len(state.mu.p)]

    def unpack(y: object) -> Particles:
        a, w, _ = torch.as_tensor(y, dtype=mu.a.dtype).split(sizes)
        return mu._replace(a=a.view_as(mu.a), w=w.view_as(mu.w))

    def field(_: float, y: object) -> object:
        now = unpack(y)
        v = of(now)
        return torch.cat([v.a.flatten(), v.w.flatten(), speed2(now, v.a, v.w)]).numpy()

    y = torch.cat([mu.a.flatten(), mu.w.flatten(), state.dissipated]).numpy()
    rtol = config.tolerance
    done = solve_ivp(field, (0.0, h), y, method="DOP853", rtol=rtol, atol=rtol / 100)
    if not done.success:
        raise Diverged(f"time {float(state.time[0]):.6g}: {done.message}")
    dissipated = torch.as_tensor(done.y[:, -1]).split(sizes)[2].clone()
    return _after(state, unpack(done.y[:, -1]), h, dissipated)


STEPS = {"euler": _euler, "rk4": _rk4, "adaptive": _adaptive}


def _lengths(clock: float, config: FlowConfig) -> Iterator[float]:
    """Of the steps from here to ``t_end``."""
    while clock < config.t_end - 1e-12:
        yield (h := min(config.dt, config.t_end - clock))
        clock += h


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

    def of(mu: Particles) -> Velocity:
        return velocity(kernel, teacher, mu, c)

    def second_moment(mu: Particles) -> Tensor:
        return mu.weighted.mT @ mu.a

    first = second_moment(state.mu)
    rows: list[tuple] = []

    def record(now: State) -> bool:
        losses, drift = of(now.mu).loss, (second_moment(now.mu) - first).abs().amax((1, 2))
        columns = (now.time, losses, now.dissipated, drift)
        rows.extend((i, *values) for i, values in enumerate(zip(*(x.tolist() for x in columns), strict=True)))
        return bool((losses < config.stop_below).all())

    def step(now: State, h: float) -> State:
        now = STEPS[config.method](now, of, h, config)
        if change is not None:
            now = now._replace(mu=change(now, h))
        return now._replace(clock=now.clock + h)

    plan, every = _lengths(state.clock, config), max(1, math.ceil((config.every - 1e-9) / config.dt))
    words = f"dt={config.dt}, {config.method}"
    state = integrate(state, step, plan, record, every, lambda now: f"time {now.clock:.6g}, {words}")
    return state, pd.DataFrame(rows, columns=["member", "time", "loss", "dissipated", "drift"])
