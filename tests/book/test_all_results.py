"""The axis of the figure of all results says what the judge says, and nothing recorded is left out of it."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from book.all_results import (
    LIMIT,
    OURS,
    SHAPES,
    all_results,
    draw_results,
    numbers,
    position,
    results_table,
    shortfalls,
    span,
)
from book.claims import Clause, Measured, load_claims, meets, misses, why
from book.scoreboard import COLOURS, scoreboard
from icl_lib.paths import root
from icl_lib.stats import Interval
from icl_lib.validate import ConfigError

CLAIMS = load_claims()
CLAUSES = [clause for claim in CLAIMS.values() for clause in claim.clauses.values()]
BELOW = Clause("m", {"below": 0.1}, {"below": 0.3}, "c")
ABOVE = Clause("m", {"above": 0.9}, {"above": 0.5}, "c")
RANGE = Clause("m", {"inside": [1.0, 2.0]}, {"inside": [0.0, 5.0]}, "c")
HALF_OPEN = Clause("m", {"inside": [-0.8, -0.6]}, {"below": 0}, "c")


@pytest.mark.parametrize(
    ("clause", "value", "at"),
    [
        (BELOW, 0.1, 0),
        (BELOW, 0.3, -1),
        (BELOW, 0.0, 0.5),
        (BELOW, 0.9, -4),
        (ABOVE, 0.9, 0),
        (ABOVE, 0.5, -1),
        (ABOVE, 1.3, 1),
        (RANGE, 1.5, 1),
        (RANGE, 1.0, 0),
        (RANGE, 2.0, 0),
        (RANGE, 0.0, -1),
        (RANGE, 5.0, -1),
        (RANGE, 3.5, -0.5),
        (RANGE, -1.0, -2),
        (HALF_OPEN, -0.7, 1),
        (HALF_OPEN, 0.0, -1),
        (HALF_OPEN, 0.6, -2),
        (HALF_OPEN, -0.9, -0.5),  # one half width below, where the weaker reading has no end
        (HALF_OPEN, -1.1, -0.75),
    ],
)
def test_positions_by_hand(clause: Clause, value: float, at: float) -> None:
    assert position(clause, value) == pytest.approx(at)


INTERVALS = st.lists(st.floats(-5, 5), min_size=3, max_size=3).map(sorted)


@given(INTERVALS, st.sampled_from(CLAUSES))
def test_the_two_lines_are_the_criteria(ends: list[float], clause: Clause) -> None:
    """Right of 0: passes. Right of -1: meets the weaker reading. Left of 0: fails decisively, as a control must."""
    low, estimate, high = ends
    found = Interval(estimate, low, high, 10)
    at, at_low, at_high = span(clause, found)
    assume(all(abs(x - line) > 1e-6 for x in (at_low, at_high) for line in (0, -1)))  # which ends belong is the judge's
    assert at_low <= at <= at_high
    assert (at_low > 0) == meets(found, clause.passes)
    assert (at_low > -1) == meets(found, clause.partly)
    assert (at_high < 0) == misses(found, clause.passes)


@given(st.floats(0, 5), st.floats(0, 5), st.sampled_from(CLAUSES))
def test_further_out_is_further_left(distance: float, step: float, clause: Clause) -> None:
    """Away from an end of the criterion, on the failing side, the position falls and never rises."""
    ((kind, bound),) = clause.passes.items()
    ends = zip((-1, 1), bound, strict=True) if isinstance(bound, list) else [(1 if kind == "below" else -1, bound)]
    for side, end in ends:
        near, far = (position(clause, end + side * out) for out in (distance, distance + step))
        assert far <= near + 1e-9 and near <= 1e-9


def test_a_criterion_without_a_weaker_reading_is_refused() -> None:
    same = Clause("m", {"below": 0.1}, {"below": 0.1}, "c")
    with pytest.raises(ConfigError, match="partly"):
        position(same, 0.2)


def test_the_table_is_the_scoreboard() -> None:
    """Every recorded clause is a row, with the verdict that the scoreboard counts."""
    table = all_results()
    recorded = [name for name in CLAIMS if (root() / "figures" / name / "result.json").is_file()]
    expected = [(name, key) for name in recorded for key in CLAIMS[name].clauses]
    assert list(zip(table["claim"], table["clause"], strict=True)) == expected
    for is_open, counts in zip((False, True), scoreboard()[1:], strict=True):
        claims = table[(table["paper"] == "open") == is_open].groupby("claim")["claim_verdict"].first().value_counts()
        assert claims.to_dict() == {v: n for v, n in counts.items() if n and v != "not yet measured"}
    assert set(table["verdict"]) <= SHAPES.keys() & COLOURS.keys()
    passed = table["verdict"] == "reproduced"
    assert ((table["why"] == "") == passed).all()
    assert (table.loc[passed, "at_low"] >= 0).all() and (table.loc[passed, "at_control_high"] < 0).all()
    assert (table["at_low"] > -1)[table["verdict"] == "partly"].all()


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("value", "control", "reason"),
    [
        ((0.0, 0.05), (0.5, 0.6), ""),
        ((0.0, 0.2), (0.5, 0.6), "only the weaker reading holds"),
        ((0.0, 0.4), (0.5, 0.6), "even the weaker reading is not certain"),
        ((0.4, 0.5), (0.5, 0.6), "fails even the weaker reading"),
        ((0.0, 0.05), (0.0, 0.05), "its control passes too"),
        ((0.0, 0.05), (0.0, 0.6), "its control does not clearly fail"),
        ((0.0, 0.4), (0.0, 0.6), "even the weaker reading is not certain; its control does not clearly fail"),
    ],
)
def test_reasons(value: tuple[float, float], control: tuple[float, float], reason: str) -> None:
    assert why(BELOW, Measured(interval(*value), interval(*control))) == reason


def measured_l1(control: Interval) -> pd.DataFrame:
    found = {key: Measured(interval(0.001, 0.002), control) for key in CLAIMS["L1"].clauses}
    return results_table(CLAIMS, {"L1": found}, stale={"L1"})


def test_what_is_not_measured_is_left_out_and_stale_is_said() -> None:
    table = measured_l1(interval(100, 200))
    assert set(table["claim"]) == {"L1"} and table["stale"].all()
    assert results_table(CLAIMS, {}).empty
    figure = draw_results(table)
    assert "reproduced (stale)" in [text.get_text() for text in figure.axes[0].texts]
    plt.close(figure)


def test_the_tables_say_whose_a_clause_is() -> None:
    table = all_results()
    whose = numbers(table)["whose"]
    assert set(whose) <= {"the paper", "our reading", "our result", "our expectation"}
    assert ((whose == "our expectation") == (table["paper"] == "open")).all()
    for row, line in zip(table.itertuples(), whose, strict=True):
        assert line == (CLAIMS[row.claim].clauses[row.clause].ours or line)
    fails = table[(table["verdict"] != "reproduced") & (table["ours"] != "")]
    assert all(
        f"`{row.clause}`<br>" in shortfalls(table) and f"{row.verdict}, {row.ours} |" in shortfalls(table)
        for row in fails.itertuples()
    )


def test_the_figure_shows_every_row_and_marks_what_is_cut() -> None:
    table = all_results()
    figure = draw_results(table)
    ax = figure.axes[0]
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert [name.removesuffix(f" {OURS}") for name in labels if name not in set(table["claim"])] == list(
        table["clause"]
    )
    assert sum(name.endswith(f" {OURS}") for name in labels) == (table["ours"] != "").sum() > 0
    marks = [line.get_marker() for line in ax.lines]
    assert sum(m in SHAPES.values() for m in marks) == len(table) == sum(m == "s" for m in marks)
    right = (table["at_high"] > LIMIT).sum() + (table["at_control_high"] > LIMIT).sum()
    left = (table["at_low"] < -LIMIT).sum() + (table["at_control_low"] < -LIMIT).sum()
    assert (marks.count(">"), marks.count("<")) == (right, left) and left and right
    points = [line.get_xdata()[0] for line in ax.lines if line.get_marker() in (*SHAPES.values(), "s")]  # type: ignore[index]
    assert all(math.isfinite(x) and abs(x) <= LIMIT for x in points)
    plt.close(figure)
