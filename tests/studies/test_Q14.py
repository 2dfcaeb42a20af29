"""The law's formulas against their equations, and the rates of the start against gradients of the model."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad, solve_ivp

from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.model import Params, backward, forward
from icl_lib.softmax.prompts import Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks
from icl_lib.softmax.training import initial_state
from icl_lib.validate import ConfigError
from studies import Q14
from studies.Q14 import BOX, STABLE, Setting, blow_up, draw, integrated, linear_growth, power_law

SETTINGS = [Setting(), Setting(delta=0.05, xi=0.3), Setting(n_idr=12, alpha=0.3), Setting(delta=0.1, xi=0.1)]


@pytest.mark.parametrize("s", SETTINGS)
def test_blow_up_is_the_time_of_the_two_equations(s: Setting) -> None:
    """Against the integral, and against the equations for I and g as they stand in the chapter, integrated."""
    p, q = s.delta**2, s.spread / (2 * s.n_idr)
    whole, _ = quad(lambda x: 1 / (p + q * (math.cosh(x) - 1)), 0, 60)
    assert blow_up(s) == pytest.approx(whole / (s.step_size * s.finite * s.gain * s.alpha * s.beta**2), rel=1e-6)
    rate = s.step_size * s.finite * s.alpha

    def equations(_: float, state: np.ndarray) -> list[float]:
        pushed, g = state
        value = s.gain * s.spread / 2 * math.sinh(2 * s.gain * pushed)
        return [rate * g / 2, rate * s.beta**2 * value * g / s.n_idr]

    far = solve_ivp(equations, (0, blow_up(s) * 0.999), [0, (s.delta * s.beta) ** 2], rtol=1e-9, atol=1e-12)
    assert far.success and far.y[1, -1] > 100 * (s.delta * s.beta) ** 2
    assert far.y[1, far.t < blow_up(s) / 2].max() < 2 * (s.delta * s.beta) ** 2 or s.spread > s.n_idr * s.delta**2


def test_the_power_law_is_the_limit() -> None:
    """Where S / (2 M1) is large against delta^2; elsewhere joint growth is faster. At r = 1 the formula has a gap to fill."""
    assert blow_up(Setting(delta=1e-4, xi=1.0)) == pytest.approx(linear_growth(Setting(delta=1e-4, xi=1.0)), rel=1e-3)
    assert blow_up(Setting()) < 0.6 * linear_growth(Setting())
    at = Setting(delta=0.2, xi=math.sqrt(0.04 * 5 / 60), n_idr=3)  # S = .24 - .04 / 20 or so: r near 1
    near = [blow_up(replace(at, xi=at.xi * (1 + e))) for e in (-1e-3, 0, 1e-3)]
    assert near[0] > near[1] > near[2] and near[0] / near[2] < 1.01


def test_exponents() -> None:
    """Those of a product of powers are found again, all at once; the law's show when one quantity is doubled."""
    settings = draw(40, 1)
    found = Q14.exponents(settings, [s.alpha**-1 * s.beta**-2 * s.n_idr**0.5 * s.xi**0.3 for s in settings])
    assert found.to_dict() == pytest.approx(dict(zip(BOX, [0, 0.3, 0, 0, -1, -2, 0.5, 0], strict=True)), abs=1e-9)
    assert power_law(Setting(alpha=0.4, beta=4.0)) == pytest.approx(power_law(Setting()) / 2)
    assert Q14.with_theorem(Setting(alpha=0.1)) == pytest.approx(4 * Q14.with_theorem(Setting()))


def test_draw_keeps_to_the_box() -> None:
    settings = draw(30, 5)
    assert settings == draw(30, 5) != draw(30, 6)
    for s in settings:
        assert all(0.95 * low <= getattr(s, name) <= 1.05 * high for name, (low, high) in BOX.items())
        assert 25 <= blow_up(s) <= 250 and s.step_size * s.beta**2 <= STABLE and s.m % 2 == 0
    with pytest.raises(ConfigError, match="^n=0"):
        draw(0, 1)


def test_integrated_equations_near_the_blow_up() -> None:
    """With a value that starts far below one the loss falls where the equations blow up; it never does without a gap."""
    slow = Setting(a=1e-3, m=10, alpha=0.3)
    assert integrated(slow, longest=1e5) == pytest.approx(blow_up(slow), rel=0.35)
    assert integrated(Setting(), threshold=0.1) > integrated(Setting(), threshold=0.3)
    assert integrated(Setting(), joint=False) > 1.5 * integrated(Setting())
    assert math.isnan(integrated(Setting(), longest=5.0))


