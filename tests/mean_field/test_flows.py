"""The flow: orders of convergence, the energy identity, what is conserved, ensembles, resuming, and divergence."""

import math

import numpy as np
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, loss, velocity
from icl_lib.mean_field.measure import (
    InitConfig,
    Particles,
    TeacherConfig,
    initial_particles,
    member,
    teachers,
    uniform,
)
from icl_lib.validate import ConfigError

D, K, N = 5, 2, 12
KERNEL = Erf()
TEACHER = teachers([TeacherConfig("axes", K, D, K, 2.0, (1.0, 0.5))] * 2, KERNEL)
MU = initial_particles([InitConfig("aligned", N, D, K, 2.0, seed) for seed in (0, 1)])


def run(method: str, dt: float, t_end: float = 1.0, mu: Particles = MU, teacher: Particles = TEACHER, **more: float):
    config = FlowConfig(method, dt, t_end, every=t_end, **more)
    return flow(KERNEL, teacher, start(mu), config)


EXACT = run("adaptive", 1.0, tolerance=1e-12)[0].mu


@pytest.mark.parametrize(("method", "order", "steps"), [("euler", 1, (40, 80, 160)), ("rk4", 4, (5, 10, 20))])
def test_order_of_convergence(method: str, order: int, steps: tuple[int, ...]) -> None:
    errors = [
        max((x - y).abs().max().item() for x, y in zip(run(method, 1 / n)[0].mu, EXACT, strict=True)) for n in steps
    ]
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(rates, order, atol=0.35)


def test_energy_identity_and_conserved_second_moment() -> None:
    """L(0) - L(t) is what was dissipated, and E[a a^T] stays, to the tolerance of the integrator."""
    _, history = run("adaptive", 0.5, 3.0, tolerance=1e-10)
    for _, part in history.groupby("member"):
        lost = part["loss"].iloc[0] - part["loss"].iloc[-1]
        assert lost > 0.01 and part["dissipated"].iloc[-1] == pytest.approx(lost, rel=1e-7)
        assert part["drift"].max() < 1e-8
    _, coarse = run("euler", 0.1, 3.0)
    assert coarse["drift"].max() > 1e-5, "Euler's drift is there to be seen"


def test_an_euler_step_by_hand() -> None:
    """Both kinds of weights move by the velocity at the old positions; what is dissipated weighs particles by mass."""
    p = torch.arange(1.0, N + 1).double().repeat(2, 1)
    mu = MU._replace(p=p / p.sum(1, keepdim=True))
    v = velocity(KERNEL, TEACHER, mu)
    state, history = run("euler", 0.1, 0.1, mu=mu)
    torch.testing.assert_close(state.mu.a, mu.a + 0.1 * v.a)
    torch.testing.assert_close(state.mu.w, mu.w + 0.1 * v.w)
    squares = v.a.square().sum(-1) + v.w.square().sum(-1)
    torch.testing.assert_close(state.dissipated, 0.1 * (mu.p * squares).sum(-1))
    assert history[history["time"] == 0]["loss"].tolist() == pytest.approx(v.loss.tolist())


def test_loss_falls_and_a_saddle_stays() -> None:
    config = FlowConfig("rk4", 0.05, 2.0, every=0.2)
    _, history = flow(KERNEL, TEACHER, start(MU), config)
    assert (history.groupby("member")["loss"].diff().dropna() < 0).all()
    teacher, mu = saddle(SaddleConfig((1.0, 0.5), (0,), D), KERNEL)
    _, still = flow(KERNEL, teacher, start(mu), FlowConfig("rk4", 0.1, 2.0))
    np.testing.assert_allclose(still["loss"], 0.5, rtol=1e-10)


@pytest.mark.parametrize("method", ["euler", "rk4"])
def test_an_ensemble_is_its_members(method: str) -> None:
    both, _ = run(method, 0.1)
    for e in range(2):
        alone, _ = run(method, 0.1, mu=member(MU, e), teacher=member(TEACHER, e))
        for x, y in zip(both.mu, alone.mu, strict=True):
            assert (x[e] - y[0]).abs().max() < 1e-12


@pytest.mark.parametrize(("method", "cap"), [("rk4", math.inf), ("euler", math.inf), ("euler", 0.01)])
def test_resumed_is_uninterrupted(method: str, cap: float) -> None:
    whole, _ = run(method, 0.1, 1.0, cap=cap)
    half, first = run(method, 0.1, 0.5, cap=cap)
    resumed, second = flow(KERNEL, TEACHER, half, FlowConfig(method, 0.1, 1.0, every=0.5, cap=cap))
    assert (half.time < 0.5 - 1e-3).all() == (cap < 1) and resumed.step == whole.step
    for x, y in zip(whole.mu, resumed.mu, strict=True):
        assert (x - y).abs().max() < 1e-12
    np.testing.assert_allclose(whole.dissipated, resumed.dissipated, rtol=1e-12)
    assert second["time"].min() == first.groupby("member")["time"].max().min()
    np.testing.assert_allclose(whole.time, resumed.time, rtol=1e-12)


def test_cap_limits_each_step_and_the_members_own_time() -> None:
    cap = 0.01
    state, _ = run("euler", 0.1, 0.1, cap=cap)
    moved = sum((MU.p[..., None] * (x - y).square()).sum((1, 2)) for x, y in zip(state.mu[:2], MU[:2], strict=True))
    assert (moved.sqrt() <= cap + 1e-12).all() and (state.time < 0.1).all() and (state.time > 0).all()
    free, _ = run("euler", 0.1, 0.1)
    assert free.time.tolist() == [0.1, 0.1]


def test_stopping_and_changes() -> None:
    _, history = run("rk4", 0.05, 50.0, stop_below=1e9)
    assert history["time"].max() == 0, "already below"
    seen: list[tuple[float, float]] = []

    def freeze(state: State, dt: float) -> Particles:
        seen.append((state.time[0].item(), dt))
        return MU

    state, _ = flow(KERNEL, TEACHER, start(MU), FlowConfig("euler", 0.25, 1.0), freeze)
    assert torch.equal(state.mu.w, MU.w) and [s[0] for s in seen] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_flows_end_near_the_teacher_with_enough_particles() -> None:
    state, history = run("rk4", 0.1, 30.0)
    assert loss(covariances(KERNEL, TEACHER, state.mu)).max() < 0.02 < history["loss"].max()


def test_divergence_names_time_and_step() -> None:
    twins = Particles(torch.ones(1, 3, 2).double(), MU.w[:1, :3], uniform(3))
    with pytest.raises(Diverged, match=r"time 0, dt=0.1, euler: Sigma_mumu of member 0 is singular"):
        flow(KERNEL, member(TEACHER, 0), start(twins), FlowConfig())
    with pytest.raises(Diverged, match="dt=1e"):
        flow(KERNEL, TEACHER, start(MU), FlowConfig("rk4", 1e150, 1e152))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"method": "heun"}, "method='heun'"), ({"dt": 0.0}, "dt=0.0"), ({"t_end": -1.0}, "t_end=-1.0"), ({"cap": 0.0}, "cap=0.0"),
     ({"dt": float("nan")}, "dt=nan"), ({"every": -1.0}, "every=-1.0")],
)  # fmt: skip
def test_bad_values_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FlowConfig(**changes)


def test_bad_particles_are_refused() -> None:
    with pytest.raises(ConfigError, match="w: must be finite"):
        start(MU._replace(w=MU.w * float("nan")))
