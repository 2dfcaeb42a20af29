"""The chain of bounds on the dissipation: each step, against autograd and by hand; births as a control; what is refused."""

import pytest
import torch

from icl_lib.mean_field.changes import BirthDeath, births
from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.integrate import State
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, first_variation, loss, velocity
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, stack, teachers
from icl_lib.validate import ConfigError
from studies.K5 import (
    atomic_reference,
    births_from,
    chain,
    density_ratio,
    dissipation,
    log_ratio,
    mixture,
    spread_teachers,
    velocity_in_a,
)

TEACHER = teachers([TeacherConfig("random", 6, 5, 2, 2.0, (1.0, 0.7), 3)], Erf())
INIT = InitConfig("aligned", 12, 5, 2, 2.0, 4)
PI = atomic_reference(TEACHER, INIT, 0.25)
MU = initial_particles([InitConfig("aligned", 30, 5, 2, 2.0, 5)])


def test_mixture_and_density() -> None:
    mixed = mixture(MU, PI, 0.1)
    assert mixed.p.sum().item() == pytest.approx(1) and mixed.p[0, 30:].sum().item() == pytest.approx(0.1)
    assert density_ratio(TEACHER, PI).item() == pytest.approx(4.0), "a quarter of pi lies on the teacher's weights"
    assert density_ratio(TEACHER, mixed).item() == pytest.approx(40.0)
    twice = Particles(TEACHER.a.repeat(1, 2, 1), TEACHER.w.repeat(1, 2, 1), TEACHER.p.repeat(1, 2) / 2)
    assert density_ratio(twice, PI).item() == pytest.approx(4.0), "split atoms count together"
    assert density_ratio(TEACHER, MU).isinf().all()


def test_slope_in_a_is_the_gradient() -> None:
    a, w = MU.a.clone().requires_grad_(), MU.w
    first_variation(Erf(), TEACHER, MU, a, w).sum().backward()
    assert a.grad is not None
    assert (a.grad + velocity_in_a(Erf(), TEACHER, MU, w)).abs().max() < 1e-12


@pytest.mark.parametrize("gamma", [0.01, 0.3])
@pytest.mark.parametrize("time", [0.0, 4.0])
def test_every_step_of_the_chain(gamma: float, time: float) -> None:
    state, _ = flow(Erf(), TEACHER, start(MU), FlowConfig("euler", 0.1, time, cap=0.2))
    got = chain(Erf(), TEACHER, state.mu, PI, gamma)
    steps = torch.stack(got[:5])[:, 0]
    assert (steps[:-1] >= (1 - 1e-10) * steps[1:]).all() and steps[-1] > 0
    mixed = mixture(state.mu, PI, gamma)
    cov = covariances(Erf(), TEACHER, mixed)
    assert got.loss.item() == pytest.approx(loss(cov).item(), rel=1e-12)
    if time:
        assert got.loss < 0.35 and 0 < got.from_loss.item() <= got.nuclear.item()
    size = (TEACHER.p * TEACHER.a.square().sum(-1)).sum()
    singular = torch.linalg.svdvals(cov.residual[0] @ cov.m[0]).sum()
    assert got.nuclear.item() == pytest.approx((gamma / 4 * singular**2 / size).item(), rel=1e-10)


def test_the_integral_against_the_teacher_is_sigma_zeta_m() -> None:
    """int M^T g a°^T dmu° = M^T Sigma_zeta, on which the Cauchy-Schwarz step rests."""
    cov = covariances(Erf(), TEACHER, MU)
    slopes = velocity_in_a(Erf(), TEACHER, MU, TEACHER.w)
    integral = (slopes * TEACHER.p[..., None]).mT @ TEACHER.a
    assert (integral - cov.m.mT @ cov.residual).abs().max() < 1e-12


def test_the_loss_bound_is_for_low_losses() -> None:
    high = chain(Erf(), TEACHER, MU, PI, 0.3)
    assert high.loss > 0.35 and high.from_loss.isnan().all()


def test_every_step_sees_the_size_of_a_alike() -> None:
    """L is the same at 3 a, M a third and B nine times: slopes in a and all their bounds are a ninth."""
    state, _ = flow(Erf(), TEACHER, start(MU), FlowConfig("euler", 0.1, 4.0, cap=0.2))
    plain = chain(Erf(), TEACHER, state.mu, PI, 0.1)
    larger = chain(Erf(), TEACHER, *(nu._replace(a=3 * nu.a) for nu in (state.mu, PI)), 0.1)
    torch.testing.assert_close(larger.loss, plain.loss)
    for step in ("in_a", "on_pi", "on_teacher", "nuclear", "from_loss"):
        torch.testing.assert_close(getattr(larger, step), getattr(plain, step) / 9)


