"""From one row per seed to one row per setting with its interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from icl_lib.stats import Interval, error_interval, mean_interval, simultaneous
from icl_lib.validate import require

COUNTED = {"error": ("n_errors", "n_prompts"), "hinge": ("hinge", "n_lossy", "n_prompts", "largest_output")}


def hinge_interval(table: pd.DataFrame, level: float = 0.95) -> Interval:
    """Mean hinge loss over seeds; where no prompt had a loss, an upper bound instead of a bare 0.

    A prompt loses at most 1 + max |F|, with the largest |F| seen; the mean is at most that times the bound on how often one does.
    """
    if bool((table["n_lossy"] > 0).any()):
        return mean_interval(table["hinge"], level)
    often = error_interval(table["n_lossy"], table["n_prompts"], level)
    return Interval(0.0, 0.0, often.high * (1 + float(table["largest_output"].max())), often.n)


def seed_interval(table: pd.DataFrame, value: str, level: float = 0.95) -> Interval:
    """Interval over the rows of a table of one row per seed; "error" and "hinge" as ``evaluate`` counts them.

    Raises:
        ConfigError: for a seed in two rows, and where the counts of "error" or "hinge" are missing.
    """
    for name in ("seed", *COUNTED.get(value, (value,))):
        require(name in table, "table", list(table.columns), f"with a column {name}")
    require(not table["seed"].duplicated().any(), "seed", sorted(table["seed"]), "without repetition: one row per seed")
    if value == "error":
        return error_interval(table["n_errors"], table["n_prompts"], level)
    return hinge_interval(table, level) if value == "hinge" else mean_interval(table[value], level)


def summarise(
    table: pd.DataFrame, by: Sequence[str], value: str, together: bool = False, level: float = 0.95
) -> pd.DataFrame:
    """One row per setting: the columns of ``by``, estimate, low, high, n. No row of ``table``, no row.

    Args:
        table: one row per seed and setting.
        together: make the intervals hold all at once (Bonferroni over the settings).

    >>> table = pd.DataFrame({"alpha": [0.4, 0.4, 0.8, 0.8], "seed": [0, 1, 0, 1]})
    >>> found = summarise(table.assign(margin=[1.0, 3.0, 5.0, 5.0]), ["alpha"], "margin")
    >>> found[["alpha", "estimate", "n"]].to_numpy().tolist()
    [[0.4, 2.0, 2.0], [0.8, 5.0, 2.0]]
    """
    groups = list(table.groupby(list(by), sort=False))
    if not groups:  # columns that can be drawn and logarithms taken of
        return table[list(by)].assign(estimate=np.nan, low=np.nan, high=np.nan, n=0)
    each = simultaneous(level, len(groups)) if together else level
    rows = [(*key, *seed_interval(part, value, each)) for key, part in groups]
    return pd.DataFrame(rows, columns=[*by, "estimate", "low", "high", "n"])


def worst(summary: pd.DataFrame) -> Interval:
    """The largest of several means, from their simultaneous intervals: largest estimate, low and high end."""
    estimate, low, high = map(float, summary[["estimate", "low", "high"]].max())
    return Interval(estimate, low, high, int(summary["n"].min()))


def least(summary: pd.DataFrame) -> Interval:
    """The smallest of several means, from their simultaneous intervals: smallest estimate, low and high end."""
    estimate, low, high = map(float, summary[["estimate", "low", "high"]].min())
    return Interval(estimate, low, high, int(summary["n"].min()))


def share_interval(shares: Sequence[float], level: float = 0.95) -> Interval:
    """Mean over seeds of shares in [0, 1]; never a bare 1.

    Where all n shares are 1, the low end is the exact (Clopper-Pearson) bound on the fraction of seeds whose share is 1,
    ((1 - level) / 2)^(1/n): the mean share is at least that.
    """
    values = np.asarray(shares, float)
    require(len(values) > 0, "shares", values.tolist(), "one share per seed, for at least one seed")
    require(bool(((values >= 0) & (values <= 1)).all()), "shares", values.tolist(), "between 0 and 1")
    if (values == 1).all():
        return Interval(1.0, float(((1 - level) / 2) ** (1 / len(values))), 1.0, len(values))
    mean, low, high, n = mean_interval(values, level)
    return Interval(mean, max(low, 0.0), min(high, 1.0), n)
