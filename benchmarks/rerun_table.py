"""What rerun.csv says."""

import pandas as pd


def rerun_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over repetitions in seconds; for runs the ratio to the time in cells, for sweeps the efficiency.

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
