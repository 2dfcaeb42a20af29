"""Near a minimum: the spectrum against finite differences, its zeros, following the flow, and exponents of known tails."""

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Erf, ReLU
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, teachers
from icl_lib.validate import ConfigError
from studies import K7 as tails
from studies.K7 import flow_spectrum, follow, jittered, last_decade, late_rate, slowest, steadiness

KERNEL, D, K, N = Erf(), 4, 2, 3
TEACHER = teachers([TeacherConfig("random", N, D, K, 2.0, (1.0, 0.5), seed) for seed in (1, 5)], KERNEL)
MU = initial_particles([InitConfig("aligned", 5, D, K, 2.0, seed) for seed in (0, 1)])


def test_spectrum_is_that_of_the_linearised_velocity() -> None:
    """Eigenvalues of minus the Jacobian of the velocity, by central differences, with unequal masses."""
    p = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    own = member(TEACHER, 0)
    mu = jittered(own._replace(a=own.a * own.p[..., None] / p[..., None], p=p), 0.05, [0])
    theta, h = torch.cat([mu.a, mu.w], 2).flatten(), 1e-5

    def field(flat: torch.Tensor) -> torch.Tensor:
        v = velocity(KERNEL, own, Particles(flat.view(1, N, -1)[..., :K], flat.view(1, N, -1)[..., K:], p))
        return torch.cat([v.a, v.w], 2).flatten()

    eye = torch.eye(len(theta), dtype=theta.dtype)
    jacobian = torch.stack([(field(theta + h * e) - field(theta - h * e)) / (2 * h) for e in eye], 1)
    expected = np.sort(np.linalg.eigvals(-jacobian.numpy()).real)
    np.testing.assert_allclose(flow_spectrum(KERNEL, own, mu)[0].numpy(), expected, atol=1e-7)


def test_the_jacobian_is_that_of_the_velocity() -> None:
    """What the implicit integrators are given, by central differences, with unequal masses; a frozen w does not move."""
    p = torch.tensor([[0.1, 0.1, 0.2, 0.2, 0.4]], dtype=torch.float64)
    for frozen in (False, True):
        problem = tails._Problem(KERNEL, member(TEACHER, 0), member(MU, 0)._replace(p=p), frozen)
        y, steps = problem.start, 1e-5 * np.eye(len(problem.start))
        by_hand = np.stack([(problem.field(0, y + h) - problem.field(0, y - h)) / 2e-5 for h in steps], axis=1)
        np.testing.assert_allclose(problem.jacobian(0, y), by_hand * problem.moves, atol=1e-8)


def test_zeros_at_the_teacher_and_at_its_copies() -> None:
    at_teacher = flow_spectrum(KERNEL, TEACHER, TEACHER)
    assert (at_teacher[:, : K * K].abs() < 1e-12).all()
    torch.testing.assert_close(slowest(at_teacher, K), at_teacher[:, K * K])
    split = flow_spectrum(KERNEL, TEACHER, jittered(TEACHER, 0, [0, 1], copies=2))
    zeros = (split.abs() < 1e-12).sum(1)
    assert zeros.tolist() == [K * K + N * (K + D)] * 2
    with pytest.raises(ConfigError, match="with exactly k"):
        slowest(split, K)


def test_follow_agrees_with_the_flow() -> None:
    end, history = follow(KERNEL, TEACHER, MU, [0, 1, 2.0], tolerance=1e-9)
    state, table = flow(KERNEL, TEACHER, start(MU), FlowConfig("rk4", 0.02, 2.0, every=1.0))
    for x, y in zip(end, state.mu, strict=True):
        assert (x - y).abs().max() < 1e-6
    np.testing.assert_allclose(history["loss"], table.sort_values(["member", "time"])["loss"], rtol=1e-6)
    v = velocity(KERNEL, TEACHER, MU)
    expected = (MU.p * (v.a.square().sum(-1) + v.w.square().sum(-1))).sum(-1)
    np.testing.assert_allclose(history[history["time"] == 0]["speed2"], expected)


