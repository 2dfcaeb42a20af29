"""The n-sample loss against whole prompts, its limit, autograd, and the optimum; the fourth moment with its error."""

import math

import pytest
import torch

from icl_lib.mean_field.kernels import Erf, gaussian_inputs
from icl_lib.mean_field.landscape import covariances, loss, loss_at
from icl_lib.mean_field.measure import InitConfig, Particles, TeacherConfig, initial_particles, member, teachers
from icl_lib.mean_field.moments import (
    Moments,
    best_loss_n,
    context_moment,
    empirical_moments,
    excess_constant,
    fourth_moment,
    loss_n,
    optimum_n,
    prompt_losses,
    sampled_contexts,
)
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K9 import minimise_n, prompt_excess, whole_prompt_losses

D, K = 4, 2
KERNEL, SEEDS = Erf(), [0, 1]
TEACHER = teachers([TeacherConfig("random", 4, D, K, 2.0, (1.0, 0.5), s) for s in SEEDS], KERNEL)
MU = initial_particles([InitConfig("aligned", 6, D, 3, 2.0, s) for s in SEEDS])
INPUTS = gaussian_inputs(100_000, D, generator(0, "inputs"))
COV = covariances(KERNEL, TEACHER, MU)
Q, Q_ERROR = fourth_moment(torch.erf, TEACHER, MU, INPUTS)
M = Moments(COV, Q)
W = COV.optimum + torch.randn(2, 3, 3, generator=generator(0, "noise"), dtype=torch.float64)


def linear_case(seed: int = 0) -> tuple[Particles, Particles]:
    """f° = C x and h = H x through the identity: Q is known in closed form (Isserlis)."""
    gen = generator(seed, "teacher")
    nu = [torch.randn(1, D, k, generator=gen, dtype=torch.float64) for k in (K, 3)]
    eye, mass = torch.eye(D, dtype=torch.float64)[None], torch.full((1, D), 1 / D, dtype=torch.float64)
    return Particles(nu[0] * D, eye, mass), Particles(nu[1] * D, eye, mass)


def test_fourth_moment_in_a_case_with_a_closed_form() -> None:
    """Linear features: E[|Cx|^2 H x x^T H^T] = |C|^2 H H^T + 2 H C^T C H^T, within five standard errors."""
    teacher, mu = linear_case()
    c, h = teacher.a[0].T / D, mu.a[0].T / D
    exact = c.square().sum() * h @ h.T + 2 * h @ c.T @ c @ h.T
    found, error = fourth_moment(lambda z: z, teacher, mu, INPUTS)
    assert ((found[0] - exact).abs() < 5 * error[0]).all() and (error[0] < 0.03 * exact.diagonal().max()).all()
    again, _ = fourth_moment(lambda z: z, teacher, mu, INPUTS, block=777)
    torch.testing.assert_close(found, again)


