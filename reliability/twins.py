"""Every recorded number beside that of its twin, whose weights start 1e-7 of their size elsewhere: ``make twins``.

What moves by more than a tenth of its half width is decided by rounding as much as by the seeds, and its chapter says so.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from book import words
from book.compare import code_cells, same_outputs
from icl_lib.paths import root, write_atomic
from tools import notebooks

CHECKED = "# NBVAL_CHECK_OUTPUT"


class Move(NamedTuple):
    """One clause, or its control, of a chapter and of its twin.

    Attributes:
        claim, clause, part: which; part is "value" or "control".
        setting: "recorded", or "reduced" where that takes too long; both runs are this machine's.
        estimate, half_width, twin: over seeds; the estimate of the twin.
        moved: |twin - estimate| in half widths; infinite where the half width is 0 and the estimate moved.
        verdict, twin_verdict: of the clause.
    """

    claim: str
    clause: str
    part: str
    setting: str
    estimate: float
    half_width: float
    twin: float
    moved: float
    verdict: str
    twin_verdict: str


def moves(result: Mapping[str, Any], twin: Mapping[str, Any], setting: str) -> Iterator[Move]:
    """The clauses of one result beside those of its twin."""
    for clause, one in result["clauses"].items():
        other = twin["clauses"][clause]
        for part in ("value", "control"):
            a, b, half = one[part]["estimate"], other[part]["estimate"], (one[part]["high"] - one[part]["low"]) / 2
            moved = abs(b - a) / half if half else math.inf if b != a else 0.0
            verdicts = one["verdict"], other["verdict"]
            yield Move(result["claim"], clause, part, setting, a, half, b, moved, *verdicts)


def far_cells(notebook: Path, twin: Path) -> list[int]:
    """Which of the cells that tests check say something else in the twin, by the tests' own rule; from 1."""
    pairs = zip(code_cells(notebooks.load(notebook)), code_cells(notebooks.load(twin)), strict=True)
    checked = [(n, a, b) for n, (a, b) in enumerate(pairs, 1) if a.source.startswith(CHECKED)]
    records = "chapter.record("  # its output names the setting, which is another
    return [n for n, a, b in checked if records not in a.source and not same_outputs(a.outputs, b.outputs)]


def pairs(build: Path) -> Iterator[tuple[Path, Path, str]]:
    """Notebooks that have run here beside their twins, and at which setting."""
    for path in notebooks.chapters():
        setting, run = ("reduced", "reference") if notebooks.heavy(path) else ("recorded", "run")
        plain, twin = build / run / (path.name if setting == "reduced" else path), build / "twins" / path.name
        if plain.is_file() and twin.is_file():
            yield plain, twin, setting


def compared(build: Path) -> tuple[list[Move], list[str]]:
    """All clauses of all pairs; and in words the checked cells that say something else in the twin.

    A pair of different code or parameters is left out, and named there.
    """
    found: list[Move] = []
    far = []
    for plain, twin, setting in pairs(build):
        for file in sorted(plain.with_suffix(".out").glob("*/result.json")):
            other = twin.with_suffix(".out") / file.parent.name / "result.json"
            one, two = (json.loads(path.read_text(encoding="utf-8")) for path in (file, other))
            if any(one[name] != two[name] for name in ("code_hash", "parameters")):
                far.append(f"{plain.stem}: left out, what lies there is the twin of another run")
                break
            found += moves(one, two, setting)
        else:
            if cells := far_cells(plain, twin):
                far.append(f"{plain.stem}: code cells {', '.join(map(str, cells))}")
    return found, far


def main(build: Path) -> None:
    """Put what has run here in place of the rows of the same claims."""
    found, far = compared(build)
    table = pd.DataFrame(found, columns=Move._fields)
    path = root() / words.TWINS
    if path.is_file():
        old = pd.read_csv(path)
        table = pd.concat([old[~old["claim"].isin(table["claim"])], table])
    table = table.sort_values(["claim", "clause", "part"])
    write_atomic(path, table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode())
    named = table[table["moved"] > words.LEVEL].sort_values("moved", ascending=False)
    print(f"{len(table)} numbers, {len(named)} moved by more than {words.LEVEL:g} of their half width")
    print(named[["claim", "clause", "part", "setting", "moved", "verdict", "twin_verdict"]].to_string(index=False))
    print("cells that tests check and that say something else in the twin:", *far or ["none"], sep="\n  ")


if __name__ == "__main__":
    main(Path(os.environ.get("BUILD") or "_build/book"))
