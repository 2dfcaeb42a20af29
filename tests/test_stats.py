"""Closed forms, coverage by simulation, exact recovery, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from icl_lib.stats import (
    Interval,
    binomial_interval,
    error_interval,
    geometric_interval,
    holm,
    jackknife_interval,
    mean_interval,
    paired_interval,
    power_law,
    simultaneous,
)
from icl_lib.validate import ConfigError

X = np.array([0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0])


def curves(truth: np.ndarray, n: int = 10, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """n seeds of one curve: a factor of its own each, and log-normal noise per point."""
    rng = np.random.default_rng(seed)
    return truth * np.linspace(0.8, 1.2, n)[:, None] * np.exp(noise * rng.standard_normal((n, len(truth))))


# --- means -----------------------------------------------------------------------------------------------------


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.0])
    assert jackknife_interval(values[:, None], lambda mean: mean[0]) == pytest.approx(mean_interval(values))


def test_the_jackknife_of_a_square_covers() -> None:
    """Its standard error is the delta method's, 2 |mean| s.e., to first order; of 400 intervals, about 95 % hold the truth."""
    draws = 3 + np.random.default_rng(0).standard_normal((400, 20, 1))
    found = [jackknife_interval(x, lambda mean: mean[0] ** 2) for x in draws]
    x = draws[0, :, 0]
    assert found[0].estimate == pytest.approx(x.mean() ** 2)
    half = mean_interval(x).high - x.mean()
    assert found[0].high - found[0].estimate == pytest.approx(2 * x.mean() * half, rel=0.05)
    assert 0.92 < np.mean([low <= 9 <= high for _, low, high, _ in found]) < 0.98
    with pytest.raises(ConfigError, match="by_seed"):
        jackknife_interval([[1.0]], lambda mean: mean[0])


def test_t_interval_by_hand() -> None:
    found = mean_interval([1, 2, 3, 4])  # sd^2 = 5/3, t(.975, 3) = 3.182446
    half = 3.182446305 * np.sqrt(5 / 3 / 4)
    assert found == pytest.approx((2.5, 2.5 - half, 2.5 + half, 4))
    wider = mean_interval([1, 2, 3, 4], level=0.99)
    assert wider.low < found.low and found.high < wider.high


def test_zero_width_only_for_identical_values() -> None:
    assert mean_interval([0.1] * 9) == Interval(0.1, 0.1, 0.1, 9)
    found = mean_interval([0.1] * 8 + [0.1 + 1e-6])
    assert found.low < found.estimate < found.high


def test_t_interval_covers() -> None:
    rng = np.random.default_rng(1)
    inside = [(i := mean_interval(x)).low <= 0 <= i.high for x in rng.standard_normal((2000, 10))]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)  # 4 standard errors


def test_coverage_at_ten_skewed_values() -> None:
    """Exponential values: the t interval undercovers, and the percentile bootstrap does more so."""
    samples = np.random.default_rng(2).exponential(size=(1000, 10))
    covered = np.mean([(i := mean_interval(x)).low <= 1 <= i.high for x in samples])
    means = samples[:, np.random.default_rng(3).integers(10, size=(1000, 10))].mean(-1)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    percentile = np.mean((low <= 1) & (1 <= high))
    assert covered == pytest.approx(0.895, abs=0.03)
    assert percentile < covered


# --- error rates -----------------------------------------------------------------------------------------------


def test_no_error_seen_gives_one_seeds_bound() -> None:
    n = 1_000_000
    found = error_interval([0] * 10, n, level=0.90)
    assert (found.estimate, found.low, found.n) == (0, 0, 10)
    assert found.high == pytest.approx(3 / n, rel=0.01)  # rule of three: 5 % above, per seed and not pooled
    assert error_interval([0] * 10, n).high == pytest.approx(1 - 0.025 ** (1 / n), rel=1e-9)
    assert error_interval([0, 0], [50, 100]) == error_interval([0, 0], 50)  # the seed with the fewest prompts


def test_error_interval_is_a_t_interval_of_rates() -> None:
    errors, prompts = np.array([110, 130, 95, 140]), np.array([1000, 1000, 900, 1200])
    assert error_interval(errors, prompts) == mean_interval(errors / prompts)


