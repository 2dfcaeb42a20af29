"""The chain of bounds on the dissipation: each step, against autograd and by hand; the control; what is refused."""

import pytest
import torch

from icl_lib.mean_field.flows import FlowConfig, flow, start
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, first_variation, loss
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, stack, teachers
from icl_lib.validate import ConfigError
from studies.K5 import atomic_reference, chain, density_ratio, log_ratio, mixture, velocity_in_a

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


def test_ratios_of_censored_times() -> None:
    seen = torch.tensor([1.0, 10.0, float("nan")]), torch.tensor([10.0, float("nan"), float("nan")])
    assert log_ratio(*seen, 100.0).tolist() == pytest.approx([-1.0, -1.0, 0.0])
    with pytest.raises(ConfigError, match="end=5.0: must be at least every time"):
        log_ratio(*seen, 5.0)
