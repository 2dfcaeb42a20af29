"""W at fixed particles and the split joint flow: against closed forms, the unsplit flow, and the limit."""

import math

import pytest
import torch

from icl_lib.mean_field.changes import noisy_copies
from icl_lib.mean_field.flows import Joint, joint_flow
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import Covariances, covariances, loss, loss_at, velocity
from icl_lib.mean_field.measure import Particles, TeacherConfig, member, teachers
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K2 import excess, linear_rate, rates, relax, relaxed, ridge_flow, split_flow

D, K = 4, 2
KERNEL = Erf()
TEACHER = teachers([TeacherConfig("random", 2 * K, D, K, 2.0, (1.0, 0.6), s) for s in (0, 1)], KERNEL)
MU = noisy_copies(TEACHER, 2, 0.5, [0, 1])
COV = covariances(KERNEL, TEACHER, MU)
W = COV.optimum + torch.randn(2, K, K, generator=generator(0, "check"), dtype=torch.float64)
RATE = linear_rate(COV)


def test_noisy_copies_are_where_they_should_be() -> None:
    assert MU.a.shape == (2, 8, K) and torch.allclose(MU.p, torch.full((2, 8), 1 / 8, dtype=torch.float64))
    moved = [x - y.repeat_interleave(2, dim=1) for x, y in zip(MU[:2], TEACHER[:2], strict=True)]
    size = sum(x.square().sum(-1) for x in moved)
    assert torch.allclose((MU.p * size).sum(1).sqrt(), torch.full((2,), 0.5, dtype=torch.float64))
    exact = noisy_copies(TEACHER, 3, 0.0, [0, 1])
    assert loss(covariances(KERNEL, TEACHER, exact)).abs().max() < 1e-12
    solo = noisy_copies(member(TEACHER, 1), 2, 0.5, [1])
    assert torch.equal(solo.w[0], MU.w[1])


def test_excess_and_rates() -> None:
    torch.testing.assert_close(excess(COV, W), loss_at(COV, W) - loss(COV), rtol=1e-10, atol=1e-13)
    assert excess(COV, COV.optimum).abs().max() < 1e-25
    torch.testing.assert_close(rates(COV)[:, 0, 0], RATE)
    assert torch.equal(rates(COV).amax((1, 2)), rates(COV)[:, -1, -1])


@pytest.mark.parametrize("method", ["rk4", "radau"])
def test_numerical_flow_is_the_exact_one(method: str) -> None:
    horizon = 10 / RATE
    found = relax(COV, W, horizon, 5, method, tolerance=1e-10)
    for i in range(6):
        alone = [
            excess(one, relaxed(one, W[e : e + 1], float(horizon[e]) * i / 5))[0]
            for e in range(2)
            for one in [Covariances(*(part[e : e + 1] for part in COV))]
        ]
        torch.testing.assert_close(found[:, i], torch.stack(alone), rtol=1e-3, atol=0)


def test_a_wrong_rate_would_be_seen() -> None:
    """The late decay over the rate is 1 for the right covariances (member 0 has a second rate 5 % above), not for others."""
    found = relax(COV, W, 40 / RATE, 40)
    late = torch.log(found[:, 30] / found[:, 40]) / (10 / RATE)
    assert ((late / RATE - 1).abs() < 5e-2).all() and ((late / RATE.flip(0) - 1).abs() > 0.5).all()


def test_excess_stays_below_the_envelope() -> None:
    """Excess <= its start times exp(-rate t), with equality at t = 0; at the largest rate it would be broken."""
    units = torch.linspace(0, 45, 46, dtype=torch.float64)
    found = relax(COV, W, 45 / RATE, 45)
    above = (found / found[:, :1]).log() + units
    assert above.max() <= 1e-9 and (above[:, 1:] < -0.1).all()
    fast = rates(COV)[:, -1, -1] / RATE
    assert ((found[:, 1] / found[:, 0]).log() + fast > 0).all()


