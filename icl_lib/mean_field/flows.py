"""Wasserstein gradient flows on particles: of L(mu), and of L_TF(mu, W) in the particles and in W (Kim & Suzuki 2024).

``flow`` keeps W at its optimum W_mu all the time (two timescales): dtheta_i/dt = -grad dL/dmu(theta_i). Along the exact
flow dL/dt = -sum_i p_i |v_i|^2 and E_mu[a a^T] is conserved (derived by us); both are measured and returned.

``joint_flow`` (Lemma 3.1): dtheta_i/dt = -grad dL_TF/dmu(theta_i) and dW/dt = -ratio dL_TF/dW; ratio = 0 freezes W, a
large one approaches the flow of L(mu). First variation at any W, derived by us, with F(w) = E[f° sigma(w^T x)],
q(w) = E[h_mu sigma(w^T x)] and D = E[h (f° - A W h)^T] = A^T - B W^T A^T:
dL_TF/dmu(a, w) = -a^T [W D F(w) + W^T A^T (F(w) - A W q(w))]; at W = W_mu, D is 0. Conserved is
E_mu[a a^T] - (W W^T + W^T W) / ratio (L_TF does not change under a -> R a, W -> R^{-T} W R^{-1}).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.mean_field.integrate import Change, Parts, State, euler, integrate, runge_kutta, speed2
from icl_lib.mean_field.kernels import Kernel
from icl_lib.mean_field.landscape import Covariances, Velocity, covariances, loss, loss_at, velocity
from icl_lib.mean_field.measure import Particles, check_finite, check_particles, covariance
from icl_lib.validate import require, require_choice, require_number


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

    >>> from icl_lib.mean_field import Erf, InitConfig, TeacherConfig, initial_particles, teachers
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


class Joint(NamedTuple):
    """A joint flow between two steps."""

    mu: Particles
    w: Float[Tensor, "E k k"]
    time: float


def attention_velocity(cov: Covariances, w: Float[Tensor, "E k k"]) -> Float[Tensor, "E k k"]:
    """-dL_TF/dW = A^T A (1 - W B)."""
    ata = cov.a.mT @ cov.a
    return ata - ata @ w @ cov.b


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
        check_finite(losses.isfinite(), "the loss")
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
