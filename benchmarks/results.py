"""The committed measurements: one tidy table, ratios with their spread, shares of what the machine allows.

Columns: benchmark, variant, what is varied (axis), its size, that size over the published one (factor), value, unit, repetition.
"""

from pathlib import Path

import pandas as pd

from benchmarks import bound
from benchmarks.training import MEMBERS, configs_of
from icl_lib.softmax.training import TrainConfig

FILE = Path(__file__).with_name("results.csv")
APART = "default allocator"  # ends the name of what was timed without an allocator that keeps large blocks
RESOURCES = {  # what each rate of the machine is called on the page
    "arithmetic": "GEMM, float32",
    "arithmetic at these sizes": "products of the training step",
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
    known = table[table["unit"].isin(["difference", "tolerance"])]
    noted = known.set_index(["benchmark", "variant", "axis", "size", "unit"])["value"]
    timed = timings(table).dropna(subset="axis")
    for (benchmark, axis, size), part in timed.groupby(["benchmark", "axis", "size"], sort=False):
        by_variant = {name: one.set_index("repetition")["value"] for name, one in part.groupby("variant", sort=False)}
        if "ours" not in by_variant:
            continue
        ours = by_variant.pop("ours")
        for name, theirs in by_variant.items():
            row = {
                "benchmark": benchmark,
                "axis": axis,
                "size": size,
                "factor": part["factor"].iloc[0],
                "against": name,
            }
            row |= {"ours": ours.median(), "theirs": theirs.median(), **ratio(theirs, ours)}
            found = {u: noted.get((benchmark, name, axis, size, u)) for u in ("difference", "tolerance")}
            rows.append(row | found)
    return pd.DataFrame(rows)


def rate(table: pd.DataFrame, name: str) -> float:
    """Work a second, in 10^9, at the machine's best."""
    return 1 / float(times(table, "machine", name).min())


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """For every size of ours where work was counted: flop and bytes a second, over large products and over a copy of arrays that stay in cache."""
    timed = timings(table)
    timed = timed[timed["variant"] == "ours"]
    of: dict = timed.groupby(["benchmark", "axis", "size", "factor"], sort=False)["value"].min().to_dict()
    rows = []
    for unit in ("flop, float32", "flop, float64", "byte"):
        peak = rate(table, RESOURCES["memory"] if unit == "byte" else f"GEMM, {unit[6:]}")
        work = table[(table["unit"] == unit) & (table["variant"] == "ours")]
        for found in work.itertuples():
            at = (found.benchmark, found.axis, found.size, found.factor)
            speed = float(str(found.value)) / 1e9 / float(of[at])
            kind = "copy in cache" if unit == "byte" else "GEMM"
            rows.append((*at, kind, speed, speed / peak))
    return pd.DataFrame(rows, columns=["benchmark", "axis", "size", "factor", "of", "G_a_second", "share"])


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Least time of a training run's step by each resource at its measured rate (µs per model and step), and the share reached.

    "arithmetic" takes the processor's rate on large matrices, "arithmetic at these sizes" the rate on the step's own products. "all in
    turn" is what is left if nothing overlaps: the products at their rate, the other operations' traffic, the random numbers.
    """
    least = least_times(table, configs_of()[0]) * 1e6
    step = 1e6 * float(times(table, "training run", "ours").min()) / MEMBERS
    return pd.DataFrame({"least_time": least, "share": least / step})


def least_times(table: pd.DataFrame, config: TrainConfig) -> pd.Series:
    """Seconds per model and step by resource, for any sizes."""
    per = {name: rate(table, of) * 1e9 for name, of in RESOURCES.items()}
    flop, traffic, random = bound.flops(config), bound.traffic(config), bound.draws(config) / per["random numbers"]
    of_products = flop / per["arithmetic at these sizes"]
    other = (sum(traffic.values()) - traffic["products"]) / per["memory"]
    return pd.Series(
        {
            "arithmetic": flop / per["arithmetic"],
            "arithmetic at these sizes": of_products,
            "memory": sum(traffic.values()) / per["memory"],
            "random numbers": random,
            "all in turn": of_products + other + random,
        }
    )


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
