"""One latent error rate behind the floors of Paper L's published curves? Rates from digitised errors (question Q15; derived by us).

If the query's label is flipped with probability r, whatever the prompt says, every error f becomes (1 - 2 r) f + r, for every learner. A
query whose pattern is unreadable, so that its answer is a coin, does the same with r one half of its probability: curves cannot tell the two.
Flipped labels of *contexts* make no floor, since votes average them out.

Published errors are shares of so many test prompts, of which nobody says how many; `lattice` looks for their number.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from icl_lib.published import log_ratio
from icl_lib.stats import Interval
from icl_lib.validate import require, require_integer, require_number


def flipped(error: ArrayLike, rate: float) -> np.ndarray:
    """An error rate where the query's label is flipped with probability ``rate``.

    >>> flipped([0.0, 0.5], 0.01).tolist()
    [0.01, 0.5]
    """
    return (1 - 2 * rate) * np.asarray(error, float) + rate


def fit_rate(published: ArrayLike, floor: ArrayLike, n: int) -> float:
    """The rate of largest likelihood, if published errors are shares of n prompts and err as `flipped` says; 0 at least, 1/2 at most.

    The logarithm of the likelihood is concave in the rate, since `flipped` is linear in it.

    Args:
        published, floor: errors at the same points, with and without flips.
    """
    p, f = np.asarray(published, float), np.asarray(floor, float)
    require(p.shape == f.shape and p.size > 0, "floor", f.shape, f"of the shape of published, {p.shape}")
    require_integer("n", n, 1)

    def loss(rate: float) -> float:
        q = np.clip(flipped(f, rate), 1e-12, 1 - 1e-12)
        return float(-n * (p * np.log(q) + (1 - p) * np.log1p(-q)).sum())

    found = float(minimize_scalar(loss, bounds=(0, 0.5), method="bounded", options={"xatol": 1e-9}).x)
    return 0.0 if loss(0.0) <= loss(found) else found


def read_again(published: ArrayLike, n: int, reading: float, rng: np.random.Generator) -> np.ndarray:
    """Published errors as they might be read off the figure of a repetition: n new prompts, and a slip of up to ``reading`` of the value.

    Prompts are drawn with the published errors for probabilities (parametric bootstrap).
    """
    require_number("reading", reading, 0, 0.5)
    p = np.asarray(published, float)
    return rng.binomial(n, p) / n * (1 + rng.uniform(-reading, reading, p.shape))


def predicted(fit: pd.DataFrame, held_out: pd.DataFrame, n: int, clip: float) -> tuple[float, float]:
    """A rate from some curves, and how far others are from what it says: the mean absolute log ratio over their points.

    Args:
        fit, held_out: columns error (published) and floor.
        clip: smaller errors count as this one.
    """
    rate = fit_rate(fit["error"], fit["floor"], n)
    apart = log_ratio(flipped(held_out["floor"], rate), held_out["error"], clip)
    return rate, float(np.abs(apart).mean())


def percentiles(value: float, draws: Sequence[float], n: int, level: float = 0.95) -> Interval:
    """An estimate with the middle share ``level`` of its repetitions; n curves."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, min(float(low), value), max(float(high), value), n)


def lattice(errors: ArrayLike, n: int) -> float:
    """Mean distance of n times the errors from whole numbers: 0 for shares of n prompts, 1/4 by chance.

    >>> lattice([0.0015, 0.002], 2000)
    0.0
    """
    scaled = np.asarray(errors, float) * n
    return float(np.abs(scaled - np.round(scaled)).mean().round(12))


def by_chance(errors: ArrayLike, n: int, n_draws: int, rng: np.random.Generator) -> float:
    """How often errors that are moved by up to a fifth of their value lie as near to shares of n prompts, with the usual + 1."""
    e = np.asarray(errors, float)
    moved = (lattice(e * np.exp(rng.uniform(-0.2, 0.2, e.shape)), n) for _ in range(n_draws))
    return (1 + sum(d <= lattice(e, n) for d in moved)) / (1 + n_draws)
