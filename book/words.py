"""What was measured, said for people: intervals, criteria, clauses, values that somebody typed, tables, what rounding moves."""

import csv
import html
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they load what computes, which `icl` does not before it has to
    import pandas as pd

    from book.claims import Clause, Measured

TWINS = Path("reliability/twins.csv")  # how far rounding moves what was recorded; ``make twins`` writes it
LEVEL = 0.1  # of a half width; what is moved further is named


def show(interval: Sequence[float]) -> str:
    """An interval for people: estimate and 95 % interval to three significant digits; rounding errors are shown as 0."""
    if interval[3] == 0:
        return "not measured"
    estimate, low, high = (0.0 if abs(x) < 1e-12 else x for x in interval[:3])
    return f"{estimate:.3g} [{low:.3g}, {high:.3g}]"


def criterion(passes: Mapping[str, object]) -> str:
    """A criterion in words.

    >>> criterion({"above": 0.7}), criterion({"inside": [0.9, 1.1]})
    ('above 0.7', 'between 0.9 and 1.1')
    """
    ((kind, bound),) = passes.items()
    return f"between {bound[0]} and {bound[1]}" if isinstance(bound, list) else f"{kind} {bound}"


def sentence(clause: "Clause", measured: "Measured") -> str:
    """What a clause measured, in the words of the ledger; in those of its measure, where the ledger has no others."""
    says = (
        clause.says
        or f"{clause.measure.rstrip('.')}: {{value}}; to pass, {criterion(clause.passes)}. Control: {{control}}."
    )
    return says.replace("{value}", show(measured.value)).replace("{control}", show(measured.control))


def in_words(values: Mapping[str, object]) -> str:
    """Values for people, such as ``alpha = 0.5, beta = 1``."""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def as_text(value: object) -> str:
    """A value on a page in Markdown, where no letter of it makes HTML, a formula or anything else.

    >>> as_text([0.5, 1.0]), as_text("<b>")
    ('[0.5, 1.0]', '<code>&#60;b&#62;</code>')
    """
    if re.fullmatch(r"[A-Za-z0-9 .,:/+\[\]-]*", str(value)):  # brackets alone are no link
        return str(value)
    return f"<code>{''.join(c if c.isalnum() or c in ' ,.' else f'&#{ord(c)};' for c in str(value))}</code>"


class Table:
    """A table of which a page shows the first rows; the others are folded away."""

    def __init__(self, frame: "pd.DataFrame", rows: int = 8) -> None:
        self.frame, self.rows = frame, rows

    def __repr__(self) -> str:
        return str(self.frame.to_string(index=False))

    def _repr_html_(self) -> str:
        parts = self.frame[: self.rows], self.frame[self.rows :]
        first, rest = (part.to_html(index=False, border=0) for part in parts)
        n = len(self.frame) - self.rows
        label = html.escape(f"{n} more row{'s' * (n > 1)}")
        return str(first) + (f"<details><summary>{label}</summary>{rest}</details>" if n > 0 else "")


def moves(book: Path, claim: str) -> dict[str, float]:
    """By clause, how far its estimate moves when all weights start 1e-7 elsewhere, in half widths of its interval.

    Empty for a claim without a twin at the recorded setting. Infinite where the interval has no width and the estimate moves.
    """
    file = book / TWINS
    if not file.is_file():
        return {}
    wanted = {"claim": claim, "part": "value", "setting": "recorded"}
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    return {row["clause"]: float(row["moved"]) for row in rows if wanted.items() <= row.items() and row["moved"]}


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
