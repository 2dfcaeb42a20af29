"""Levels, numbers of directions and rates against the constructed saddles, whose J is known, and their Hessians."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.mean_field.critical_points import SaddleConfig, saddle
from icl_lib.mean_field.flows import FlowConfig
from icl_lib.mean_field.hessian import dense_blocks, extreme_eigenvalues
from icl_lib.mean_field.kernels import Erf
from icl_lib.mean_field.landscape import covariances, loss, velocity_at
from icl_lib.mean_field.measure import TeacherConfig
from icl_lib.mean_field.stationary import CRITICAL, search, spectrum
from icl_lib.validate import ConfigError
from studies.Q9 import (
    axis_rate,
    departures,
    directions,
    distance,
    growth,
    levels,
    missing,
    negatives,
    next_level,
    subsets,
    with_silent,
)

LAM = (1.0, 0.6, 0.25)


def test_levels_and_the_distance_to_them() -> None:
    assert levels(LAM).tolist() == pytest.approx([1.0, 0.6, 0.25, 1.6, 1.25, 0.85])
    assert distance([1.25, 0.85], LAM) == pytest.approx(0, abs=1e-12)
    drawn = np.random.default_rng(0).uniform(0, 1.85, 200_000)
    assert distance(drawn, LAM).mean() == pytest.approx(1, abs=0.01)  # its unit is that of a number drawn at random


def test_numbers_of_directions_tell_all_levels_of_three_outputs_apart() -> None:
    wanted = {(): 0, (2,): 1, (1,): 2, (0,): 3, (1, 2): 4, (0, 2): 5, (0, 1): 6, (0, 1, 2): 9}
    assert {J: directions(J, LAM) for J in subsets(3)} == wanted
    assert next_level((0, 1), LAM) == (0, 2) and next_level((2,), LAM) == (0, 1, 2)


@pytest.mark.parametrize("J", subsets(3)[1:])
def test_constructed_saddles_have_the_level_and_the_number_of_directions(J: tuple[int, ...]) -> None:
    teacher, mu = saddle(SaddleConfig(LAM, J, 6), Erf())
    more = with_silent(mu, 40, 2.0)
    for one in (mu, more):
        twice = 2 * float(loss(covariances(Erf(), teacher, one)))
        assert twice == pytest.approx(sum(LAM[j] for j in J)) and missing(twice, LAM) == J
    assert float(velocity_at(Erf(), teacher, more, more.a, more.w).abs().max()) < 1e-9
    assert negatives(Erf(), teacher, more).tolist() == [directions(J, LAM)]
    assert len(J) ** 2 <= negatives(Erf(), teacher, mu).item() <= directions(J, LAM)


def test_what_a_search_finds_critical_lies_on_a_level() -> None:
    """2 L is a sum of eigenvalues at every such point, none of them constructed."""
    wide = search(Erf(), [0, 1], TeacherConfig("axes", 2, 4, 2, 2.0), 5, 20)[2]

    def off(row: pd.Series) -> float:
        lam = spectrum(row["seed"], 2)
        return abs(2 * row["loss"] - sum(lam[j] for j in missing(2 * row["loss"], lam)))

    critical = wide[wide["kind"] == CRITICAL]
    assert len(critical) >= 3 and critical.apply(off, axis=1).max() < 1e-8


def test_the_rate_is_that_of_the_hessian_and_of_the_flow() -> None:
    kappa = axis_rate(Erf(), 2.0)
    slope = 2 / math.sqrt(math.pi) / 3  # E[s'(2x)]
    assert kappa == pytest.approx((2 * slope * slope / (2 / math.pi * math.asin(8 / 9))) ** 2)
    for J in ((2,), (0, 2), (0, 1, 2)):
        teacher, mu = saddle(SaddleConfig(LAM, J, 6, mix=False), Erf())
        ((_, hessian),) = dense_blocks(Erf(), teacher, mu._replace(p=torch.full_like(mu.p, 1 / 3)))
        lowest = float(extreme_eigenvalues(Erf(), teacher, mu)[0, 0])
        assert -3 * lowest == pytest.approx(3 * kappa * max(LAM[j] for j in J), rel=1e-8) and hessian.shape[1] == 27
    config = FlowConfig(dt=0.05, t_end=30.0, every=0.5)
    history = departures(Erf(), (1.0, 0.6), 0, 4, 2.0, 1, 1e-4, config)
    part = history[history["J"] == (0, 1)]
    rate = growth(part["time"].to_numpy(), 0.8 - part["loss"].to_numpy(), 1e-7, 1e-3)
    assert rate == pytest.approx(2 * kappa, rel=0.05)


def test_growth_of_an_exponential_and_of_nothing() -> None:
    time = np.linspace(0, 10, 101)
    assert growth(time, 1e-6 * np.exp(1.4 * time), 1e-5, 1e-1) == pytest.approx(0.7)
    assert np.isnan(growth(time, np.zeros(101), 1e-5, 1e-1))


def test_refused() -> None:
    _, mu = saddle(SaddleConfig(LAM, (0,), 6), Erf())
    with pytest.raises(ConfigError, match="n=0"):
        with_silent(mu, 0, 2.0)
    with pytest.raises(ConfigError, match="size"):
        with_silent(mu, 2, 0.0)