def test_absorbing_the_tasks_covariance() -> None:
    """y = v^T f° with E[v v^T] = S is the model of the paper with f° replaced by S^{1/2} f°: loss, optimum and velocity.

    Left, task by task from the definition: one scalar teacher v^T f° each, A_v = v^T A. No square root is taken there.
    """
    v = torch.randn(5, K, generator=generator(0, "check"), dtype=torch.float64)
    values, vectors = torch.linalg.eigh(v.mT @ v / len(v))
    root = (vectors * values.sqrt()) @ vectors.mT
    assert (root - torch.eye(K, dtype=torch.float64)).abs().max() > 0.1
    absorbed = TEACHER._replace(a=TEACHER.a @ root)
    tasks = [TEACHER._replace(a=TEACHER.a @ x[:, None]) for x in v]

    def of_tasks(mu: Particles, w: torch.Tensor) -> torch.Tensor:
        return torch.stack([loss_at(covariances(KERNEL, task, mu), w) for task in tasks]).mean(0)

    cov = covariances(KERNEL, absorbed, MU)
    torch.testing.assert_close(of_tasks(MU, W), loss_at(cov, W))
    torch.testing.assert_close(of_tasks(MU, COV.optimum), loss(cov))  # W_mu = B^{-1} does not depend on S
    v_a, v_w, _, _ = velocity(KERNEL, absorbed, MU)
    h, e = 1e-5, generator(1, "check")
    along = torch.randn(*MU.theta.shape, generator=e, dtype=torch.float64)
    ends = [
        of_tasks(moved, covariances(KERNEL, TEACHER, moved).optimum)
        for moved in (MU.moved_to(MU.theta + side * h * along) for side in (1, -1))
    ]
    slope = -(MU.p[..., None] * torch.cat([v_a, v_w], 2) * along).sum((1, 2))
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * h), slope, rtol=1e-6, atol=1e-9)


def test_exact_relaxation_composes_and_ends_at_the_optimum() -> None:
    twice = relaxed(COV, relaxed(COV, W, 0.7), 0.5)
    torch.testing.assert_close(twice, relaxed(COV, W, 1.2))
    assert torch.equal(relaxed(COV, W, math.inf), COV.optimum)
    torch.testing.assert_close(relaxed(COV, W, 0.0), W)
    torch.testing.assert_close(relaxed(COV, W, 1e4), COV.optimum)


def test_split_flow_has_order_two() -> None:
    first, errors = Joint(MU, W, 0.0), []
    exact, _ = joint_flow(KERNEL, TEACHER, first, 5.0, 0.002, 0.2)
    for dt in (0.01, 0.005, 0.0025):
        last, _ = split_flow(KERNEL, TEACHER, first, 5.0, dt, 0.2)
        errors.append(float((last.w - exact.w).abs().max()))
    assert 3.4 < errors[0] / errors[1] < 4.6 and 3.4 < errors[1] / errors[2] < 4.6


def test_large_ratios_tend_to_the_limit() -> None:
    first, losses = Joint(MU, COV.optimum, 0.0), {}
    for ratio in (1e3, 1e4, math.inf):
        _, history = split_flow(KERNEL, TEACHER, first, ratio, 0.02, 0.4)
        losses[ratio] = history["loss"].to_numpy()
    gaps = [abs(losses[r] - losses[math.inf]).max() for r in (1e3, 1e4)]
    assert gaps[1] < gaps[0] / 3


def test_a_ridge_moves_what_w_converges_to_and_nothing_else() -> None:
    first, none = Joint(MU, W, 0.0), torch.zeros(2, dtype=torch.float64)
    plain, ridged = (
        joint_flow(KERNEL, TEACHER, first, 5.0, 0.01, 0.1)[0],
        ridge_flow(KERNEL, TEACHER, first, 5.0, none, 0.01, 0.1)[0],
    )
    assert torch.equal(plain.w, ridged.w) and torch.equal(plain.mu.w, ridged.mu.w)
    size = RATE / 2
    end, history = ridge_flow(KERNEL, TEACHER, Joint(MU, COV.optimum, 0.0), 1000.0, size, 0.0005, 0.1)
    cov = covariances(KERNEL, TEACHER, end.mu)
    ata = cov.a.mT @ cov.a
    torch.testing.assert_close(ata @ end.w @ cov.b + size[:, None, None] * end.w, ata, rtol=0.05, atol=0.02)
    assert (history["loss"] - history["optimum"]).iloc[-2:].min() > 1e-3
    with pytest.raises(ConfigError, match="ridge"):
        ridge_flow(KERNEL, TEACHER, first, 1.0, none[:1], 0.01, 0.1)


def test_bad_values() -> None:
    for arguments, message in (
        ({"horizon": -RATE, "n_points": 3}, "horizon="),
        ({"horizon": RATE, "n_points": 0}, "n_points=0"),
        ({"horizon": RATE, "n_points": 3, "method": "heun"}, "method='heun'"),
        ({"horizon": RATE, "n_points": 3, "tolerance": 0.0}, "tolerance=0.0"),
    ):
        with pytest.raises(ConfigError, match=message):
            relax(COV, W, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="dt=0.0"):
        split_flow(KERNEL, TEACHER, Joint(MU, W, 0.0), 1.0, 0.0, 1.0)
    with pytest.raises(ConfigError, match="ratio=-1.0"):
        split_flow(KERNEL, TEACHER, Joint(MU, W, 0.0), -1.0, 0.1, 1.0)
    with pytest.raises(ConfigError, match="copies=0"):
        noisy_copies(TEACHER, 0, 0.5, [0, 1])
