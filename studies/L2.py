"""Which of two laws describes how the number of steps to reach a loss scales."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from icl_lib.stats import Interval, affine_fit, checked_curves, log_log, paired_interval


class Scaling(NamedTuple):
    """What `compare_scaling` found.

    fits: one row per seed: seed; C, p and rms_power of y = C x^p; A, B and rms_reciprocal of y = A/x + B.
    difference: interval over seeds of rms_power - rms_reciprocal; above 0 where A/x + B fits better.
    """

    fits: pd.DataFrame
    difference: Interval


def compare_scaling(x: ArrayLike, values_by_seed: ArrayLike | pd.DataFrame, level: float = 0.95) -> Scaling:
    """Does y = C x^p or y = A/x + B describe the curves better? Two parameters each, fitted to every seed.

    Both minimise the squared residuals of log y, so their rms log residuals (natural log: 0.01 is one per cent)
    compare directly. A and B may have either sign as long as A/x + B is positive over the range of x.

    Args:
        x: shape (points,), positive, at least three different.
        values_by_seed: shape (seeds, points), positive; the index of a DataFrame names the seeds.

    Raises:
        ConfigError: as `power_law`.
    """
    points, values, seeds = checked_curves(x, values_by_seed, 3)
    slopes, offsets, rms_power = log_log(points, values)
    reciprocal = [affine_fit(1 / points, np.log(row)) for row in values]
    fits = pd.DataFrame({"seed": seeds, "C": np.exp(offsets), "p": slopes, "rms_power": rms_power})
    fits[["A", "B", "rms_reciprocal"]] = reciprocal
    return Scaling(fits, paired_interval(fits["rms_power"], fits["rms_reciprocal"], level))
