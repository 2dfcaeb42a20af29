"""What the performance page shows, as tables of words and rounded numbers."""

from collections.abc import Iterable

import pandas as pd

from benchmarks.results import APART, of_epoch, ratio, shares, times

LARGE = 8  # N = 4 000 particles, where the velocity's targets are
EPOCH_MODULES = [f"torch.nn, batch {batch}" for batch in (1, 4, 20)]


def seconds(value: float) -> str:
    """Three digits in s, ms or µs: the first in which the value is at least 1."""
    unit, factor = next(
        pair for pair in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)) if value * pair[1] >= 1 or pair[0] == "µs"
    )
    return f"{value * factor:.3g} {unit}"


def number(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


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
    rows = first_axis(found)[lambda one: one["factor"] == factor]
    median, low, high = (rows[name].map(number) for name in ("median", "low", "high"))
    shown = pd.DataFrame(
        {
            "hot path": rows["benchmark"],
            "alternative": rows["against"],
            "times ours": median + " (" + low + " to " + high + ")",
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
    rows = []

    def add(what: str, target: float, found: Iterable[float], high: bool = True) -> None:
        values = list(found)
        reached = min(values) >= target if high else max(values) <= target
        rows.append((what, f"{'≥' if high else '≤'} {target:g}", " / ".join(map(number, values)), reached))

    def faster(what: str, target: float, slow: pd.Series, fast: pd.Series) -> None:
        found = ratio(slow, fast)
        add(what, target, (found["of_minima"], found["median"]))

    def than(benchmark: str, variant: str, target: float, axis: str, factor: float = 1, at: str = "") -> None:
        theirs, ours = (times(table, benchmark, name, axis, factor) for name in (variant, "ours"))
        faster(f"{benchmark}{at}, times {variant}", target, theirs, ours)

    for benchmark in ("training run", "training step"):
        than(benchmark, "ours, solo", 4, "models")
        than(benchmark, "torch.nn", 15, "models")
    for benchmark in ("GPT-2, first steps", "GPT-2, settled", "GPT-2, whole run"):
        than(benchmark, "transformers", 2, "batch")
    wanted = {"autograd, exact loss": 20, "JAX jit(grad), exact loss": 8, "sampled inputs, at 1 %": 1000}
    for benchmark in ("velocity", f"velocity, {APART}"):
        for variant, target in wanted.items():
            than(benchmark, variant, target, "N", LARGE, " at N = 4 000")
    of = shares(table)
    large = of[(of["benchmark"] == "velocity") & (of["axis"] == "N") & (of["factor"] == LARGE)]
    add("velocity at N = 4 000, share of dgemm", 0.35, large["share"])
    epoch = times(table, "epoch", "ours", "n")
    modules = min((times(table, "epoch", name, "n") for name in EPOCH_MODULES), key=lambda one: one.median())
    add("epoch, s", 25, [epoch.median()], high=False)
    faster("epoch, times torch.nn at its best batch", 2, modules, epoch)
    add("epoch, share of its operations timed alone", 0.6, of_epoch(table)["share"].tail(1))
    return pd.DataFrame(rows, columns=["aim", "target", "measured", "reached"]).set_index("aim")


def share_of_peak(table: pd.DataFrame) -> pd.DataFrame:
    """Of every hot path at 1/8, 1 and 8 times the first size that is varied: the share of the peak that it comes closest to."""
    rows = []
    for (benchmark, peak), part in first_axis(shares(table)).groupby(["benchmark", "of"], sort=False):
        by = part.set_index("factor")["share"]
        rows.append((benchmark, peak, by.iloc[0], by.get(1.0), by.iloc[-1]))
    out = pd.DataFrame(rows, columns=["hot path", "peak", "smallest", "published", "largest"]).set_index("hot path")
    out = out.sort_values("published", ascending=False)
    out = out[~out.index.duplicated()]
    return out.assign(**{name: out[name].map("{:.1%}".format) for name in ("smallest", "published", "largest")})


def rerun(table: pd.DataFrame) -> pd.DataFrame:
    """What rerun.csv says: medians over repetitions in seconds; for runs the ratio to the time in cells, for sweeps the efficiency.

    The efficiency is the time of one worker over twice that of two, the median over blocks that took turns. What the processors
    themselves allow is that of two processes that only compute: the time of one alone over that of two at once.
    """
    rows: list[dict[str, object]] = []
    for name, part in table[table["kind"] == "run"].groupby("of", sort=False):
        of = part.groupby("case")["seconds"].median()
        beside = of["before the first cell"] + of["after the last cell"]
        rows.append({"measured": f"icl run {name}: its cells", "seconds": of["cells"]})
        rows.append({"measured": f"icl run {name}: all else", "seconds": beside, "ratio": beside / of["cells"]})
    seconds = {case: part.to_numpy() for case, part in table.groupby("case")["seconds"]}
    one, two = seconds["1 worker"], seconds["2 workers"]
    gain, again = pd.Series(one / two / 2).median(), pd.Series(seconds["1 000 points"]).median()
    computing = pd.Series(seconds["1 process"] / seconds["2 processes"]).median()
    return pd.DataFrame(
        [
            *rows,
            {"measured": "two processes that only compute", "ratio": computing},
            {"measured": "sweep of 64 points, 1 worker", "seconds": one.sum()},
            {"measured": "sweep of 64 points, 2 workers", "seconds": two.sum(), "ratio": gain}
            | {"target": "at least 0.85", "reached": gain >= 0.85},
            {"measured": "resuming 1 000 finished points", "seconds": again}
            | {"target": "at most 2 s", "reached": again <= 2},
        ]
    )