def test_error_interval_stays_in_0_1_and_never_narrows_on_a_first_error() -> None:
    found = error_interval([0, 0, 0, 900], 1000)
    assert found.low == 0 < found.estimate == 0.225 < found.high <= 1
    none, one = error_interval([0] * 10, 10_000), error_interval([0] * 9 + [1], 10_000)
    assert one.estimate == pytest.approx(1e-5)
    assert one.high >= none.high


def test_equal_rates_do_not_give_zero_width() -> None:
    exact = scipy_stats.binomtest(40, 100).proportion_ci(0.95, "exact")
    assert error_interval([40, 40, 40], 100) == pytest.approx((0.4, exact.low, exact.high, 3))
    assert error_interval([7, 21], [30, 90]).low < 0.12  # 7/30 and 21/90, equal but for rounding
    always = error_interval([100, 100], 100)
    assert always.estimate == always.high == 1 > always.low > 0.96
    assert error_interval([0.5, 0.5], 100).low == 0  # a tie in each seed: half an error


def test_error_interval_covers() -> None:
    """Seeds whose own rates differ: the t interval over seeds covers the mean rate, the pooled one would not."""
    rng = np.random.default_rng(5)
    own = rng.beta(20, 180, size=(1500, 10))  # mean 0.1
    errors = rng.binomial(5000, own)
    inside = [(i := error_interval(e, 5000)).low <= 0.1 <= i.high for e in errors]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.025)
    pooled = [scipy_stats.norm.interval(0.95, e.mean() / 5000, np.sqrt(0.09 / 50_000)) for e in errors]
    assert np.mean([low <= 0.1 <= high for low, high in pooled]) < 0.5


# --- comparisons -----------------------------------------------------------------------------------------------


def test_paired_interval_sees_what_seeds_share() -> None:
    rng = np.random.default_rng(6)
    shared, own = 10 * rng.standard_normal(10), rng.standard_normal(10)
    found = paired_interval(shared + 1 + 0.1 * own, shared)
    assert found == pytest.approx(mean_interval(1 + 0.1 * own), abs=1e-12)
    assert found.low > 0


