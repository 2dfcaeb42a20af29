"""Every recorded clause on one axis: results as a tidy table, and the figure that draws it.

The axis comes from the ledger alone. A clause's ``pass`` criterion lies at 0 and its weaker reading, ``partly``, at -1:

- On the failing side of an end of ``pass``, minus the distance from that end over the distance between that end and
  the end of ``partly`` on the same side. Where ``partly`` has no end on that side, -u / (1 + u) for a distance of u
  half widths of ``pass``: never as low as -1.
- On the passing side, the distance from the end, in the same unit; inside a range with two ends, the distance from the
  nearer end over half the width, so that the middle lies at 1.

So an interval passes exactly if all of it lies to the right of 0, and meets the weaker reading exactly if all of it lies to the
right of -1; a negative control does its work if all of its interval lies to the left of 0. (Ends of a range belong to it.)
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from book.claims import Claim, Clause, Measured, ends, judge, judge_clause, load_claims, misses, why
from book.scoreboard import COLOURS, MARKS, recorded_in, result_file, stale_because
from book.words import show
from icl_lib.figures import WIDTH
from icl_lib.stats import Interval
from icl_lib.validate import require

SHAPES = {"reproduced": "o", "partly": "D", "not reproduced": "X"}
WHOSE = {"open": "our expectation"}  # all others: the paper's
LIMIT = 10.0  # positions further out are drawn here, with an arrow
VALUE_COLUMNS, CONTROL_COLUMNS = ("estimate", "low", "high"), ("control", "control_low", "control_high")
CONTROL_FAILS, CONTROL_DOES_NOT = "0.6", "black"
OURS = "(ours)"  # after the name of a clause that its paper does not say


def position(clause: Clause, value: float) -> float:
    """Where a value lies on the common axis: above 0 it passes, above -1 it meets the weaker reading."""
    (low, high), (weak_low, weak_high) = ends(clause.passes), ends(clause.partly)
    half, rooms = (high - low) / 2, (low - weak_low, weak_high - high)
    if low <= value <= high and math.isfinite(half):
        return min(value - low, high - value) / half
    lower = value < low or (value <= high and math.isinf(high))  # measured from the lower end, else from the upper one
    distance, room = (value - low, rooms[0]) if lower else (high - value, rooms[1])
    if math.isfinite(room):
        require(room > 0, "partly", clause.partly, f"weaker than {clause.passes} on the side of {value:g}")
        return distance / room
    u = -distance / half
    return -u / (1 + u)


def span(clause: Clause, interval: Interval) -> tuple[float, float, float]:
    """Estimate, low and high end on the common axis, where low is the end that is worse for the claim."""
    low, high = ends(clause.passes)
    places = [position(clause, x) for x in (interval.estimate, interval.low, interval.high)]
    middle = (low + high) / 2
    best = [1.0] if math.isfinite(middle) and interval.low <= middle <= interval.high else []
    return places[0], min(places), max(places + best)


def results_table(
    claims: Mapping[str, Claim], measured: Mapping[str, Mapping[str, Measured]], stale: Collection[str] = ()
) -> pd.DataFrame:
    """One row per recorded clause, in the order of the ledger.

    Columns: claim, title, paper, chapter, claim_verdict, stale, clause, ours, verdict, why, control_fails, n; the recorded numbers
    estimate, low, high and control, control_low, control_high; and the same on the common axis, their names with ``at_`` before.

    Args:
        measured: numbers by claim and clause; claims without any are left out.
        stale: ids of claims whose code has changed since they were recorded.
    """
    rows = []
    for claim in (claim for name, claim in claims.items() if name in measured):
        of = {name: getattr(claim, name) for name in ("title", "paper", "chapter")}
        of |= {"claim": claim.id, "stale": claim.id in stale}
        of["claim_verdict"] = judge(claim, measured[claim.id])
        for key, clause in claim.clauses.items():
            m = measured[claim.id][key]
            row = {**of, "clause": key, "ours": clause.ours, "verdict": judge_clause(clause, m), "why": why(clause, m)}
            row["n"] = m.value.n
            row["control_fails"] = misses(m.control, clause.passes)
            for columns, interval in ((VALUE_COLUMNS, m.value), (CONTROL_COLUMNS, m.control)):
                row |= dict(zip(columns, interval[:3], strict=True))
                row |= dict(zip((f"at_{c}" for c in columns), span(clause, interval), strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def all_results(fresh: Path | None = None) -> pd.DataFrame:
    """`results_table` of what this book has recorded; results in the folder ``fresh`` come before the committed ones."""
    claims = load_claims()
    files = {name: file for name, claim in claims.items() if (file := result_file(claim, fresh))}
    stale = {name for name, file in files.items() if stale_because(claims[name], file)}
    return results_table(claims, {name: recorded_in(file)[0] for name, file in files.items()}, stale)


def claim_list(table: pd.DataFrame) -> str:
    """The claims in a table as a Markdown list, each a link for a page in ``chapters/``."""
    claims = table.drop_duplicates("claim")
    pages = claims["chapter"].str.removeprefix("chapters/") + ".ipynb"
    entries = zip(claims["claim"], pages, claims["title"], strict=True)
    return "\n".join(f"- [{name}]({page}): {title}" for name, page, title in entries)


def shortfalls(table: pd.DataFrame) -> str:
    """The clauses that are not reproduced as a Markdown table for a page in ``chapters/``, the worst verdict first."""
    lines = ["| claim | clause | measured, and its control | why |", "|---|---|---|---|"]
    for verdict in ("not reproduced", "partly"):
        for _, row in table[table["verdict"] == verdict].iterrows():
            page = f"{row['chapter'].removeprefix('chapters/')}.ipynb"
            value, control = (_numbers(row, name) for name in (VALUE_COLUMNS, CONTROL_COLUMNS))
            label = f", {row['ours']}" if row["ours"] else ""
            clause, found = (
                f"`{row['clause']}`<br>{MARKS[verdict]} {verdict}{label}",
                f"{value}<br>control\N{NO-BREAK SPACE}{control}",
            )
            lines.append(f"| [{row['claim']}]({page}) | {clause} | {found} | {row['why']} |")
    return "\n".join(lines)


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table as a reader wants them: recorded numbers and places on the axis as text."""
    shown = table[["claim", "clause", "ours", "verdict"]].rename(columns={"ours": "whose"})
    shown["whose"] = shown["whose"].where(shown["whose"] != "", table["paper"].map(WHOSE).fillna("the paper"))
    for title, columns in (("measured", VALUE_COLUMNS), ("control", CONTROL_COLUMNS)):
        shown[title] = [_numbers(row, columns) for _, row in table.iterrows()]
        shown[f"{title}, on the axis"] = [_numbers(row, [f"at_{c}" for c in columns]) for _, row in table.iterrows()]
    return shown.assign(seeds=table["n"])


