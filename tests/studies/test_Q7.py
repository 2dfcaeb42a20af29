"""Shifted features: orthogonal parts, the quadratic form, and the loss of prompts that it predicts."""

import math

import pytest
import torch

from icl_lib.mean_field.kernels import Erf, gaussian_inputs
from icl_lib.mean_field.landscape import Covariances, covariances, loss_at
from icl_lib.mean_field.measure import InitConfig, TeacherConfig, covariance, initial_particles, teachers
from icl_lib.mean_field.moments import Moments, fourth_moment, loss_n
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.Q7 import between, draw_prompts, drawn_spectrum, fitted_attention, form_of, orthogonal

SEEDS = (0, 1)
D, K = 5, 2


@pytest.fixture(scope="module")
def setting():
    f, raw = (
        teachers([TeacherConfig("random", 4, D, K, 2.0, None, s + shift) for s in SEEDS], Erf()) for shift in (0, 9)
    )
    g = orthogonal(Erf(), f, raw, drawn_spectrum(K, SEEDS))
    return f, g, initial_particles([InitConfig("aligned", 12, D, K, 2.0, s) for s in SEEDS])


def test_g_is_orthogonal_to_f_and_has_the_spectrum(setting):
    f, g, _ = setting
    assert covariance(Erf(), g, f).abs().max() < 1e-9
    torch.testing.assert_close(covariance(Erf(), g, g), torch.diag_embed(drawn_spectrum(K, SEEDS)))


def test_nothing_of_a_teacher_is_orthogonal_to_itself(setting):
    f = setting[0]
    with pytest.raises(RuntimeError):
        orthogonal(Erf(), f, f, drawn_spectrum(K, SEEDS))


def test_features_of_f_prime_are_those_of_both(setting):
    f, g, mu = setting
    mixed = covariance(Erf(), between(f, g, 0.7), mu)
    parts = math.cos(0.7) * covariance(Erf(), f, mu) + math.sin(0.7) * covariance(Erf(), g, mu)
    torch.testing.assert_close(mixed, parts)


@pytest.mark.parametrize("n", [3, math.inf])
def test_the_exact_loss_is_a_quadratic_form_at_any_w(setting, n):
    f, g, mu = setting
    x = gaussian_inputs(2000, D, generator(0, "inputs"))
    w = torch.randn(2, K, K, generator=generator(0, "w"), dtype=torch.float64)

    def loss(phi):
        target = between(f, g, phi)
        return loss_n(Moments(covariances(Erf(), target, mu), fourth_moment(torch.erf, target, mu, x)[0]), w, n)

    form = form_of(loss)
    for phi in (-1.0, 0.3, 2.0):
        torch.testing.assert_close(form.at(phi), loss(phi))


def test_prompts_have_the_loss_that_the_form_says(setting):
    f, g, mu = setting
    w = covariances(Erf(), f, mu).optimum
    found = draw_prompts(torch.erf, setting, 4, 40_000, SEEDS).form(w)
    x = gaussian_inputs(200_000, D, generator(0, "inputs"))

    def loss(phi):
        target = between(f, g, phi)
        return loss_n(Moments(covariances(Erf(), target, mu), fourth_moment(torch.erf, target, mu, x)[0]), w, 4)

    for phi in (0.0, 0.8, 1.57):
        torch.testing.assert_close(found.at(phi) / loss(phi), torch.ones(2).double(), atol=0.06, rtol=0)


def test_prompts_do_not_depend_on_the_ensemble(setting):
    alone = [type(nu)(*(part[1:] for part in nu)) for nu in setting]
    both, one = draw_prompts(torch.erf, setting, 3, 50, SEEDS), draw_prompts(torch.erf, alone, 3, 50, SEEDS[1:])
    torch.testing.assert_close(both.contexts[1], one.contexts[0])


def test_a_fit_is_best_on_its_own_prompts_and_finds_the_optimum_of_long_ones(setting):
    f, _, mu = setting
    prompts = draw_prompts(torch.erf, setting, 400, 4000, SEEDS, "train")
    fitted, optimum = fitted_attention(prompts, 0.0), covariances(Erf(), f, mu).optimum
    assert (prompts.form(fitted).on_f < prompts.form(optimum).on_f).all()
    cov = covariances(Erf(), f, mu)
    assert (loss_at(Covariances(*cov), fitted) / loss_at(cov, optimum) < 1.02).all()


def test_bad_values_are_refused(setting):
    with pytest.raises(ConfigError, match="seeds"):
        draw_prompts(torch.erf, setting, 3, 10, [0])
    with pytest.raises(ConfigError, match="prompts"):
        fitted_attention(draw_prompts(torch.erf, setting, 3, 3, SEEDS), 0.0)
    with pytest.raises(ConfigError, match="low"):
        drawn_spectrum(2, SEEDS, 3.0, 1.0)
