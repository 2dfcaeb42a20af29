"""The committed measurements, and ratios with their spread."""

from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("results.csv")
COLUMNS = ["benchmark", "variant", "setting", "value", "unit", "repetition"]


def load(file: Path = FILE) -> pd.DataFrame:
    """The table of results; columns ``members`` and ``batch`` are read out of ``setting``.

    Values with unit µs are smaller for faster code; "per model and step" divides by the number of members.
    """
    table = pd.read_csv(file)
    for name in ("members", "batch"):
        table[name] = table["setting"].str.extract(rf"{name}=(\d+)", expand=False).astype(float).astype("Int64")
    return table


def values(table: pd.DataFrame, benchmark: str, variant: str, members: int = 10, batch: int = 128) -> pd.Series:
    """One measurement per repetition (index). The machine's rates have no setting."""
    rows = table[(table["benchmark"] == benchmark) & (table["variant"] == variant)]
    if rows["members"].notna().any():
        rows = rows[(rows["members"] == members) & (rows["batch"] == batch)]
    if rows.empty:
        raise KeyError(f"no result for {benchmark}, {variant}, members={members}, batch={batch}")
    return rows.set_index("repetition")["value"]


def ratio(slow: pd.Series, fast: pd.Series) -> dict[str, float]:
    """How many times faster: from the minima, and median and quartiles of the ratios within a repetition."""
    within = slow / fast
    low, median, high = within.quantile([0.25, 0.5, 0.75])
    return {"of_minima": slow.min() / fast.min(), "median": median, "low": low, "high": high}


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Least time of a step by each resource at its measured rate (µs per model and step), and the share reached.

    The step is that of 10 members at batch size 128. "arithmetic" takes the processor's rate on large
    matrices, "arithmetic at these sizes" the rate on the step's own products. "all in turn" is what
    is left if nothing overlaps: the products at their rate, the other operations' traffic, the random numbers.
    """

    def rate(variant: str) -> float:
        return float(values(table, "machine", variant).max())

    count = table[table["benchmark"] == "count"].set_index("variant")["value"]
    traffic = count[count.index.str.startswith("bytes, ")]
    of_products = count["flop"] / rate("matrix products of the step")
    random = count["random numbers"] / rate("random numbers")
    speed = rate("copy, arrays of the step")
    least = {
        "arithmetic": count["flop"] / rate("matrix product, 1024"),
        "arithmetic at these sizes": of_products,
        "memory": traffic.sum() / speed,
        "random numbers": random,
        "all in turn": of_products + (traffic.sum() - traffic["bytes, products"]) / speed + random,
    }
    out = pd.DataFrame({"least_time": least}) / 1e3  # a count over 10^9/s is in ns
    return out.assign(share=out["least_time"] / values(table, "training", "ensemble").min())


def evaluation_rate(table: pd.DataFrame) -> dict[str, float]:
    """Prompts a second that a trained ensemble of 10 is evaluated on, and its products' share of the processor's rate."""
    prompts = 1e6 / values(table, "evaluation", "trained").min()
    flop = float(table.loc[table["variant"] == "flop, evaluation", "value"].iloc[0])
    peak = float(values(table, "machine", "matrix product, 1024").max())
    return {"prompts": prompts, "share": prompts * flop / (1e9 * peak)}


def rerun_summary(table: pd.DataFrame) -> pd.DataFrame:
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
    alone, both = (table.loc[table["case"] == case, "seconds"].to_numpy() for case in ("1 process", "2 processes"))
    rows.append({"measured": "two processes that only compute", "ratio": pd.Series(alone / both).median()})
    one, two = (table.loc[table["case"] == case, "seconds"].to_numpy() for case in ("1 worker", "2 workers"))
    gain = pd.Series(one / two / 2).median()
    reached = {"ratio": gain, "target": "at least 0.85", "reached": gain >= 0.85}
    rows.append({"measured": "sweep of 64 points, 1 worker", "seconds": one.sum()})
    rows.append({"measured": "sweep of 64 points, 2 workers", "seconds": two.sum(), **reached})
    again = table.loc[table["kind"] == "resume", "seconds"].median()
    reached = {"target": "at most 2 s", "reached": again <= 2}
    rows.append({"measured": "resuming 1 000 finished points", "seconds": again, **reached})
    return pd.DataFrame(rows)
