"""What one instruction set for all processors costs in time, and how many numbers it makes equal: ``python -m reliability.common "AMD EPYC (AVX2)"``.

Every processor with AVX2 can be told to take the kernels for it, and no wider ones. A few chapters run with the kernels that
this processor takes by itself and with those, trained from nothing, now these and now those first. Their tables are held against
those that another processor, which is named, had written: only tables of which that is known, since `make record` leaves a table
that comes out again as it is.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from book import execute, registry
from book.terminal import command
from icl_lib.paths import root, write_atomic
from icl_lib.provenance import processor
from tools.check import clean_environment

FILE = root() / "reliability" / "common.csv"
TABLES = {"L5": ("growth", "sensitivity"), "L6": ("lazy",), "K3": ("traps",), "K4": ("roundoff",)}
COMMIT = "79815bd"  # at which they were written
TOLD = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
COMMON = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}


class Cost(NamedTuple):
    """One chapter.

    Attributes:
        claim: which chapter.
        recorded_on, here: processors.
        numbers: in its tables.
        equal_own, equal_common: how many of them equal the recorded ones, to all digits written, with either kernels.
        seconds_own, seconds_common: that the chapter took.
    """

    claim: str
    recorded_on: str
    here: str
    numbers: int
    equal_own: int
    equal_common: int
    seconds_own: float
    seconds_common: float


def equal(claim: str, again: Path) -> tuple[int, int]:
    """How many numbers there are in the tables of a chapter, and how many came out again.

    Raises:
        ValueError: for tables of different shape: other code has written them.
    """
    n = same = 0
    for name in TABLES[claim]:
        command = ["git", "show", f"{COMMIT}:figures/{claim}/{name}.csv"]
        written = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
        old, new = (pd.read_csv(file).select_dtypes("number") for file in (io.StringIO(written), again / f"{name}.csv"))
        if old.shape != new.shape:
            raise ValueError(f"{claim}/{name}: {old.shape} numbers were written, {new.shape} came out")
        a, b = old.to_numpy(float), new.to_numpy(float)
        n += a.size
        same += int(((a == b) | (np.isnan(a) & np.isnan(b))).sum())
    return n, same


def run(chapter: registry.ChapterFile, place: Path, variables: dict[str, str]) -> float:
    """Run a chapter into a folder, in a process of its own and with a cache of its own; returns the seconds it took."""
    plain = {name: value for name, value in clean_environment().items() if name not in TOLD}
    environment = {**plain, **execute.THREADS, **variables, "ICL_BOOK_CACHE": str(place / "cache")}
    call = [sys.executable, "-m", "tools.execute", str(chapter.notebook), str(place / chapter.notebook.name)]
    subprocess.run([*call, "--out", str(place / "out")], env=environment, check=True, stdout=subprocess.DEVNULL)
    stamp = json.loads((place / chapter.notebook.name).read_text(encoding="utf-8"))["metadata"]["icl_book"]
    return float(stamp["seconds"])


def costs(recorded_on: str) -> Iterator[Cost]:
    for number, name in enumerate(TABLES):
        chapter, found = registry.find(name, root()), {}
        for variables in ({}, COMMON) if number % 2 else (COMMON, {}):
            with tempfile.TemporaryDirectory(dir=root() / "_build") as place:
                seconds = run(chapter, Path(place), variables)
                found[bool(variables)] = (*equal(name, Path(place) / "out" / name), seconds)
        (n, own, slow), (_, common, fast) = found[False], found[True]
        yield Cost(name, recorded_on, processor(), n, own, common, slow, fast)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recorded_on", help="the processor on which the committed numbers came out")
    recorded_on = parser.parse_args().recorded_on
    os.chdir(root())
    rows = []
    for row in costs(recorded_on):
        print(row, flush=True)
        rows.append(row)
    write_atomic(FILE, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(command(main)())
