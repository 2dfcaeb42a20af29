"""How far the bounds of both papers are from what Parts I and II recorded (question Q2).

Nothing is computed anew: all numbers come from the tables and results under ``figures/`` that the other chapters recorded.
A slack is a factor, 1 where theorem and measurement agree. For a law x^p it is the factor by which the law and the
measured power part over the range of x that was measured; for a bound it is bound over measured.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student

from book.claims import Measured, read_result
from icl_lib.paths import root
from icl_lib.stats import Interval, geometric_interval, mean_interval, power_law, simultaneous
from icl_lib.summary import worst
from icl_lib.validate import require, require_choice


class Axis(NamedTuple):
    """A law of the number of steps: the clause of L2, the theorem's exponent, and the table with its runs."""

    clause: str
    exponent: float
    table: str


AXES = {
    "α": Axis("alpha", -2 / 3, "steps_against_alpha"),
    "β": Axis("beta", -2 / 3, "steps_against_others"),
    "M₁": Axis("n_idr", 1.0, "steps_against_others"),  # of T / √log M₁
    "η": Axis("step_size", -1.0, "steps_against_others"),
}
SMALLEST, LARGEST = "‖Σ_μμ‖", ("‖Σ_μμ‖", "sup |h|²", "max |a|²")  # readings of R1² in K3


def recorded(chapter: str, table: str) -> pd.DataFrame:
    """A table that a chapter recorded, with six digits.

    Raises:
        FileNotFoundError: it was never recorded, or the name is wrong.
    """
    return pd.read_csv(root() / "figures" / chapter / f"{table}.csv")


def recorded_clause(chapter: str, clause: str) -> Measured:
    """A recorded clause with its control."""
    found, _ = read_result(root() / "figures" / chapter / "result.json")
    require_choice("clause", clause, tuple(found))
    return found[clause]


def widened(interval: Interval, level: float) -> Interval:
    """The t interval at another level, from that at 95 %."""
    ratio = student.ppf((1 + level) / 2, interval.n - 1) / student.ppf(0.975, interval.n - 1)
    low, high = (interval.estimate + ratio * (end - interval.estimate) for end in (interval.low, interval.high))
    return Interval(interval.estimate, float(low), float(high), interval.n)


def distance(interval: Interval, target: float) -> Interval:
    """Interval of the distance from a target; it begins at 0 where the target lies inside.

    >>> distance(Interval(1.0, 0.5, 1.5, 10), 2.0)
    Interval(estimate=1.0, low=0.5, high=1.5, n=10)
    >>> distance(Interval(1.0, 0.5, 1.5, 10), 1.25).low
    0.0
    """
    ends = sorted((abs(interval.low - target), abs(interval.high - target)))
    inside = interval.low <= target <= interval.high
    return Interval(abs(interval.estimate - target), 0.0 if inside else ends[0], ends[1], interval.n)


def over_range(interval: Interval, target: float, x: ArrayLike) -> Interval:
    """Factor by which a power with the measured exponent and one with the target's part over the range of x.

    >>> over_range(Interval(-1.0, -1.0, -1.0, 10), -0.5, [10, 100, 1000]).estimate
    10.0
    """
    values = np.asarray(x, float)
    require(bool((values > 0).all()), "x", values.tolist(), "above 0")
    off, ratio = distance(interval, target), float(values.max() / values.min())
    return Interval(ratio**off.estimate, ratio**off.low, ratio**off.high, interval.n)


def inverse(interval: Interval, times: float = 1.0) -> Interval:
    """``times`` over a positive quantity."""
    require(interval.low > 0, "interval", interval.low, "above 0")
    return Interval(times / interval.estimate, times / interval.high, times / interval.low, interval.n)


def factor(log10: Interval) -> Interval:
    """From an interval of log10 to one of the factor."""
    return Interval(10**log10.estimate, 10**log10.low, 10**log10.high, log10.n)


def steps(axis: str, threshold: float = 0.2) -> pd.DataFrame:
    """L2's numbers of steps on an axis: rows are seeds, columns values that every seed reached.

    Those against M₁ are divided by √log M₁, as in L2.
    """
    require_choice("axis", axis, tuple(AXES))
    table = recorded("L2", AXES[axis].table)
    table = table[table["axis"] == axis] if "axis" in table else table
    found = table[table["threshold"] == threshold].pivot_table(index="seed", columns="x", values="steps").dropna(axis=1)
    require(found.shape[1] > 1, "threshold", threshold, f"one of {sorted(table['threshold'].unique())}")
    return found / np.sqrt(np.log(found.columns.to_numpy(float))) if axis == "M₁" else found


def step_exponent(axis: str, threshold: float = 0.2, level: float = 0.95) -> Interval:
    """The exponent of T on an axis, as L2 fits it."""
    found = steps(axis, threshold)
    return power_law(found.columns.to_numpy(float), found, level)


def typical(table: pd.DataFrame, column: str) -> Interval:
    """log10 of a ratio: the median over the rows of each seed, its mean over seeds; rows without a value are left out."""
    return mean_interval(np.log10(table.dropna(subset=[column]).groupby("seed")[column].median()))


