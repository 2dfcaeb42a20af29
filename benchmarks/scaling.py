"""How time and memory grow: exponents of power laws by least squares in logarithms, with their 95 % intervals."""

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.machine import CORNERS
from benchmarks.results import of_step, times, timings
from benchmarks.training import configs_of, steps_at_once

GROWTH = {  # what is fitted: (benchmark, axis)
    "ensemble size": ("training run", "models"),
    "width m": ("training step", "m"),
    "context length l": ("training step", "l"),
    "particles N": ("velocity", "N"),
    "context length n": ("epoch", "n"),
    "neurons N": ("epoch", "N"),
}
MEMORY_OF = {"training run": "training step"}  # memory was measured with the sampling


def exponent(size: np.ndarray, value: np.ndarray) -> tuple[float, float, float]:
    """Slope of log value against log size with its 95 % t interval; at least three sizes."""
    fit = stats.linregress(np.log(size), np.log(value))
    half = stats.t.ppf(0.975, len(size) - 2) * fit.stderr
    return float(fit.slope), float(fit.slope - half), float(fit.slope + half)


def grown(table: pd.DataFrame) -> pd.DataFrame:
    """The data of the figure: against, quantity ("seconds" or "MiB added"), variant, size, factor, value (medians)."""
    parts = []
    timed, held = timings(table[table["variant"] == "ours"]), table[table["unit"] == "MiB added"]
    for name, (benchmark, axis) in GROWTH.items():
        for quantity, rows, of in (
            ("seconds", timed, benchmark),
            ("MiB added", held, MEMORY_OF.get(benchmark, benchmark)),
        ):
            rows = rows[(rows["benchmark"] == of) & (rows["axis"] == axis)]
            found = rows.groupby(["variant", "size", "factor"], as_index=False)["value"].median()
            parts.append(found.assign(against=name, quantity=quantity))
    return pd.concat(parts, ignore_index=True)[["against", "quantity", "variant", "size", "factor", "value"]]


def exponents(data: pd.DataFrame) -> pd.DataFrame:
    """Of ours, over all sizes and over those from the published one on: exponent, low, high each."""
    rows = []
    ours = data[(data["variant"] == "ours") & (data["value"] > 0)]
    for (against, quantity), part in ours.groupby(["against", "quantity"], sort=False):
        upper = part[part["factor"] >= 1]
        fits = [exponent(p["size"].to_numpy(), p["value"].to_numpy()) for p in (part, upper)]
        rows.append((against, quantity, *fits[0], *fits[1]))
    names = ["exponent", "low", "high", "exponent, upper half", "low, upper half", "high, upper half"]
    return pd.DataFrame(rows, columns=["against", "quantity", *names])


def bottlenecks(table: pd.DataFrame) -> pd.DataFrame:
    """Of the time of a training step on given prompts, at the smallest, published and largest of each size: what is what.

    Shares of the fastest measured time that the step's own parts take when timed alone; the rest are look-ups by pattern, margins,
    and sums.
    """
    rows = []
    for size in CORNERS:
        whole = float(times(table, "training step", "ours", size.axis, size.factor).min()) / len(configs_of(size))
        share = of_step(table, steps_at_once(size), size.axis, size.factor) / whole
        share["rest"] = 1 - share.sum()
        rows.append({"axis": size.axis, "size": int(size.value), **share, "largest": share.idxmax()})
    return pd.DataFrame(rows)


def shown(fits: pd.DataFrame) -> pd.DataFrame:
    """``exponents`` as words: estimate with its interval."""

    out = fits[["against", "quantity"]].copy()
    for title, end in (("all sizes", ""), ("from the published one on", ", upper half")):
        columns = zip(*(fits[name + end] for name in ("exponent", "low", "high")), strict=True)
        out[title] = ["{:.2f} [{:.2f}, {:.2f}]".format(*row) for row in columns]
    return out
