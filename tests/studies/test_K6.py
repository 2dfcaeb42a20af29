"""The linearised flow at a saddle: against the particle Hessian, a closed form, a simulated escape; and bad inputs."""

import math

import numpy as np
import pytest
import torch

from icl_lib.mean_field.changes import isotropic
from icl_lib.mean_field.critical_points import gaussian_process, saddle_of_seed, saddles
from icl_lib.mean_field.flows import FlowConfig
from icl_lib.mean_field.hessian import hessian_product
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import velocity
from icl_lib.mean_field.measure import Particles
from icl_lib.validate import ConfigError
from studies.K6 import READINGS, factors_off, growth_rate, modes, overlaps, process, time_to_escape, unstable_eigenvalue

CONFIGS = [saddle_of_seed(seed, 2, 5, 2) for seed in (1, 2, 3)]
TEACHER, MU = saddles(CONFIGS, Erf())
FOUND = modes(Erf(), TEACHER, MU)


def test_linearised_flow() -> None:
    """S is D^{-1/2} Hess D^{-1/2}, and the velocity beside the saddle is -D^{-1/2} S D^{1/2} u."""
    root, u = MU.p.sqrt()[..., None], isotropic(MU, [1, 2, 3])
    s_v = (FOUND.eigenvectors * FOUND.eigenvalues[:, None]) @ FOUND.eigenvectors.mT @ (root * u).flatten(1)[..., None]
    expected = s_v.view_as(u) / root
    hess = hessian_product(Erf(), TEACHER, MU)(u) / root.square()
    assert (hess - expected).abs().max() < 1e-9 * expected.abs().max()
    h = 1e-6
    sides = [velocity(Erf(), TEACHER, displace_by(MU, sign * h * u)) for sign in (1, -1)]
    slope = torch.cat([(sides[0][i] - sides[1][i]) / (2 * h) for i in (0, 1)], dim=2)
    assert (slope + expected).abs().max() < 1e-6 * expected.abs().max()


def displace_by(mu: Particles, u: torch.Tensor) -> Particles:
    k = mu.a.shape[2]
    return mu._replace(a=mu.a + u[..., :k], w=mu.w + u[..., k:])


def test_one_unstable_direction_in_closed_form() -> None:
    expected = torch.tensor([unstable_eigenvalue(c) for c in CONFIGS], dtype=torch.float64)
    assert (FOUND.eigenvalues[:, 0] - expected).abs().max() < 1e-12
    assert FOUND.eigenvalues[:, 1].min() > -1e-9
    s, config = 2.0, CONFIGS[0]
    square, turn = 2 / math.pi * math.asin(2 * s * s / (1 + 2 * s * s)), 4 / (math.pi * math.sqrt(1 + 4 * s * s))
    learnt = 2 * config.spectrum[1] * turn / square + unstable_eigenvalue(config)
    assert (FOUND.eigenvalues[0] - learnt).abs().min() < 1e-9, "a learnt neuron that turns to the missing axis"
    with pytest.raises(ConfigError, match="missing="):
        unstable_eigenvalue(saddle_of_seed(0, missing=(0, 1)))


def test_readings_of_the_covariance() -> None:
    z, seeds = isotropic(MU, [1, 2, 3]), [1, 2, 3]
    known = gaussian_process(Erf(), TEACHER, MU, seeds)
    assert (process(FOUND, MU, z) - known).abs().max() < 1e-12 * known.abs().max()
    assert overlaps(FOUND, MU, z).square().sum(-1).allclose(torch.ones(3).double())
    leading = {name: overlaps(FOUND, MU, process(FOUND, MU, z, name))[:, 0] for name in READINGS}
    assert (leading["negative part"] - 1).abs().max() < 1e-9 and leading["positive part"].max() < 1e-9
    with pytest.raises(ConfigError, match="reading='none'"):
        process(FOUND, MU, z, "none")


def test_escape_grows_at_the_discrete_rate() -> None:
    """From the unstable direction alone: the time between two budgets, against ln(1 + dt |lambda|) / dt."""
    e = (FOUND.eigenvectors[..., 0].view_as(isotropic(MU, [0, 0, 0]))) / MU.p.sqrt()[..., None]
    levels = torch.tensor([c.height() / 2 for c in CONFIGS], dtype=torch.float64)
    for method, dt in (("euler", 0.5), ("rk4", 0.0)):
        run = FlowConfig(method, 0.5, 400.0, every=0.5)
        late, soon = (time_to_escape(Erf(), TEACHER, MU, e, eps, levels, run) for eps in (1e-6, 1e-3))
        rates = math.log(1e3) / (late - soon)
        assert (rates / growth_rate(FOUND.eigenvalues[:, 0], dt) - 1).abs().max() < 5e-3
    assert (growth_rate(FOUND.eigenvalues[:, 0], 0.5) / growth_rate(FOUND.eigenvalues[:, 0]) - 1).min() < -0.03
    short = time_to_escape(Erf(), TEACHER, MU, None, 0.0, levels, FlowConfig("euler", 0.5, 5.0))
    assert short.isnan().all(), "an escape that was not seen is not a number"


def test_factors_off_do_not_depend_on_the_order_or_the_side() -> None:
    """A rate that is twice too large or half is off by 2; the others' factor is a geometric mean over all of them."""
    rates = np.array([0.5, 1.0, 4.0])
    own, others = factors_off([2.2, 1 / 1.1, 0.25], rates)
    assert own.tolist() == pytest.approx([1.1, 1.1, 1.0])
    assert others[2] == pytest.approx(math.sqrt(8 * 4)) and others[0] == pytest.approx(math.sqrt(2.2 * 8.8))
    turned = factors_off(np.roll([2.2, 1 / 1.1, 0.25], 1), np.roll(rates, 1))
    assert np.roll(turned[1], -1).tolist() == pytest.approx(others.tolist())
    with pytest.raises(ConfigError, match="rates="):
        factors_off([1.0, 2.0], [1.0])


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="dt=-1"):
        growth_rate(torch.ones(1), -1)
    with pytest.raises(ConfigError, match="budget=-1"):
        time_to_escape(Erf(), TEACHER, MU, isotropic(MU, [1, 2, 3]), -1.0, torch.ones(3), FlowConfig())
