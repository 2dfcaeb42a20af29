"""How long a prompt has to be: where a measured error, and where a floor, falls below a threshold and stays there."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from icl_lib.softmax.floors import vote_floor
from icl_lib.validate import require_number


def shortest_from_which(table: pd.DataFrame, length: str, value: str, threshold: float) -> float:
    """The shortest length from which ``value`` stays at or below the threshold up to the longest; NaN if it never does.

    >>> table = pd.DataFrame({"n_context": [5, 10, 20, 40], "error": [0.3, 0.04, 0.06, 0.01]})
    >>> shortest_from_which(table, "n_context", "error", threshold=0.05)
    40.0
    """
    ordered = table.sort_values(length)
    above = np.flatnonzero(ordered[value].to_numpy() > threshold)
    first = 0 if len(above) == 0 else above[-1] + 1
    return float(ordered[length].iloc[first]) if first < len(ordered) else float("nan")


def needed_context(
    alpha: float,
    n_idr: int,
    threshold: float,
    floor: Callable[[float, int, int, str], float] = vote_floor,
    reading: str = "independent",
) -> int:
    """Smallest l from which on the floor stays at or below `threshold`: there and at every larger l.

    No search limit is needed: either floor is at most the probability (1 - alpha/2)^l of a prompt without the
    query's pattern, so the search starts where that is below the threshold and goes down.

    Args:
        floor: `vote_floor`, `bayes_floor` or a function of the same arguments that obeys the same bound.

    Raises:
        ConfigError: threshold outside (0, 1/2], alpha outside (0, 1], or what `floor` refuses.

    >>> n = needed_context(alpha=0.8, n_idr=6, threshold=0.01)
    >>> vote_floor(0.8, n, 6) <= 0.01 < vote_floor(0.8, n - 1, 6)
    True
    """
    require_number("threshold", threshold, 1e-12, 0.5, "in (0, 0.5]")
    require_number("alpha", alpha, 1e-6, 1, "in (0, 1]: at alpha = 0 the floor is 1/2 at every length")
    floor(alpha, 1, n_idr, reading)  # refuses the others
    n_context = 1 if reading == "exact" else math.ceil(math.log(threshold) / math.log1p(-alpha / 2)) + 1
    while n_context > 1 and floor(alpha, n_context - 1, n_idr, reading) <= threshold:
        n_context -= 1
    return n_context