def test_empirical_moments_are_those_of_the_samples() -> None:
    x = INPUTS[:5000]
    m = empirical_moments(torch.erf, TEACHER, MU, x)
    torch.testing.assert_close(m.q, fourth_moment(torch.erf, TEACHER, MU, x)[0])
    for found, exact in zip(m.cov, COV, strict=True):
        assert (found - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("law", ["gaussian", "sphere", "sign"])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_whole_prompts(law: str, noise: float) -> None:
    """Nothing averaged: means over 40 000 prompts within four standard errors, for every law of v."""
    n, w = 4, optimum_n(M, 4)
    losses = whole_prompt_losses(torch.erf, (TEACHER, MU), w, n, 40_000, SEEDS, law, noise)
    error = losses.std(dim=1) / 200
    assert ((losses.mean(1) - loss_n(M, w, n, noise)).abs() < 4 * error).all()
    assert ((losses.mean(1) - loss_at(COV, w)).abs() > 6 * error).all(), "the test would not see the finite n"


def test_sampled_contexts() -> None:
    """v and query averaged: the same mean with a smaller error, at any W."""
    a_hat, b_hat = sampled_contexts(torch.erf, TEACHER, MU, 5, 10_000, SEEDS)
    for w in (COV.optimum, W):
        losses = prompt_losses(COV, w, a_hat)
        error = losses.std(dim=1) / 100
        assert ((losses.mean(1) - loss_n(M, w, 5)).abs() < 4 * error).all()
    assert (b_hat.mean(1) - COV.b).abs().max() < 0.02 * COV.b.abs().max()
    solo, _ = sampled_contexts(torch.erf, member(TEACHER, 1), member(MU, 1), 5, 10_000, [1])
    torch.testing.assert_close(solo[0], a_hat[1])


def test_limit_of_long_prompts_and_the_constant() -> None:
    torch.testing.assert_close(loss_n(M, W, math.inf, 0.5), loss_at(COV, W))
    torch.testing.assert_close(best_loss_n(M, math.inf), loss(COV))
    for n in (3, 1000):
        gap = n * (loss_n(M, W, n, 0.5) - loss_at(COV, W))
        torch.testing.assert_close(gap, excess_constant(M, W, 0.5))


def test_noise_shifts_by_a_constant_at_w_mu() -> None:
    """At W = B^{-1} the shift is noise^2 k / (2 n), whatever the measure; at another W it is not."""
    for n in (3, 50):
        shift = loss_n(M, COV.optimum, n, 0.7) - loss_n(M, COV.optimum, n)
        torch.testing.assert_close(shift, torch.full((2,), 0.49 * 3 / (2 * n), dtype=torch.float64))
    other = loss_n(M, W, 3, 0.7) - loss_n(M, W, 3)
    assert (other - other[0]).abs().max() > 0.1 * other[0]


def test_the_optimum_is_stationary_and_lowest() -> None:
    for n in (3, 30):
        best = optimum_n(M, n, 0.3).requires_grad_()
        value = loss_n(M, best, n, 0.3)
        (slope,) = torch.autograd.grad(value.sum(), best)
        assert slope.abs().max() < 1e-10
        torch.testing.assert_close(value.detach(), best_loss_n(M, n, 0.3))
        for w in (COV.optimum, best.detach() + 0.1 * W):
            assert (loss_n(M, w, n, 0.3) > value).all()


def test_excess_leaves_out_what_is_linear_in_the_contexts() -> None:
    """Half of the sum over A + D and A - D has no linear part; at W_mu there is none to leave out."""
    d = torch.randn(2, 1, K, 3, generator=generator(1, "noise"), dtype=torch.float64)
    a = COV.a[:, None]
    both = (prompt_losses(COV, W, a + d) + prompt_losses(COV, W, a - d)) / 2 - loss_at(COV, W)[:, None]
    torch.testing.assert_close(both, prompt_excess(COV, W, a + d))
    best = COV.optimum
    torch.testing.assert_close(prompt_losses(COV, best, a + d) - loss(COV)[:, None], prompt_excess(COV, best, a + d))


def test_minimising_over_particles() -> None:
    """Down from the start to a flat point that is no saddle; many steps at a small size."""
    one, x = [member(nu, 0) for nu in (TEACHER, MU)], INPUTS[:400]
    start = one[1]._replace(a=one[1].a[:, :3, :2], w=one[1].w[:, :3], p=torch.full((1, 3), 1 / 3, dtype=torch.float64))
    before = best_loss_n(empirical_moments(torch.erf, one[0], start, x), 5)
    found = minimise_n(torch.erf, one[0], start, x, 5)
    after = best_loss_n(empirical_moments(torch.erf, one[0], found.mu, x), 5)
    assert found.loss < before and math.isclose(found.loss, float(after), rel_tol=1e-9)
    assert found.slope < 1e-5 and found.curvature > -1e-6


def test_bad_values() -> None:
    for call, message in (
        (lambda: context_moment(M, 0), "n=0"),
        (lambda: loss_n(M, W, 3, -1.0), "noise=-1.0"),
        (lambda: sampled_contexts(torch.erf, TEACHER, MU, 0, 3, SEEDS), "n=0"),
        (lambda: whole_prompt_losses(torch.erf, (TEACHER, MU), W, 3, 4, SEEDS, "cauchy"), "law='cauchy'"),
        (lambda: minimise_n(torch.erf, TEACHER, MU, INPUTS[:10], 3), "mu="),
    ):
        with pytest.raises(ConfigError, match=message):
            call()
