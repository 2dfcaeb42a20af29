"""Rates of flips from curves: recovered, covered, and zero where there are none; lattices of shares."""

import numpy as np
import pandas as pd
import pytest

from icl_lib.softmax.floors import vote_floor
from icl_lib.validate import ConfigError
from studies.Q15 import by_chance, fit_rate, flipped, lattice, percentiles, predicted, read_again

FLOOR = np.array([vote_floor(0.8, l, 6) for l in range(6, 21, 2)])
N = 2000


def test_an_exact_curve_gives_its_rate() -> None:
    for rate in (0.0005, 0.01, 0.2):
        assert fit_rate(flipped(FLOOR, rate), FLOOR, N) == pytest.approx(rate, rel=1e-3)
    assert fit_rate(0.9 * FLOOR, FLOOR, N) == 0.0
    with pytest.raises(ConfigError, match="floor="):
        fit_rate(FLOOR, FLOOR[:3], N)


def test_flips_of_answers_are_what_flipped_says() -> None:
    """Drawn labels: an answer that errs with probability f, and a label that is flipped with probability r."""
    rng = np.random.default_rng(0)
    wrong, flip = rng.random(200_000) < 0.1, rng.random(200_000) < 0.03
    assert (wrong ^ flip).mean() == pytest.approx(flipped(0.1, 0.03), abs=0.003)


def test_repetitions_cover_the_rate() -> None:
    """Of 30 made-up figures with 2 000 prompts a point, nearly all intervals hold the rate they were made with."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(30):
        figure = read_again(flipped(FLOOR, 0.003), N, 0.0, rng)
        draws = [fit_rate(read_again(figure, N, 0.05, rng), FLOOR, N) for _ in range(60)]
        _, low, high, n = percentiles(fit_rate(figure, FLOOR, N), draws, 1)
        hits += low <= 0.003 <= high
        assert n == 1
    assert hits >= 25


def test_prediction_of_other_curves() -> None:
    fit = pd.DataFrame({"error": flipped(FLOOR, 0.01), "floor": FLOOR})
    other = pd.DataFrame({"error": flipped(FLOOR / 2, 0.01), "floor": FLOOR / 2})
    assert predicted(fit, other, N, 1e-4) == pytest.approx((0.01, 0.0), abs=1e-4)
    assert predicted(fit, other.assign(error=2 * other["error"]), N, 1e-4)[1] == pytest.approx(np.log(2), abs=1e-3)


def test_shares_lie_on_their_lattice() -> None:
    rng = np.random.default_rng(1)
    shares = rng.integers(1, 30, 15) / N
    assert lattice(shares, N) == 0 and by_chance(shares, N, 200, rng) < 0.01
    anywhere = rng.uniform(0.0005, 0.015, 15)
    assert by_chance(anywhere, N, 200, rng) > 0.05