def prepared(s: Setting, n: int = 40_000) -> tuple[object, Params, Prompts]:
    """The start of one seed, with the q-part of W_O along the sign of a, so that V is not small; prompts of all tasks."""
    config = s.config(3, 1)
    patterns, params = stacked_patterns([config]), initial_state([config]).params
    q = patterns.basis[:, -1]
    w_o = params.w_o - (params.w_o @ q[0])[..., None] * q + 0.01 * params.a.sign()[..., None] * q[:, None]
    tasks = task_table([all_tasks(s.n_idr)])
    prompts = sample_prompts([config.prompts], tasks, [3], patterns.counts, n, "check")
    return patterns, params._replace(w_o=w_o), prompts


@pytest.mark.parametrize("alpha", [0.4, 0.9])
def test_slope_of_the_pooled_label(alpha: float) -> None:
    """The mean of z ybar is (1 - 1/l) alpha g / 2: the partner's mass falls as the own one rises."""
    s = Setting(alpha=alpha, beta=2.0, n_context=8)
    patterns, params, prompts = prepared(s, 200_000)
    pooled = forward(params, patterns, prompts).pooled[..., -1] * prompts.target
    g = (s.delta * s.beta) ** 2
    assert pooled.mean().item() == pytest.approx(s.finite * alpha * g / 2, rel=0.12)
    assert s.finite * alpha / 2 * (1 - alpha / 2) * g < 0.85 * pooled.mean().item()  # what L2 used to say


def test_rate_of_the_score_gap() -> None:
    """One small step of W_Q and W_K: g' = eta f alpha beta^2 V g / M1, V the slope of the output in the pooled label."""
    s = Setting(alpha=0.6, beta=1.0)
    patterns, params, prompts = prepared(s, 100_000)
    act, gradient = backward(params, patterns, prompts, -prompts.target / prompts.target.numel())
    of_label = (params.w_o @ params.w_v @ patterns.basis[:, -1, :, None])[..., 0]
    value = ((act.hidden > 0) * (params.a * of_label)[:, None]).sum(-1).mean().item()
    g, eta = (s.delta * s.beta) ** 2, 1e-2
    after = params.w_qkv - eta * gradient.w_qkv
    d = after.shape[-1]
    score = patterns.basis @ after[:, d : 2 * d].mT @ after[:, :d] @ patterns.basis.mT
    found = (score[0].diagonal()[: s.n_idr].mean().item() - g) / eta
    assert found == pytest.approx(s.finite * s.alpha * s.beta**2 * value * g / s.n_idr, rel=0.1)


def test_rate_of_the_value() -> None:
    """One small step of W_O and W_V: V' = k^2 S times the push, in the mean over starts."""
    s, found = Setting(alpha=0.8, xi=0.04), []
    for seed in range(20):
        config = s.config(seed, 1)
        patterns, params = stacked_patterns([config]), initial_state([config]).params
        prompts = sample_prompts([config.prompts], task_table([all_tasks(6)]), [seed], patterns.counts, 4000, "check")
        act = forward(params, patterns, prompts)
        fires = (act.hidden > 0).float().mean(1)[0] * params.a[0]  # (m,)
        q = patterns.basis[0, -1]
        along = fires @ params.w_o[0]
        rate = along @ along + (fires**2).sum() * (params.w_v[0] @ q) @ (params.w_v[0] @ q)
        found.append(rate.item() / (s.gain**2 * s.spread))
    assert np.mean(found) == pytest.approx(1, abs=0.15)


def test_constant_and_errors() -> None:
    table = pd.DataFrame({"setting": [0, 1, 0, 1], "seed": [0, 0, 1, 1], "steps": [10.0, 20.0, 10 * math.e, math.nan]})
    assert Q14.constant(table, [1.0, 2.0]) == pytest.approx(10 * math.exp(1 / 3))
    assert Q14.log_errors(table, [10.0, 20.0]).tolist() == pytest.approx([0, 1])


def test_extrapolate() -> None:
    """Either form predicts what it made; the other does not."""
    x = [0.1, 0.2, 0.4, 0.6, 0.8, 1.0]
    values = np.array([3 / np.array(x) + 40, 5 / np.array(x) + 20])
    errors = Q14.extrapolate(x, values, lambda v: 1 / v, 3)
    assert (errors["fixed"] < 1e-6).all() and (errors["free"] > 0.05).all()
    power = np.array([7 * np.array(x) ** -0.5] * 2)
    assert (Q14.extrapolate(x, power, lambda v: 1 / v, 3)["free"] < 1e-9).all()


def test_measured_runs() -> None:
    """One row per setting and seed; a run that diverges or does not arrive has no T; frozen attention learns later or never."""
    easy = Setting(step_size=10.0, a=0.02, m=20)
    table = Q14.measured([easy, replace(easy, step_size=1e6)], [0, 1], 60)
    assert table["setting"].tolist() == [0, 0, 1, 1] and table["steps"][:2].notna().all()
    assert table["steps"][2:].isna().all()
    assert Q14.measured([easy], [0, 1], 60, train_attention=False)["steps"].isna().all()
