"""What `make book` has computed on this machine against the committed results, which another processor computed: the same verdicts.

It needs the built book, so it runs only when it is named: ``python -m reliability rebuilt``. Each processor, instruction set and
Python is a kind of its own.
"""

import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from book.compare import same_file
from icl_lib.paths import root
from icl_lib.provenance import processor
from reliability.outcome import Row
from reliability.settings import compared, verdicts

KIND = "built on "  # and where


def largest_move(known: Path, folder: Path) -> float:
    """By how much an estimate moved at most, in half-widths of its committed interval."""
    moves = [0.0]
    before, after = (
        json.loads((place / "result.json").read_text(encoding="utf-8"))["clauses"] for place in (known, folder)
    )
    for name, clause in before.items():
        old, half = clause["value"], (clause["value"]["high"] - clause["value"]["low"]) / 2
        move = abs(after[name]["value"]["estimate"] - old["estimate"])
        moves.append(move / half if half else math.inf if move else 0.0)
    return max(moves)


def rows(committed: Path | None = None) -> Iterator[Row]:
    """One row per chapter that was built; stops where none was."""
    built, committed = Path(os.environ.get("BUILD") or "_build/book") / "figures", committed or root() / "figures"
    here = f"{processor()}, Python {'.'.join(platform.python_version_tuple()[:2])}"
    results = sorted(built.glob("*/result.json"))
    if not results:
        sys.exit(f"no chapter has been built in {built}: make book does it")
    for folder in (result.parent for result in results):
        known, tables = committed / folder.name, list(folder.rglob("*.csv"))
        same = sum(same_file(known / table.relative_to(folder), table) for table in tables)
        moved = largest_move(known, folder)
        detail = f"{same} of {len(tables)} tables equal, estimates moved by {moved:.2g} half-widths"
        row = compared(folder.name, verdicts(known), verdicts(folder))
        yield row._replace(kind=KIND + here, detail="; ".join(filter(None, (detail, row.detail))))