def homotopy(largest: bool = False) -> Interval:
    """log10 of the second derivative over −4 L²/(k R1²) at the constructed saddles of K3.

    Args:
        largest: with the reading of R1 that is largest at each saddle, else ``‖Σ_μμ‖``.
    """
    table = recorded("K3", "saddles")
    table = table[table["reading"].isin(LARGEST) & (table["where"] == "constructed")]
    table["saddle"] = table.groupby(["seed", "reading"]).cumcount()  # they stand in one order under every reading
    wide = table.pivot_table(index=["seed", "saddle"], columns="reading", values="ratio")
    return typical(wide.assign(ratio=wide.max(axis=1) if largest else wide[SMALLEST]).reset_index(), "ratio")


def births(column: str) -> Interval:
    """log10 of the dissipation over a bound of K5, ``over_nuclear`` or ``over_loss``; measures for which π is not defined are skipped."""
    table = recorded("K5", "bounds")
    return typical(table[table["family"] != "no π"], column)


def prompts(n: int, k: int = 3, sampled: bool = True, measure: str = "random start") -> Interval:
    """log10 of √(log k/n) over the deviation of the loss of n contexts, K9 at W_μ.

    Args:
        sampled: by the prompts drawn at this n; else by the exact law, a constant over n.
    """
    table = recorded("K9", "deviation")
    table = table[(table["W"] == "at W_mu") & (table["measure"] == measure)]
    at = table[table["length"] == (n if sampled else table["length"].max())]
    require(len(at) > 0, "n", n, f"one of {sorted(table['length'].unique())}")
    deviation = at["value"] if sampled else at["exact"] * at["length"] / n
    return mean_interval(np.log10(np.sqrt(np.log(k) / n) / deviation.to_numpy()))


def prompt_exponent(measure: str = "random start") -> Interval:
    """Exponent of the deviation of the loss against the contexts n, K9 at W_μ, sampled."""
    table = recorded("K9", "deviation")
    table = table[(table["W"] == "at W_mu") & (table["measure"] == measure)]
    wide = table.pivot_table(index="seed", columns="length", values="value")
    return power_law(wide.columns.to_numpy(float), wide)


def enough(table: pd.DataFrame, by: str, value: str, goal: float) -> pd.Series:
    """Per seed, the smallest setting from which on all values are at most the goal.

    Raises:
        ConfigError: a seed whose last setting does not reach it.
    """
    wide = table.pivot_table(index="seed", columns=by, values=value).sort_index(axis=1)
    found = {}
    for seed, row in wide.iterrows():
        bad = row[row > goal].index
        good = row.index[row.index > bad.max()] if len(bad) else row.index
        require(len(good) > 0, "goal", goal, f"reached at the end by every seed, seed {seed} ends at {row.iloc[-1]:g}")
        found[seed] = float(good[0])
    return pd.Series(found)


def batch_slack(epsilon: float) -> tuple[Interval, Interval]:
    """Smallest batch of L1 from which on the hinge loss is at most ε, and max(ε⁻², M1) over it (constant 1 is ours)."""
    found = enough(recorded("L1", "batch_size"), "batch_size", "hinge", epsilon)
    measured = geometric_interval(found)
    return measured, inverse(measured, max(epsilon**-2, 6))


def growth_with_outputs() -> Interval:
    """Growth of √log k over that of n (Lⁿ − L) at W_μ, K9, from the smallest k above 1 to the largest."""
    table = recorded("K9", "outputs")
    wide = table[table["k"] > 1].pivot_table(index="seed", columns="k", values="constant").sort_index(axis=1)
    first, last = wide.columns[0], wide.columns[-1]
    return geometric_interval(np.sqrt(np.log(last) / np.log(first)) * wide[first] / wide[last])


def sufficient_sum() -> Interval:
    """The coefficient sum S1 at which the margin reaches 1, in the training setting of L4 where it is largest."""
    groups = [part["found"] for _, part in recorded("L4", "threshold").groupby(["beta", "eta"])]
    return mean_interval(max(groups, key=lambda found: found.mean()))


def exponent(chapter: str, table: str, where: tuple[str, str], x: str, value: str, log10: bool = False) -> Interval:
    """Exponent of a recorded value against x, in the rows whose column ``where[0]`` is ``where[1]``.

    Args:
        log10: the recorded value is a log10.
    """
    found = recorded(chapter, table)
    wide = found[found[where[0]] == where[1]].pivot_table(index="seed", columns=x, values=value)
    return power_law(wide.columns.to_numpy(float), 10**wide if log10 else wide)


def clauses(threshold: float = 0.2, n: int = 1000, n_control: int = 100_000) -> dict[str, Measured]:
    """The clauses of Q2 from the recorded tables."""
    level = simultaneous(0.95, len(AXES))
    off = [distance(step_exponent(name, threshold, level), axis.exponent) for name, axis in AXES.items()]
    placebo = [
        distance(widened(recorded_clause("L2", axis.clause).control, level), axis.exponent) for axis in AXES.values()
    ]
    return {
        "exponents": Measured(worst(pd.DataFrame(off)), worst(pd.DataFrame(placebo))),
        "curvature": Measured(homotopy(), homotopy(largest=True)),
        "birth_death": Measured(births("over_nuclear"), births("over_loss")),
        "prompts": Measured(prompts(n), prompts(n_control, sampled=False)),
    }
