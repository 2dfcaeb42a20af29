"""The committed measurements: one tidy table, ratios with their spread, shares of what the machine allows.

Columns: benchmark, variant, what is varied (axis), its size, that size over the published one (factor), value, unit, repetition.
"""

from pathlib import Path

import pandas as pd

from benchmarks.training import MEMBERS, configs_of, draws, flops
from icl_lib.softmax.training import CHUNK

FILE = Path(__file__).with_name("results.csv")
PLACE = ["benchmark", "axis", "size", "factor"]  # what ours and its alternatives share
APART = "default allocator"  # ends the name of what was timed without an allocator that keeps large blocks
STEP = "training step, operations"
RESOURCES = {  # what each rate of the machine is called on the page
    "arithmetic": "GEMM, float32",
    "memory": "copy, arrays of the training step",
    "random numbers": "random numbers",
}


def load(file: Path = FILE) -> pd.DataFrame:
    """The table of results."""
    return pd.read_csv(file, keep_default_na=False, na_values=[""])


def timings(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are processor seconds."""
    return table[table["unit"].str.startswith("s per")]


def times(table: pd.DataFrame, benchmark: str, variant: str, axis: str | None = None, factor: float = 1) -> pd.Series:
    """Seconds per unit of work, one per repetition (index), at one size; the first axis of the benchmark by default."""
    rows = timings(table)
    rows = rows[(rows["benchmark"] == benchmark) & (rows["variant"] == variant) & (rows["factor"] == factor)]
    if rows["axis"].notna().any():
        rows = rows[rows["axis"] == (rows["axis"].iloc[0] if axis is None else axis)]
    if rows.empty:
        raise KeyError(f"no time of {benchmark}, {variant}, {axis}, {factor} times the published size")
    return rows.set_index("repetition")["value"]


def ratio(slow: pd.Series, fast: pd.Series) -> dict[str, float]:
    """How many times faster: from the minima, and median and quartiles of the ratios within a repetition."""
    within = (slow / fast).dropna()
    low, median, high = within.quantile([0.25, 0.5, 0.75])
    return {"of_minima": slow.min() / fast.min(), "median": median, "low": low, "high": high}


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Every alternative at every size: the median times, the ratio, and how far results differ from ours.

    Returns:
        benchmark, axis, size, factor, against, ours, theirs (medians, s), of_minima, median, low, high (times ours), difference, tolerance.
    """
    rows = []
    known = table[table["unit"].isin(["difference", "tolerance"])].set_index([*PLACE, "variant", "unit"])["value"]
    for place, part in timings(table).groupby(PLACE, sort=False):
        by_variant = part.pivot_table("value", "repetition", "variant")
        for name in part["variant"].unique() if "ours" in by_variant else ():
            if name != "ours":
                ours, theirs = by_variant["ours"], by_variant[name]
                row = {"against": name, "ours": ours.median(), "theirs": theirs.median(), **ratio(theirs, ours)}
                noted = {unit: known.get((*place, name, unit)) for unit in ("difference", "tolerance")}
                rows.append(dict(zip(PLACE, place, strict=True)) | row | noted)
    return pd.DataFrame(rows)


def rate(table: pd.DataFrame, name: str) -> float:
    """Work a second, in 10^9, at the machine's best."""
    return 1 / float(times(table, "machine", name).min())


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """For every size of ours where work was counted: flop and bytes a second, over large products and over a copy of arrays that stay in cache."""
    ours = table[table["variant"] == "ours"]
    best = timings(ours).groupby(PLACE, sort=False)["value"].min().rename("seconds")
    parts = []
    for unit in ("flop, float32", "flop, float64", "byte"):
        peak = rate(table, RESOURCES["memory"] if unit == "byte" else f"GEMM, {unit[6:]}")
        work = ours[ours["unit"] == unit].join(best, on=PLACE)
        speed = work["value"] / 1e9 / work["seconds"]
        kind = "copy in cache" if unit == "byte" else "GEMM"
        parts.append(work[PLACE].assign(of=kind, G_a_second=speed, share=speed / peak))
    return pd.concat(parts, ignore_index=True)


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Parts of a training run's step, in µs per model and step, and their shares of the measured time.

    "arithmetic" is that of the products at the processor's rate on large matrices; the next three are the step's own, timed alone.
    "all in turn" is these three and the random numbers. The rest are look-ups by pattern, and what is done with random numbers.
    """
    config, own = configs_of()[0], of_step(table, CHUNK)
    random = draws(config) / (1e9 * rate(table, RESOURCES["random numbers"]))
    least = {
        "arithmetic": flops(config) / (1e9 * rate(table, RESOURCES["arithmetic"])),
        **own,
        "random numbers": random,
    }
    found = 1e6 * pd.Series({**least, "all in turn": own.sum() + random})
    step = 1e6 * float(times(table, "training run", "ours").min()) / MEMBERS
    return pd.DataFrame({"least_time": found, "share": found / step})


def of_step(table: pd.DataFrame, n_steps: int, axis: str = "models", factor: float = 1) -> pd.Series:
    """Seconds that parts of one model's step take when timed alone; weights and tables are made once in so many steps."""
    steps = {"products": 1, "exponentials": 1, "weights and tables": n_steps}
    return pd.Series({name: float(times(table, STEP, name, axis, factor).min()) / n for name, n in steps.items()})


def of_epoch(table: pd.DataFrame) -> pd.DataFrame:
    """What an epoch's operations take when timed alone (s), and the share of an epoch's time; the last row is their sum."""
    alone = timings(table[table["benchmark"] == "epoch, operations"]).groupby("variant", sort=False)["value"].min()
    whole = float(times(table, "epoch", "ours", "n").min())
    out = pd.DataFrame(
        {"seconds": [*alone, alone.sum()]}, index=pd.Index([*alone.index, "all in turn"], name="operation")
    )
    return out.assign(share=out["seconds"] / whole)


def of_velocity(table: pd.DataFrame) -> pd.DataFrame:
    """The same of a velocity at the largest number of particles: products, and elementwise functions on half of the pairs."""
    flop = table[(table["benchmark"] == "velocity") & (table["axis"] == "N") & table["unit"].str.startswith("flop")]
    largest = flop.sort_values("size").iloc[-1]
    pairs = largest["size"] ** 2 / 2 / 1e9
    least = {
        "products": largest["value"] / 1e9 / rate(table, "GEMM, float64"),
        "arcsin": pairs / rate(table, "arcsin, float64"),
        "reciprocal roots": pairs / rate(table, "reciprocal root, float64"),
    }
    least["all in turn"] = sum(least.values())
    whole = float(times(table, "velocity", "ours", "N", largest["factor"]).min())
    out = pd.DataFrame({"seconds": pd.Series(least).rename_axis("operation")})
    return out.assign(share=out["seconds"] / whole)
