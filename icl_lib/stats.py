"""Statistics shared by all chapters. The unit is the seed: every interval is over seeds, never over pooled prompts.

Intervals are two-sided. Means have a t interval, which covers best at ten seeds; the bootstrap undercovers there. A value that
is missing or not finite is never dropped, but refused by name.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize
from scipy import stats as scipy_stats

from icl_lib.validate import require, require_integer, require_number


class Interval(NamedTuple):
    """An estimate with the ends of its confidence interval, all in the unit of the values, and the number of seeds."""

    estimate: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean over seeds, one value per seed, with its t interval (Student; exact for normal values).

    It has zero width if and only if all values are identical: the seeds did not differ, which does not mean that the mean is
    known. For rates of rare events use `error_interval`.

    Args:
        values: shape (seeds,), at least two. At ten exponential ones a nominal 95 % covers 0.89.

    Raises:
        ConfigError: fewer than two values, one that is not finite, or a level outside (0, 1).

    >>> found = mean_interval([0.9, 1.0, 1.1])
    >>> [round(x, 4) for x in found]
    [1.0, 0.7516, 1.2484, 3]
    """
    x = _vector("values", values)
    _check_level(level)
    mean = float(x.mean())
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), float(x[0]), len(x))
    half = float(scipy_stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return Interval(mean, mean - half, mean + half, len(x))


def error_interval(n_errors: ArrayLike, n_prompts: ArrayLike, level: float = 0.95) -> Interval:
    """Mean error rate over seeds from counts, never a bare 0.

    In general the t interval over the seeds' rates, cut at 0 and 1. In two cases the spread between seeds says too little, and
    the two-sided Clopper-Pearson interval (1934) of ONE seed, the one with the fewest prompts, takes over: pooling would count
    every prompt as independent evidence.

    - All seeds have the same rate: that interval. Without an error it is [0, 1 - ((1 - level)/2)^(1/n_prompts)], up to
      3.7/n_prompts at 95 %.
    - Some seed saw no error: the upper end is at least that of such a seed, so that a first error never narrows the interval.

    Args:
        n_errors: wrong prompts per seed, shape (seeds,); halves (ties, counted one half) are rounded up in the bounds.
        n_prompts: evaluated prompts per seed, shape (seeds,) or one number.

    Raises:
        ConfigError: fewer than two seeds, sizes that differ, counts not finite, below 0 or above n_prompts.

    >>> error_interval([0, 0, 0], 1000).high > 0  # no error seen, and still no bare 0
    True
    """
    errors = _vector("n_errors", n_errors)
    _check_level(level)
    given = np.atleast_1d(np.asarray(n_prompts, float))
    require(given.shape in ((1,), errors.shape), "n_prompts", given.shape, f"one number or of shape {errors.shape}")
    prompts = np.broadcast_to(given, errors.shape)
    require(bool(np.all((prompts >= 1) & (prompts % 1 == 0))), "n_prompts", given.tolist(), "whole numbers >= 1")
    fits = (errors >= 0) & (errors <= prompts)
    require(bool(fits.all()), "n_errors", errors[~fits].tolist(), "between 0 and n_prompts")
    rates = errors / prompts
    if np.ptp(rates) <= 1e-9 * rates.max():  # equal but for rounding
        fewest = int(prompts.argmin())
        return Interval(float(rates[0]), *_clopper_pearson(errors[fewest], int(prompts[fewest]), level), len(rates))
    mean, low, high, n = mean_interval(rates, level)
    if (errors == 0).any():
        high = max(high, _clopper_pearson(0, int(prompts[errors == 0].min()), level)[1])
    return Interval(mean, max(low, 0.0), min(high, 1.0), n)


def geometric_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Geometric mean over seeds of positive values: ``mean_interval`` of their logarithms, back in their own unit."""
    x = _vector("values", values)
    require(bool((x > 0).all()), "values", x.tolist(), "above 0")
    mean, low, high, n = mean_interval(np.log(x), level)
    return Interval(float(np.exp(mean)), float(np.exp(low)), float(np.exp(high)), n)


def binomial_interval(hits: ArrayLike, level: float = 0.95) -> Interval:
    """Share of independent trials that hit, with its exact interval (Clopper and Pearson 1934), never a bare 0 or 1.

    Args:
        hits: one truth value per trial; the trials must be independent, so that each is a unit of its own.
    """
    found = _vector("hits", hits)
    _check_level(level)
    require(bool(np.isin(found, (0, 1)).all()), "hits", found.tolist(), "truth values")
    return Interval(float(found.mean()), *_clopper_pearson(found.sum(), len(found), level), len(found))


def paired_interval(a: ArrayLike | pd.Series, b: ArrayLike | pd.Series, level: float = 0.95) -> Interval:
    """Interval of the mean per-seed difference a - b; two Series are paired by their index (the seed).

    Raises:
        ConfigError: sizes that differ, Series of different or repeated seeds, or what `mean_interval` refuses.
    """
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        same = a.index.is_unique and b.index.is_unique and set(a.index) == set(b.index)
        require(same, "b", sorted(b.index), f"of the seeds of a, each once: {sorted(a.index)}")
        b = b.loc[a.index]
    x, y = _vector("a", a), _vector("b", b)
    require(x.shape == y.shape, "b", y.shape, f"of the shape of a, {x.shape}")
    return mean_interval(x - y, level)


def jackknife_interval(by_seed: ArrayLike, statistic: Callable[[np.ndarray], float], level: float = 0.95) -> Interval:
    """Interval over seeds of a smooth function of the mean curve, from Tukey's jackknife (1958).

    For what makes no sense for a single seed, such as the distance of a curve of rare errors from another. The estimate is the function of
    the mean over all seeds, the half width a t factor times the jackknife's standard error. With one column and its mean it is `mean_interval`.

    Args:
        by_seed: shape (seeds, points), at least two seeds.
        statistic: of a mean curve, shape (points,).

    >>> found = jackknife_interval([[0.9], [1.0], [1.1]], lambda mean: mean[0])
    >>> [round(x, 4) for x in found]
    [1.0, 0.7516, 1.2484, 3]
    """
    x = np.asarray(by_seed, float)
    require(
        x.ndim == 2 and len(x) >= 2 and bool(np.isfinite(x).all()), "by_seed", x.shape, "finite, (seeds >= 2, points)"
    )
    n, total = len(x), x.sum(0)
    whole = float(statistic(total / n))
    pseudo = [n * whole - (n - 1) * statistic((total - row) / (n - 1)) for row in x]
    _, low, high, _ = mean_interval(pseudo, level)
    half = (high - low) / 2
    return Interval(whole, whole - half, whole + half, n)


def holm(pvalues: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values (1979), in the order given: reject those <= the family-wise level.

    Raises:
        ConfigError: no p-value, or one outside [0, 1].

    >>> holm([0.01, 0.04]).round(4).tolist()
    [0.02, 0.04]
    """
    p = np.asarray(pvalues, float)
    require(p.ndim == 1 and len(p) > 0, "pvalues", p.shape, "a sequence of at least one")
    require(bool(np.all((p >= 0) & (p <= 1))), "pvalues", p.tolist(), "in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def simultaneous(level: float, k: int) -> float:
    """Level of each of k intervals that hold jointly at `level` (Bonferroni): 1 - (1 - level)/k."""
    _check_level(level)
    require_integer("k", k, 1)
    return 1 - (1 - level) / k


def power_law(x: ArrayLike, values_by_seed: ArrayLike | pd.DataFrame, level: float = 0.95) -> Interval:
    """Exponent p of y = C x^p: the log-log slope of each seed by least squares, and the t interval over seeds.

    Args:
        x: shape (points,), positive, at least two different.
        values_by_seed: shape (seeds, points), positive.

    Raises:
        ConfigError: a value that is missing (a point that was not reached) or not positive, named with seed and x.
    """
    points, values, _ = checked_curves(x, values_by_seed, 2)
    return mean_interval(log_log(points, values)[0], level)


def log_log(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope, offset and rms residual of log y against log x, of x (points,) and y (seeds, points); each of shape (seeds,)."""
    design = np.stack([np.log(x), np.ones(len(x))], axis=1)
    (slopes, offsets), *_ = np.linalg.lstsq(design, np.log(values).T)
    residual = np.log(values).T - design @ np.stack([slopes, offsets])
    return slopes, offsets, np.sqrt((residual**2).mean(axis=0))


def affine_fit(u: np.ndarray, log_y: np.ndarray) -> tuple[float, float, float]:
    """A, B and the rms residual of log y against log(A u + B), by least squares in the logarithm.

    A and B may have either sign as long as A u + B is positive over the range of u. It is if it is at both ends: the logs of
    its two end values are the free parameters, and no bound is needed.

    Args:
        u: shape (points,), at least two different.
        log_y: shape (points,).
    """
    share = (u - u.min()) / np.ptp(u)
    with np.errstate(divide="ignore"):  # at each end the other value has the share 0
        of_low, of_high = np.log(1 - share), np.log(share)

    def residual(ends: np.ndarray) -> np.ndarray:
        return np.logaddexp(ends[0] + of_low, ends[1] + of_high) - log_y

    start = log_y[[u.argmin(), u.argmax()]]
    best = optimize.least_squares(residual, start, method="lm", xtol=1e-14, ftol=1e-14, gtol=1e-14)
    at_low, at_high = np.exp(best.x)
    slope = (at_high - at_low) / np.ptp(u)
    return float(slope), float(at_low - slope * u.min()), float(np.sqrt((best.fun**2).mean()))


def _clopper_pearson(errors: float, prompts: int, level: float) -> tuple[float, float]:
    """Exact two-sided interval of a binomial probability; a half error widens it on both sides."""
    low = scipy_stats.binomtest(int(np.floor(errors)), prompts).proportion_ci(level, "exact").low
    return float(low), float(scipy_stats.binomtest(int(np.ceil(errors)), prompts).proportion_ci(level, "exact").high)


def checked_curves(
    x: ArrayLike, values: ArrayLike | pd.DataFrame, least: int
) -> tuple[np.ndarray, np.ndarray, list[object]]:
    """x, values (seeds, points) and the seeds' names; refuses what is not positive, and fewer than ``least`` different x."""
    points, y = np.asarray(x, float), np.asarray(values, float)
    positive = points.ndim == 1 and bool(np.all(np.isfinite(points) & (points > 0)))
    require(positive, "x", points.tolist(), "a sequence of finite positive numbers")
    require(len(np.unique(points)) >= least, "x", points.tolist(), f"of at least {least} different values")
    wanted = f"of shape (seeds >= 2, points = {len(points)})"
    require(y.ndim == 2 and len(y) >= 2 and y.shape[1] == len(points), "values_by_seed", y.shape, wanted)
    seeds = list(values.index) if isinstance(values, pd.DataFrame) else list(range(len(y)))
    for row, column in np.argwhere(~(np.isfinite(y) & (y > 0)))[:1]:
        where = f"values_by_seed[seed {seeds[row]}, x={points[column]:g}]"
        require(False, where, float(y[row, column]), "finite and positive (nan: this seed never reached the point)")
    return points, y, seeds


def _vector(field: str, values: ArrayLike) -> np.ndarray:
    """One finite number per seed, at least two, as float64."""
    x = np.asarray(values, float)
    require(x.ndim == 1 and len(x) >= 2, field, x.shape, "one value per seed, for at least 2 seeds")
    bad = ~np.isfinite(x)
    require(not bad.any(), f"{field}[{int(bad.argmax())}]", float(x[bad.argmax()]), "finite")
    return x


def _check_level(level: float) -> None:
    require_number("level", level, 1e-9, 1 - 1e-9, "in (0, 1)")