def _numbers(row: pd.Series, columns: Sequence[str]) -> str:
    """Estimate and interval in one piece, which a narrow page does not break."""
    estimate, low, high = (float(row[column]) for column in columns)
    return show(Interval(estimate, low, high, int(row["n"]))).replace(" ", "\N{NO-BREAK SPACE}")


def _mark(ax: Axes, y: float, at: Sequence[float], colour: str, shape: str, control: bool) -> None:
    """Estimate and interval of one row, hollow for a control; what lies beyond the limits stands there, with an arrow outside."""
    estimate, low, high = (min(max(x, -LIMIT), LIMIT) for x in at)
    face, size, width = ("white", 3.5, 1.2) if control else (colour, 6.5, 2.2)
    ax.plot([low, high], [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=3)
    ax.plot(estimate, y, shape, color=colour, markerfacecolor=face, markersize=size, zorder=4, clip_on=False)
    for beyond, x, arrow in ((at[2] > LIMIT, LIMIT * 1.3, ">"), (at[1] < -LIMIT, -LIMIT * 1.3, "<")):
        if beyond:
            ax.plot(x, y, arrow, color=colour, markersize=4, clip_on=False, zorder=4)


def draw_results(table: pd.DataFrame) -> Figure:
    """The clauses of `results_table`, grouped by claim, one row each: estimate, interval and control on the common axis; what is ours is marked."""
    groups = list(table.groupby("claim", sort=False))
    n_rows = len(table) + len(groups)
    fig, ax = plt.subplots(figsize=(WIDTH, 0.2 * n_rows + 1.5))
    y, ticks, labels = 0, list[int](), list[str]()
    for name, part in groups:
        verdict, stale = part["claim_verdict"].iloc[0], " (stale)" if part["stale"].iloc[0] else ""
        ax.axhspan(y - 0.5, y + 0.5, color="0.93", linewidth=0, zorder=2)
        ax.text(0.01, y, f"{verdict}{stale}", transform=ax.get_yaxis_transform(), fontsize=9, va="center", zorder=5)
        ticks, labels, y = [*ticks, y], [*labels, str(name)], y + 1
        for _, row in part.iterrows():
            value, control = ([row[f"at_{name}"] for name in names] for names in (VALUE_COLUMNS, CONTROL_COLUMNS))
            _mark(ax, y + 0.2, control, CONTROL_FAILS if row["control_fails"] else CONTROL_DOES_NOT, "s", control=True)
            _mark(ax, y, value, COLOURS[row["verdict"]], SHAPES[row["verdict"]], control=False)
            ticks, labels, y = (
                [*ticks, y],
                [*labels, f"{row['clause']} {OURS}" if row["ours"] else row["clause"]],
                y + 1,
            )
    ax.axvline(0, color="black", linewidth=1, zorder=1)
    ax.axvline(-1, color="black", linewidth=1, linestyle=":", zorder=1)
    ax.set_xscale("symlog", linthresh=1, linscale=1.2)
    ax.set(xlim=(-LIMIT * 1.02, LIMIT * 1.02), ylim=(n_rows - 0.3, -0.6), yticks=ticks)
    ax.set_xticks([-LIMIT, -1, 0, 1, LIMIT], [f"−{LIMIT:g}", "−1", "0", "1", f"{LIMIT:g}"])
    ax.set_xlabel("fails  ←  criterion at 0  →  passes\n(dotted, at −1: the weaker reading)", fontsize=9)
    ax.tick_params(axis="both", labelsize=9, length=0)
    ax.tick_params(axis="y", pad=14)  # room for the arrows
    for label, text in zip(ax.set_yticklabels(labels), labels, strict=True):
        label.set_fontweight("bold" if text in set(table["claim"]) else "normal")
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_minor_locator(plt.NullLocator())
    plain, hollow = dict[str, Any](), {"markerfacecolor": "white", "markersize": 4}
    entries = [(f"clause {verdict}", COLOURS[verdict], shape, plain) for verdict, shape in SHAPES.items()]
    entries += [("its control, which fails", CONTROL_FAILS, "s", hollow)]
    entries += [("its control, which does not fail", CONTROL_DOES_NOT, "s", hollow)]
    handles = [Line2D([], [], color=c, marker=m, linestyle="none", label=text, **more) for text, c, m, more in entries]
    fig.legend(handles=handles, loc="outside upper center", ncols=2, fontsize=9, handletextpad=0.3)
    return fig
