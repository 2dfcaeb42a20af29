"""Is the library slower than at its last release? A report, not a test: ``python -m benchmarks.report [--keep VERSION]``.

The results of every release are kept in releases/VERSION.csv; ``--keep`` puts the present ones there. A ratio above 1 means slower. Where
both runs' quartiles overlap, the difference is within the spread. Machines differ: the first rows compare the processors themselves.
"""

import argparse
import re
import sys
from pathlib import Path

import pandas as pd

from benchmarks.results import FILE, load, timings
from book.terminal import command
from icl_lib.paths import write_atomic

RELEASES = Path(__file__).with_name("releases")
VERSION = re.compile(r"\d+(\.\d+)*")


def last_release(folder: Path = RELEASES) -> Path | None:
    """The file of the highest version."""
    files = [file for file in folder.glob("*.csv") if VERSION.fullmatch(file.stem)]
    return max(files, key=lambda file: tuple(int(part) for part in file.stem.split(".")), default=None)


def against(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Ours and the machine, wherever both were timed.

    Returns:
        benchmark, variant, axis, size, before and now (median seconds), ratio (now over before, of medians), low and high (now's
        quartiles over before's other ones: the widest ratio that both spreads allow), verdict ("slower", "faster", "within the spread").
    """

    tables = []
    for table in (before, now):
        rows = timings(table).fillna({"axis": "", "size": 0})
        rows = rows[(rows["variant"] == "ours") | (rows["benchmark"] == "machine")]
        of = rows.groupby(["benchmark", "variant", "axis", "size"], sort=False)["value"]
        tables.append(pd.concat([of.quantile(q).rename(q) for q in (0.25, 0.5, 0.75)], axis=1))
    old, new = (table.loc[tables[0].index.intersection(tables[1].index, sort=False)] for table in tables)
    out = pd.DataFrame({"before": old[0.5], "now": new[0.5], "ratio": new[0.5] / old[0.5]})
    out["low"], out["high"] = new[0.25] / old[0.75], new[0.75] / old[0.25]
    out["verdict"] = "within the spread"
    out.loc[out["low"] > 1, "verdict"] = "slower"
    out.loc[out["high"] < 1, "verdict"] = "faster"
    return out.reset_index()


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Per hot path: the geometric mean of its ratios, the extremes, and how many sizes are slower or faster beyond the spread."""
    of = found.groupby("benchmark", sort=False)
    out = of["ratio"].agg(mean=lambda r: float(r.prod() ** (1 / len(r))), lowest="min", highest="max", timings="size")
    for verdict in ("slower", "faster"):
        out[verdict] = (found["verdict"] == verdict).groupby(found["benchmark"], sort=False).sum()
    return out.reset_index()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", metavar="VERSION", help="keep the present results as those of a release")
    version = parser.parse_args(arguments).keep
    if version:
        if not VERSION.fullmatch(version):
            sys.exit(f"--keep: a version such as 0.1.0, not {version!r}")
        RELEASES.mkdir(exist_ok=True)
        write_atomic(RELEASES / f"{version}.csv", FILE.read_bytes())
        return
    file = last_release()
    if file is None:
        print("no release has been kept yet: nothing to compare with")
        return
    found = against(load(), load(file))
    print(f"times now over those of release {file.stem} (above 1: slower)")
    print(summary(found).round(2).to_string(index=False))
    print(found.round(4).to_string(index=False))


if __name__ == "__main__":
    command(main)()
