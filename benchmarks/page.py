"""What the performance page shows, as tables of words and rounded numbers."""

from collections.abc import Iterable

import pandas as pd

from benchmarks.results import APART, of_epoch, ratio, shares, times

LARGE = 8  # N = 4 000 particles, where the velocity's targets are
EPOCH_MODULES = [f"torch.nn, batch {batch}" for batch in (1, 4, 20)]


def seconds(value: float) -> str:
    """Three digits in s, ms or µs: the first in which the value is at least 1."""
    units = {"s": 1.0, "ms": 1e3, "µs": 1e6}
    unit = next((unit for unit, factor in units.items() if value * factor >= 1), "µs")
    return f"{value * units[unit]:.3g} {unit}"


def number(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def times_ours(row: pd.Series) -> str:
    return f"{number(row['median'])} ({number(row['low'])} to {number(row['high'])})"


def first_axis(found: pd.DataFrame) -> pd.DataFrame:
    """Rows along the first thing that is varied on each hot path; what is timed apart stands with the targets only."""
    found = found[~found["benchmark"].str.endswith(APART)]
    first = found.groupby("benchmark", sort=False)["axis"].first()
    return found[found["axis"] == found["benchmark"].map(first)]


def at_size(found: pd.DataFrame, factor: float) -> pd.DataFrame:
    """One row per hot path and alternative, at one size along the first thing that is varied.

    Args:
        found: of ``results.compared``.
    """
    rows = first_axis(found)
    rows = rows[rows["factor"] == factor]
    shown = pd.DataFrame(
        {
            "hot path": rows["benchmark"],
            "alternative": rows["against"],
            "times ours": [times_ours(row) for _, row in rows.iterrows()],
            "ours": rows["ours"].map(seconds),
            "theirs": rows["theirs"].map(seconds),
            "size": rows["axis"] + " = " + rows["size"].map("{:g}".format),
            "differs by": rows["difference"].map("{:.0e}".format, na_action="ignore"),
        }
    )
    return shown.set_index(["hot path", "alternative"]).fillna("")


def losses(found: pd.DataFrame) -> pd.DataFrame:
    """Where an alternative is faster than ours: per hot path and alternative, at which sizes, and the worst ratio."""
    rows = found[(found["median"] < 1) & ~found["against"].str.startswith("ours")]
    rows = rows[~rows["benchmark"].str.endswith(APART)]
    of = rows.groupby(["benchmark", "axis", "against"], sort=False)
    sizes = of["size"].agg(lambda s: ", ".join(f"{value:g}" for value in s))
    out = pd.DataFrame({"sizes": sizes, "worst ratio": of["median"].min().round(2)}).reset_index()
    return out.rename(columns={"benchmark": "hot path"}).set_index("hot path")


def targets(table: pd.DataFrame) -> pd.DataFrame:
    """What was aimed at beforehand; a ratio is reached when that of the minima and the median are."""
    rows: list[dict[str, object]] = []

    def add(what: str, target: float, found: Iterable[float], high: bool = True) -> None:
        values = list(found)
        reached = min(values) >= target if high else max(values) <= target
        measured = " / ".join(map(number, values))
        rows.append(
            {"aim": what, "target": f"{'≥' if high else '≤'} {target:g}", "measured": measured, "reached": reached}
        )

    def faster(what: str, target: float, slow: pd.Series, fast: pd.Series) -> None:
        found = ratio(slow, fast)
        add(what, target, (found["of_minima"], found["median"]))

    for benchmark in ("training run", "training step"):
        ours = times(table, benchmark, "ours", "models")
        for variant, target in (("ours, solo", 4), ("torch.nn", 15)):
            faster(f"{benchmark}, times {variant}", target, times(table, benchmark, variant, "models"), ours)
    for benchmark in ("GPT-2, first steps", "GPT-2, settled", "GPT-2, whole run"):
        faster(
            f"{benchmark}, times transformers",
            2,
            times(table, benchmark, "transformers", "batch"),
            times(table, benchmark, "ours", "batch"),
        )
    wanted = {"autograd, exact loss": 20, "JAX jit(grad), exact loss": 8, "sampled inputs, at 1 %": 1000}
    for benchmark in ("velocity", "velocity, default allocator"):
        ours = times(table, benchmark, "ours", "N", LARGE)
        for variant, target in wanted.items():
            theirs = times(table, benchmark, variant, "N", LARGE)
            faster(f"{benchmark} at N = 4 000, times {variant}", target, theirs, ours)
    of = shares(table)
    large = of[(of["benchmark"] == "velocity") & (of["axis"] == "N") & (of["factor"] == LARGE)]
    add("velocity at N = 4 000, share of dgemm", 0.35, large["share"])
    epoch = times(table, "epoch", "ours", "n")
    modules = min((times(table, "epoch", name, "n") for name in EPOCH_MODULES), key=lambda one: one.median())
    add("epoch, s", 25, [epoch.median()], high=False)
    faster("epoch, times torch.nn at its best batch", 2, modules, epoch)
    add("epoch, share of its operations timed alone", 0.6, of_epoch(table)["share"].tail(1))
    return pd.DataFrame(rows).set_index("aim")


def share_of_peak(table: pd.DataFrame) -> pd.DataFrame:
    """Of every hot path at 1/8, 1 and 8 times the first size that is varied: the share of the peak that it comes closest to."""
    rows = []
    for (benchmark, peak), part in first_axis(shares(table)).groupby(["benchmark", "of"], sort=False):
        by = part.set_index("factor")["share"]
        rows.append(
            {
                "hot path": benchmark,
                "peak": peak,
                "smallest": by.iloc[0],
                "published": by.get(1.0),
                "largest": by.iloc[-1],
            }
        )
    out = pd.DataFrame(rows).sort_values("published", ascending=False).drop_duplicates("hot path")
    for name in ("smallest", "published", "largest"):
        out[name] = out[name].map("{:.1%}".format)
    return out.set_index("hot path")
