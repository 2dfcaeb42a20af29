"""How far rounding moves what was recorded: ``reliability/twins.csv``, which ``make twins`` writes."""

import csv
import math
from pathlib import Path

FILE = Path("reliability/twins.csv")
LEVEL = 0.1  # of a half width; what is moved further is named


def moves(book: Path, claim: str) -> dict[str, float]:
    """By clause, how far its estimate moves when all weights start 1e-7 elsewhere, in half widths of its interval.

    Empty for a claim without a twin at the recorded setting. Infinite where the interval has no width and the estimate moves.
    """
    file = book / FILE
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as rows:
        found = [row for row in csv.DictReader(rows) if row["claim"] == claim]
    found = [row for row in found if row["part"] == "value" and row["setting"] == "recorded"]
    return {row["clause"]: float(row["moved"]) for row in found if row["moved"]}


def share(moved: float) -> str:
    """A move for people.

    >>> share(0.25), share(0.0004), share(0.0)
    ('0.25 of its half width', 'less than 0.01 of its half width', 'not at all')
    """
    if moved == 0:
        return "not at all"
    if math.isinf(moved):
        return "more than its interval, which has no width"
    return f"{moved:.2g} of its half width" if moved >= 0.01 else "less than 0.01 of its half width"