def test_paired_interval_pairs_series_by_seed() -> None:
    a = pd.Series([1.0, 2.0, 4.0], index=[3, 1, 2])
    b = pd.Series([0.5, 1.0, 0.0], index=[1, 2, 3])
    assert paired_interval(a, b) == mean_interval([1.0, 1.5, 3.0])
    with pytest.raises(ConfigError, match=r"b=\[1, 2, 4\]: must be of the seeds of a, each once: \[1, 2, 3\]"):
        paired_interval(a, b.set_axis([1, 2, 4]))
    with pytest.raises(ConfigError, match="each once"):
        paired_interval(a, b.set_axis([1, 2, 2]))
    with pytest.raises(ConfigError, match=r"b=\(2,\): must be of the shape of a, \(3,\)"):
        paired_interval([1, 2, 3], [1, 2])


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([0.02]) == pytest.approx([0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_raw_and_bonferroni(pvalues: list[float]) -> None:
    p, adjusted = np.array(pvalues), holm(pvalues)
    assert np.all(adjusted >= p - 1e-15)
    assert np.all(adjusted <= np.minimum(1, p * len(p)) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)


def test_simultaneous() -> None:
    assert simultaneous(0.95, 1) == pytest.approx(0.95)
    assert simultaneous(0.95, 5) == pytest.approx(0.99)
    with pytest.raises(ConfigError, match="k=0: must be an integer >= 1"):
        simultaneous(0.95, 0)


# --- scaling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-2 / 3, -1.0, 0.0, 0.32])
def test_power_law_recovers_the_exponent(exponent: float) -> None:
    assert power_law(X, curves(5 * X**exponent)) == pytest.approx((exponent, exponent, exponent, 10), abs=1e-12)


def test_power_law_covers() -> None:
    inside = []
    for seed in range(400):
        found = power_law(X, curves(5 * X**-0.8, noise=0.1, seed=seed))
        inside.append(found.low <= -0.8 <= found.high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.045)


# --- what is refused -------------------------------------------------------------------------------------------


def test_a_point_that_was_not_reached_is_named() -> None:
    values = pd.DataFrame(curves(1 / X, n=3), index=[100, 101, 102])
    values.iloc[1, 2] = np.nan
    with pytest.raises(ConfigError, match=r"values_by_seed\[seed 101, x=0\.2\]=nan: must be .*never reached"):
        power_law(X, values)
    with pytest.raises(ConfigError, match=r"values_by_seed\[seed 0, x=0\.1\]=0\.0: must be finite and positive"):
        power_law(X, np.zeros((2, 7)))
    with pytest.raises(ConfigError, match="x=.*at least 2 different"):
        power_law([1, 1], np.ones((2, 2)))
    with pytest.raises(ConfigError, match=r"values_by_seed=\(1, 7\): must be of shape \(seeds >= 2, points = 7\)"):
        power_law(X, np.ones((1, 7)))
    with pytest.raises(ConfigError, match="x=.*must be a sequence of finite positive"):
        power_law([0, 1], np.ones((2, 2)))


BAD = st.sampled_from([float("nan"), float("inf"), -float("inf")])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), BAD, st.integers(0, 8))
@settings(max_examples=50)
def test_values_not_finite_are_named(values: list[float], bad: float, place: int) -> None:
    place = min(place, len(values))
    values = [*values[:place], bad, *values[place:]]
    with pytest.raises(ConfigError, match=rf"values\[{place}\]=-?(nan|inf): must be finite"):
        mean_interval(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
@settings(max_examples=100)
def test_any_sample_gives_an_ordered_interval(values: list[float]) -> None:
    found = mean_interval(values)
    assert found.low <= found.estimate <= found.high
    assert found.n == len(values)


@given(st.lists(st.integers(0, 500), min_size=2, max_size=12))
@settings(max_examples=100)
def test_any_counts_give_an_interval_in_0_1(errors: list[int]) -> None:
    found = error_interval(errors, 500)
    assert 0 <= found.low <= found.estimate <= found.high <= 1
    assert found.low < found.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0]), r"values=\(1,\): must be one value per seed, for at least 2 seeds"),
        (lambda: mean_interval([]), "at least 2 seeds"),
        (lambda: mean_interval([[1.0, 2.0]]), "one value per seed"),
        (lambda: mean_interval([1, 2], level=95), r"level=95: must be in \(0, 1\)"),
        (lambda: error_interval([1, 2], [10, 10, 10]), r"n_prompts=\(3,\): must be one number or of shape \(2,\)"),
        (lambda: error_interval([1, 11], 10), r"n_errors=\[11\.0\]: must be between 0 and n_prompts"),
        (lambda: error_interval([-1, 1], 10), r"n_errors=\[-1\.0\]: must be between"),
        (lambda: error_interval([0, 0], 0), r"n_prompts=\[0\.0\]: must be whole numbers >= 1"),
        (lambda: holm([0.1, 1.2]), r"pvalues=\[0\.1, 1\.2\]: must be in \[0, 1\]"),
        (lambda: holm([float("nan")]), r"pvalues=\[nan\]: must be in \[0, 1\]"),
        (lambda: holm([]), r"pvalues=\(0,\): must be a sequence"),
    ],
)
def test_refuses(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        call()


def test_geometric_interval_is_the_mean_interval_of_logarithms() -> None:
    values = np.array([0.5, 2.0, 8.0])
    found, logs = geometric_interval(values), mean_interval(np.log(values))
    assert found.estimate == pytest.approx(2) and found.n == 3
    assert np.log(found[1:3]) == pytest.approx(logs[1:3])
    scaled = geometric_interval(1000 * values)
    assert scaled[:3] == pytest.approx([1000 * x for x in found[:3]])
    with pytest.raises(ConfigError, match="values=.*above 0"):
        geometric_interval([1.0, 0.0])


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 20), (20, 20)])
def test_binomial_interval_is_the_exact_one(hits: int, n: int) -> None:
    found = binomial_interval([True] * hits + [False] * (n - hits))
    assert found.estimate == hits / n and found.n == n
    if hits > 0:  # at an end of the interval, what was seen or more extreme has a tail of 2.5 %
        assert scipy_stats.binom.sf(hits - 1, n, found.low) == pytest.approx(0.025)
    if hits < n:
        assert scipy_stats.binom.cdf(hits, n, found.high) == pytest.approx(0.025)
    assert (found.low == 0) == (hits == 0) and (found.high == 1) == (hits == n)
    with pytest.raises(ConfigError, match="hits=.*truth values"):
        binomial_interval([0, 2])
