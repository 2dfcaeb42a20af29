"""What was measured, in words."""

import pandas as pd
import pytest

from book.claims import Clause, Measured
from book.words import Table, sentence
from icl_lib.stats import Interval

VALUE, CONTROL = Interval(0.25, 0.125, 0.375, 10), Interval(1e-14, -1e-15, 1.0, 10)


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("Errors: {value}. Frozen: {control}.", "Errors: 0.25 [0.125, 0.375]. Frozen: 0 [0, 1]."),
        ("", "Share of errors: 0.25 [0.125, 0.375]; to pass, below 0.5. Control: 0 [0, 1]."),
    ],
)
def test_a_clause_is_said_in_a_sentence(says: str, expected: str) -> None:
    clause = Clause("Share of errors.", {"below": 0.5}, {"below": 1}, "frozen", says)
    assert sentence(clause, Measured(VALUE, CONTROL)) == expected


@pytest.mark.parametrize(("n", "folded"), [(8, ""), (9, "1 more row"), (11, "3 more rows")])
def test_a_long_table_is_folded_and_loses_no_row(n: int, folded: str) -> None:
    frame = pd.DataFrame({"a": [f"row {i}" for i in range(n)]})
    page = Table(frame)._repr_html_()
    shown, _, rest = page.partition("<details>")
    assert [f"row {i}<" in shown for i in range(n)] == [i < 8 for i in range(n)]
    assert [f"row {i}<" in rest for i in range(n)] == [i >= 8 for i in range(n)]
    assert f"<summary>{folded}</summary>" in rest or (not folded and not rest)
    assert all(f"row {i}" in repr(Table(frame)) for i in range(n))
