"""Chaos through a saddle: the unstable direction, the linearised law against the flow, the bound's C_t, and refusals."""

import numpy as np
import pytest
import torch

from icl_lib.mean_field.critical_points import SaddleConfig
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, loss, velocity
from icl_lib.mean_field.measure import Particles
from icl_lib.validate import ConfigError
from studies.K6 import unstable_eigenvalue
from studies.Q12 import (
    Cloud,
    amplification,
    cloud,
    curvature,
    function_distance,
    least,
    passage,
    predicted,
    start_of,
)

KERNEL = Erf()
CONFIG = SaddleConfig((1.0, 0.8), (0,), d=4, seed=3)
TEACHER, MU, LOW = start_of(CONFIG, KERNEL)
RATE = -float(LOW.eigenvalue)
SHIFTED = Cloud(200, 1e-3, 1e-3)


def test_the_direction_is_the_closed_form_one_and_a_unit_vector() -> None:
    assert float(LOW.eigenvalue) == pytest.approx(unstable_eigenvalue(CONFIG), rel=1e-9)
    assert float((MU.p[..., None] * LOW.displacement.square()).sum()) == pytest.approx(1)
    assert LOW.displacement[0, 1].abs().max() < 1e-9, "only the neuron of the missing output turns"
    eps = 1e-5
    v = velocity(KERNEL, TEACHER, MU.moved_to(MU.theta + eps * LOW.displacement))
    torch.testing.assert_close(torch.cat([v.a, v.w], 2) / eps, RATE * LOW.displacement, rtol=1e-4, atol=1e-4)


def test_the_least_eigenvalue_does_not_depend_on_how_mass_is_split() -> None:
    twice = Particles(*(x.repeat_interleave(2, 1) for x in MU))
    twice = twice._replace(p=torch.tensor([[0.2, 0.3, 0.1, 0.4]], dtype=torch.float64))
    assert float(least(KERNEL, TEACHER, twice).eigenvalue) == pytest.approx(-RATE, rel=1e-9)
    assert float(extreme_eigenvalues(KERNEL, TEACHER, twice)[0, 0]) > -0.6 * RATE, "the plain Hessian's is another"


def test_the_rate_is_inversely_proportional_to_the_mass_that_turns() -> None:
    light = MU._replace(p=torch.tensor([[0.2, 0.8]], dtype=torch.float64))
    assert float(least(KERNEL, TEACHER, light).eigenvalue) == pytest.approx(-RATE * 0.5 / 0.2, rel=1e-9)


def test_clouds_hold_what_they_say() -> None:
    fixed = cloud(MU, LOW.displacement, SHIFTED, 0)
    near = torch.cdist(fixed.theta[0], MU.theta[0]).argmin(1)
    assert near.tolist() == [0, 1] * 100
    moved = fixed.theta[0] - MU.theta[0][near] - 1e-3 * LOW.displacement[0][near]
    assert float(moved.square().mean().sqrt()) == pytest.approx(1e-3, rel=0.1)
    sampled = cloud(MU, LOW.displacement, SHIFTED._replace(masses="sampled"), 0)
    near = torch.cdist(sampled.theta[0], MU.theta[0]).argmin(1)
    assert 70 < int(near.sum()) < 130 and near.tolist() != [0, 1] * 100
    assert torch.equal(cloud(MU, LOW.displacement, SHIFTED, 0).w, fixed.w)


@pytest.mark.parametrize("masses", ["fixed", "sampled"])
def test_the_law_beside_the_saddle_is_that_of_the_flow(masses: str) -> None:
    """Root mean square over 12 pools at |lambda| t = 1.5; a law with the wrong power of N would be off by a factor."""
    config, x = SHIFTED._replace(masses=masses), np.array([1.5])
    for width in (50, 100):
        found = [
            passage(KERNEL, TEACHER, cloud(MU, LOW.displacement, config, s), (width,), RATE, 0.25, 1.5).distances[width]
            for s in range(12)
        ]
        assert np.sqrt(np.square(found).mean(0))[-1] == pytest.approx(predicted(x, config, width, 2)[0], rel=0.25)
        assert (np.array(found)[:, 0] == 0).all()


def test_the_law_for_sampled_masses_has_the_two_limits() -> None:
    x = np.array([0.5, 1.0])
    config = Cloud(10**9, 1e-3, 2e-3, "sampled")
    first_order = np.sqrt((1e-3 * np.expm1(x)) ** 2 + (2e-3 * x * np.exp(x)) ** 2) / 1000
    assert predicted(x, config, 10**6, 2) == pytest.approx(first_order, rel=1e-3)
    no_shift = predicted(x, config._replace(shift=0.0), 10**5, 2)
    assert no_shift == pytest.approx(predicted(x, config._replace(masses="fixed"), 10**5, 2), rel=1e-3)


def test_accumulated_curvature_of_known_paths() -> None:
    assert amplification(np.full(9, -1.0), 0.5) == pytest.approx(np.expm1(np.arange(9) / 2))
    assert amplification(np.zeros(9), 0.5) == pytest.approx(np.arange(9) / 2), "flat directions: it grows for ever"
    assert amplification(np.full(200, 2.0), 0.5)[-1] == pytest.approx(0.5), "positive curvature: it recovers"
    fine = np.linspace(0, 3, 3001)
    exact = np.trapezoid(np.exp((3**2 - fine**2) / 2), fine)  # kappa = -t: C_3 = int exp((9 - s^2) / 2) ds
    assert amplification(-fine, 1e-3)[-1] == pytest.approx(exact, rel=1e-4)


def test_curvature_along_a_path_starts_at_the_saddle() -> None:
    pool = cloud(MU, LOW.displacement, Cloud(20, 1e-6, 0.0), 0)
    found = curvature(KERNEL, TEACHER, pool.theta, 2)
    assert found[0] == pytest.approx(-RATE, rel=1e-3)


def test_predictors_are_compared_up_to_invertible_maps() -> None:
    mixed = MU._replace(a=MU.a @ torch.tensor([[2.0, 1.0], [0.0, -1.0]], dtype=torch.float64))
    assert float(function_distance(KERNEL, TEACHER, MU, mixed)) == pytest.approx(0, abs=1e-12)
    expected = float(loss(covariances(KERNEL, TEACHER, MU)))
    assert float(function_distance(KERNEL, TEACHER, MU, TEACHER)) == pytest.approx(expected)


def test_bad_values_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="^masses="):
        cloud(MU, LOW.displacement, SHIFTED._replace(masses="drawn"), 0)
    with pytest.raises(ConfigError, match="^spread="):
        cloud(MU, LOW.displacement, SHIFTED._replace(spread=-1.0), 0)
    with pytest.raises(ConfigError, match="^n=1"):
        cloud(MU, LOW.displacement, SHIFTED._replace(n=1), 0)
    with pytest.raises(ConfigError, match="^copies=2"):
        start_of(SaddleConfig((1.0, 0.8), (0,), d=4, copies=2), KERNEL)
