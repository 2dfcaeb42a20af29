"""Constructed saddles: critical, as high as stated, with a direction of descent; and what is refused."""

import math

import pandas as pd
import pytest
import torch

from icl_lib.mean_field.critical_points import SaddleConfig, escape_times, saddle, saddle_of_seed
from icl_lib.mean_field.hessian import extreme_eigenvalues
from icl_lib.mean_field.kernels import Erf, sigmoid, tanh
from icl_lib.mean_field.landscape import covariances, first_variation, loss, velocity
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K3 import escape_rotation, homotopy

CASES = [
    SaddleConfig((1.0, 0.5), (0,), 4, seed=1),
    SaddleConfig((0.9, 0.4, 0.2), (1, 2), 7, copies=3, seed=2),
    SaddleConfig((1.0, 1.0, 1.0), (0, 1, 2), 6, rotate=False, seed=3),
    SaddleConfig((0.3,), (0,), 2, mix=False, seed=4),
]


@pytest.mark.parametrize("config", CASES)
def test_critical_on_all_of_theta_and_as_high_as_stated(config: SaddleConfig) -> None:
    teacher, mu = saddle(config, Erf())
    found = velocity(Erf(), teacher, mu)
    assert max(found.a.abs().max(), found.w.abs().max()) < 1e-12
    assert found.loss.item() == pytest.approx(config.height(), rel=1e-12)
    gen, k, d = generator(0, "check"), len(config.spectrum), config.d
    anywhere = (torch.randn(1, 50, n, generator=gen, dtype=torch.float64) for n in (k, d))
    assert first_variation(Erf(), teacher, mu, *anywhere).abs().max() < 1e-12
    assert mu.p.sum().item() == pytest.approx(1) and mu.a.shape == (1, k * config.copies, k)


@pytest.mark.parametrize("config", CASES)
def test_strict_with_the_bound_of_the_theorem(config: SaddleConfig) -> None:
    """The second derivative along the homotopy is at most -4 L^2 / (k |B|), and particles see a negative curvature."""
    teacher, mu = saddle(config, Erf())
    cov = covariances(Erf(), teacher, mu)
    slope, curvature = homotopy(cov, escape_rotation(cov))
    bound = -4 * loss(cov) ** 2 / (len(config.spectrum) * torch.linalg.matrix_norm(cov.b, 2))
    assert abs(slope.item()) < 1e-10 and curvature.item() <= (1 - 1e-9) * bound.item() < 0
    assert extreme_eigenvalues(Erf(), teacher, mu)[0, 0] < -1e-6
    assert loss(cov).item() >= min(config.spectrum) / 2 - 1e-12


def test_nothing_missing_is_a_global_minimum() -> None:
    teacher, mu = saddle(SaddleConfig(missing=()), Erf())
    assert loss(covariances(Erf(), teacher, mu)).abs().item() < 1e-12


def test_other_odd_activations_and_one_that_is_not() -> None:
    config = SaddleConfig((1.0, 0.5), (1,), 4)
    teacher, mu = saddle(config, tanh())
    assert velocity(tanh(), teacher, mu).w.abs().max() < 1e-10
    with pytest.raises(ConfigError, match="odd activation"):
        saddle(config, sigmoid())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": (5,)}, r"missing=\(5,\): must be different output numbers below k = 5"),
        ({"missing": (1, 1)}, "missing="),
        ({"missing": (0, 1), "d": 6}, r"d=6: must be at least k \+ \|J\| = 7"),
        ({"spectrum": (1.0, -1.0)}, "spectrum=-1.0"),
        ({"copies": 0}, "copies=0"),
        ({"size": float("nan")}, "size=nan"),
    ],
)
def test_bad_values_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SaddleConfig(**changes)


def test_crossing_times() -> None:
    history = pd.DataFrame(
        {"member": [0, 0, 0, 1, 1, 1], "time": [0.0, 1, 2] * 2, "loss": [1.0, 0.8, 0.2, 0.4, 0.3, 0.3]}
    )
    assert escape_times(history, torch.tensor([0.5, 0.5])).tolist() == pytest.approx([1.5, 0.0])
    assert math.isnan(escape_times(history, torch.tensor([0.5, 0.1]))[1])
    with pytest.raises(ConfigError, match="levels=1: must be one per member, 2"):
        escape_times(history, torch.tensor([0.5]))


def test_bad_spectra_are_refused() -> None:
    with pytest.raises(ConfigError, match="low=2.0"):
        saddle_of_seed(0, low=2.0)
