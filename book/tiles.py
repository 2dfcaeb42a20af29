"""The whole book in one picture: a tile for every entry of the ledger, and the sentence that sums them up."""

import html
from collections.abc import Mapping
from pathlib import Path

from book.claims import COLUMNS, Claim, load_claims
from book.scoreboard import MARKS, label, standing

WORST_FIRST = ("not reproduced", "partly", "not measured", "not yet measured", "theory only", "reproduced")


def tiles(fresh: Path | None = None) -> str:
    """Two columns of tiles as HTML, the worst verdict first, each with a mark per clause and a link to its chapter."""
    shown = [(claim, *standing(claim, fresh)) for claim in load_claims().values() if claim.tile]
    shown.sort(key=lambda one: WORST_FIRST.index(one[1]))
    columns = "".join(
        f'<section class="tile-column"><h3>{title}</h3><p>{_count(column, fresh)}</p>'
        f"<ul>{''.join(_tile(*one) for one in shown if one[0].tile and one[0].tile.column == column)}</ul></section>"
        for column, title in COLUMNS.items()
    )
    found = {verdict for _, verdict, _ in shown}
    legend = " ".join(
        f'<span class="tile-key" data-verdict="{v}">{MARKS[v]} {label(v)}</span>' for v in WORST_FIRST if v in found
    )
    return f'<div class="tiles">{columns}<p class="tile-legend">{legend} <span>Small marks: the clauses of each; those that a paper does not say do not count. For our own questions (Q) a ✘ means that our expectation was wrong; the words say what came out.</span></p></div>'


def _tile(claim: Claim, verdict: str, clauses: Mapping[str, str]) -> str:
    assert claim.tile
    marks = "".join(f'<i data-verdict="{its}">{MARKS[its]}</i>' for its in clauses.values())
    inside = (
        f'<b>{claim.id}</b><span class="tile-words">{html.escape(claim.tile.words)}</span>'
        f'<span class="tile-marks" aria-hidden="true">{marks}</span><span class="visually-hidden">: {label(verdict, claim.paper)}</span>'
    )
    linked = f'<a href="{claim.chapter}.html">{inside}</a>' if clauses else f"<span>{inside}</span>"
    return f'<li class="tile" data-claim="{claim.id}" data-verdict="{verdict}">{linked}</li>'


def held(column: str, fresh: Path | None = None, own: bool | None = None) -> tuple[int, int]:
    """How many entries of a column are wholly reproduced, and how many are measured.

    Args:
        own: our own questions only; False: the papers' claims only; None: both.
    """
    claims = [c for c in load_claims().values() if c.tile and c.tile.column == column]
    verdicts = [standing(c, fresh)[0] for c in claims if own is None or own == (c.paper == "open")]
    measured = [verdict for verdict in verdicts if verdict not in ("not yet measured", "not measured", "theory only")]
    return measured.count("reproduced"), len(measured)


def _count(column: str, fresh: Path | None) -> str:
    whole, measured = held(column, fresh)
    return f"{whole} of {measured} hold in every clause that counts"


def summary(fresh: Path | None = None) -> str:
    """What was found, in two sentences."""
    (ends, n_ends), (costs, n_costs) = (held(column, fresh, own=False) for column in COLUMNS)
    ours = [held(column, fresh, own=True) for column in COLUMNS]
    return (
        f"**What the papers say about where training ends came out as stated more often** ({ends} of {n_ends} claims hold in every clause that counts) "
        f"**than what they say about how much it takes** ({costs} of {n_costs}). "
        f"Of our own questions {sum(whole for whole, _ in ours)} of {sum(n for _, n in ours)} were answered as we had expected."
    )