@pytest.mark.parametrize("method", ["Radau", "DOP853"])
def test_methods_agree(method: str) -> None:
    a, b = (follow(KERNEL, TEACHER, MU, [0, 3.0], m, 1e-8)[1]["loss"].to_numpy() for m in ("BDF", method))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_late_rate_is_twice_the_slowest_eigenvalue() -> None:
    own = member(TEACHER, 1)
    rate = slowest(flow_spectrum(KERNEL, own, own), K).item()
    end, history = follow(KERNEL, own, jittered(own, 1e-3, [0]), [0, 5 / rate, 6 / rate], tolerance=1e-9, stop_below=-1)
    s = history["speed2"].to_numpy()
    assert np.log(s[1] / s[2]) / 2 == pytest.approx(1, rel=1e-2)
    assert slowest(flow_spectrum(KERNEL, own, end), K).item() == pytest.approx(rate, rel=1e-2)


def test_late_rate_of_an_exponential() -> None:
    t = np.linspace(0, 10, 21)
    table = pd.DataFrame({"time": t, "speed2": np.exp(-0.6 * t) + np.exp(-6 * t)})
    assert late_rate(table, 5.0) == pytest.approx(0.6, rel=1e-6) and late_rate(table) > 0.6


def test_a_constant_rate_next_to_an_isolated_minimum_and_none_where_neurons_are_doubled() -> None:
    own = member(TEACHER, 1)
    rate = slowest(flow_spectrum(KERNEL, own, own), K).item()
    found = steadiness(KERNEL, own, jittered(own, 1e-2, [0]), rate)
    assert found.loss < 1e-10 and found.ratio == pytest.approx(1, abs=0.02)
    twice = steadiness(KERNEL, own, jittered(own, 1e-2, [0], copies=2), rate)
    assert twice.loss < 1e-6 and 0.7 < twice.ratio < 0.9
    with pytest.raises(ConfigError, match="mu=2"):
        steadiness(KERNEL, TEACHER, TEACHER, rate)
    with pytest.raises(ConfigError, match="rate=0"):
        steadiness(KERNEL, own, own, 0.0)


def test_frozen_w_and_stopping() -> None:
    end, history = follow(KERNEL, TEACHER, MU, [0, 1, 2.0], frozen_w=True)
    assert torch.equal(end.w, MU.w) and (history.groupby("member")["loss"].diff().dropna() < 0).all()
    _, short = follow(KERNEL, TEACHER, MU, [0, 1, 2.0], stop_below=10.0)
    assert short["time"].tolist() == [0, 0], "already below"


def test_exponents_of_known_tails() -> None:
    t = np.geomspace(1, 1e4, 33)
    parts = [pd.DataFrame({"member": e, "time": t, "loss": 3 * t**p}) for e, p in enumerate((-1.5, -2.0))]
    assert last_decade(pd.concat(parts)).tolist() == pytest.approx([-1.5, -2.0])
    with pytest.raises(ConfigError, match="a decade of time"):
        last_decade(parts[0][t > 5000])


def test_jitter_splits_and_belongs_to_its_seed() -> None:
    both = jittered(TEACHER, 0.1, [3, 4], copies=2)
    assert both.a.shape == (2, 2 * N, K) and both.p.sum(1).tolist() == pytest.approx([1, 1])
    alone = jittered(member(TEACHER, 1), 0.1, [4], copies=2)
    assert torch.equal(both.w[1], alone.w[0])
    assert torch.equal(jittered(TEACHER, 0, [3, 4]).a, TEACHER.a)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="times"):
        follow(KERNEL, TEACHER, MU, [1, 2])
    with pytest.raises(ConfigError, match="method='RK45'"):
        follow(KERNEL, TEACHER, MU, [0, 1], "RK45")
    with pytest.raises(ConfigError, match="tolerance"):
        follow(KERNEL, TEACHER, MU, [0, 1], tolerance=0)
    with pytest.raises(ConfigError, match="kernel='ReLU'"):
        follow(ReLU(), TEACHER, MU, [0, 1])
    with pytest.raises(ConfigError, match="kernel='ReLU'"):
        flow_spectrum(ReLU(), TEACHER, MU)
    with pytest.raises(ConfigError, match="seeds"):
        jittered(TEACHER, 0.1, [0])
    with pytest.raises(ConfigError, match="size=-1"):
        jittered(TEACHER, -1, [0, 1])