def test_control_without_pi() -> None:
    """Two particles at rest above the minimum: the bound's right side is positive and the dissipation is not there."""
    few = initial_particles([InitConfig("aligned", 2, 5, 2, 2.0, 1)])
    rest, _ = flow(Erf(), TEACHER, start(few), FlowConfig("rk4", 0.2, 100.0, every=100.0))
    bare = chain(Erf(), TEACHER, rest.mu, PI, 0.1, rest.mu)
    assert bare.loss > 0.02 and bare.dissipation.item() < 0.1 * bare.nuclear.item()
    assert chain(Erf(), TEACHER, rest.mu, PI, 0.1).dissipation.item() > bare.nuclear.item()


def test_ensembles_and_bad_values() -> None:
    both = chain(Erf(), stack([TEACHER] * 2), stack([MU] * 2), stack([PI] * 2), 0.1)
    assert torch.allclose(both.dissipation[1:], chain(Erf(), TEACHER, MU, PI, 0.1).dissipation)
    with pytest.raises(ConfigError, match="gamma=0.0"):
        mixture(MU, PI, 0.0)
    with pytest.raises(ConfigError, match="share=1.0"):
        atomic_reference(TEACHER, INIT, 1.0)
    with pytest.raises(ConfigError, match="pi="):
        chain(Erf(), TEACHER, MU, MU, 0.1)


def test_newborns_are_neurons_of_the_measure_and_the_same_die() -> None:
    """Births at a high rate: all are atoms of nu, by mass; who dies is the same as under births from pi."""
    nu = Particles(TEACHER.a[:, :2], TEACHER.w[:, :2], torch.tensor([[0.2, 0.8]], dtype=torch.float64))
    mu = initial_particles([InitConfig("aligned", 2000, 5, 2, 2.0, 5)])
    config = BirthDeath(2.0, INIT, 10.0)
    state = State(mu, torch.zeros(1).double(), torch.zeros(1).double(), 3)
    ours, fresh = births_from(nu, config, [7])(state, 0.2), births(config, [7])(state, 0.2)
    moved = (ours.w != mu.w).any(2)[0]
    assert torch.equal(moved, (fresh.w != mu.w).any(2)[0]) and 0.28 < moved.double().mean() < 0.38
    heavy = (ours.w[0, moved] == nu.w[0, 1]).all(1)
    assert (heavy | (ours.w[0, moved] == nu.w[0, 0]).all(1)).all() and 0.75 < heavy.double().mean() < 0.85
    assert torch.equal(ours.a[0, moved][heavy], nu.a[0, 1].expand(int(heavy.sum()), 2)) and torch.equal(ours.p, mu.p)
    late = births_from(nu, config, [7])(state._replace(time=torch.full((1,), 10.0).double()), 0.2)
    assert torch.equal(late.w, mu.w), "annealed to nothing"
    with pytest.raises(ConfigError, match="seeds"):
        births_from(nu, config, [7, 8])


def test_spread_teachers_have_a_density_of_at_most_two() -> None:
    """Output j's neurons fill w_j > 0 like pi: twice its density there; C = 1; |a|^2 grows like d."""
    small, large = (spread_teachers(Erf(), 300, d, 2, 2.0, [1, 2]) for d in (8, 32))
    assert (small.w[:, :300, 0] > 0).all() and (small.w[:, 300:, 1] > 0).all() and (small.w[:, :300, 1] < 0).any()
    assert small.w.square().sum(2).mean().item() == pytest.approx(4, rel=0.05)
    assert (covariances(Erf(), small, small).c - torch.eye(2)).abs().max() < 1e-10
    sizes = [(t.p * t.a.square().sum(2)).sum(1).mean().item() for t in (small, large)]
    assert 2.5 < sizes[1] / sizes[0] < 4.5
    alone = spread_teachers(Erf(), 300, 8, 2, 2.0, [2])
    assert (alone.a[0] - small.a[1]).abs().max() < 1e-12
    with pytest.raises(ConfigError, match="k=3"):
        spread_teachers(Erf(), 5, 2, 3, 2.0, [0])


def test_dissipation_is_the_decrease_of_the_loss() -> None:
    total, in_a = dissipation(velocity(Erf(), TEACHER, MU), MU)
    state, _ = flow(Erf(), TEACHER, start(MU), FlowConfig("rk4", 1e-4, 2e-4, every=2e-4))
    fall = loss(covariances(Erf(), TEACHER, MU)) - loss(covariances(Erf(), TEACHER, state.mu))
    assert (fall / 2e-4).item() == pytest.approx(total.item(), rel=1e-3) and 0 < in_a < total


def test_ratios_of_censored_times() -> None:
    seen = torch.tensor([1.0, 10.0, float("nan")]), torch.tensor([10.0, float("nan"), float("nan")])
    assert log_ratio(*seen, 100.0).tolist() == pytest.approx([-1.0, -1.0, 0.0])
    with pytest.raises(ConfigError, match="end=5.0: must be at least every time"):
        log_ratio(*seen, 5.0)
