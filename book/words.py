"""What was measured, said for people: intervals, criteria, clauses, values that somebody typed, tables."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # they load what computes, which `icl` does not before it has to
    import pandas as pd

    from book.claims import Clause, Measured


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
        first, rest = (
            part.to_html(index=False, border=0) for part in (self.frame[: self.rows], self.frame[self.rows :])
        )
        n = len(self.frame) - self.rows
        label = html.escape(f"{n} more row{'s' * (n > 1)}")
        return str(first) + (f"<details><summary>{label}</summary>{rest}</details>" if n > 0 else "")
