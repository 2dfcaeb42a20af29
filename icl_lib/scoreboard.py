"""The scoreboard: every claim of the ledger with what was found, measured or not."""

import html
import json
from collections import Counter
from pathlib import Path

from icl_lib.chapter import show
from icl_lib.claims import VERDICTS, Claim, judge, load_claims, read_result
from icl_lib.paths import out_dir, root
from icl_lib.provenance import chapter_hash

MARKS = dict(zip(VERDICTS, ("✔", "◐", "✘", "◇", "○"), strict=True))
COLOURS = dict(zip(VERDICTS, ("#0173b2", "#b8860b", "#b3341f", "#6b6b6b", "#9a9a9a"), strict=True))
PAPERS = {"li2024": "Li et al. 2024", "kim2024": "Kim & Suzuki 2024"}


def result_file(claim: Claim, fresh: Path | None) -> Path | None:
    """The result to show: the one just computed if there is one, else the committed one."""
    folders = ([fresh] if fresh else []) + [root() / "figures"]
    return next((f / claim.id / "result.json" for f in folders if (f / claim.id / "result.json").is_file()), None)


def is_stale(claim: Claim, result: Path) -> bool:
    """Whether the code that the recorded result depends on has changed since."""
    recorded = json.loads(result.read_text())["code_hash"]
    return bool(recorded != chapter_hash(root() / f"{claim.chapter}.ipynb", numbers_only=True))


def _row(claim: Claim, fresh: Path | None) -> tuple[str, str]:
    """Verdict and the HTML table row of one claim."""
    file = result_file(claim, fresh)
    where = f"{PAPERS[claim.paper]}, {claim.where}"
    if file is None:
        verdict, found, n, rerun, name = "not yet measured", "", "", "", html.escape(claim.title)
    else:
        measured, content = read_result(file)
        verdict = judge(claim, measured)
        lines = [
            f"<li><b>{key}</b> {show(m.value)}; control {show(m.control)}: {content['clauses'][key]['verdict']}</li>"  # type: ignore[index]
            for key, m in measured.items()
        ]
        found = f"<ul>{''.join(lines)}</ul>"
        if claim.theory_only:
            found += f"<small>Theory only: {html.escape('; '.join(claim.theory_only))}</small>"
        n = str(min(m.value.n for m in measured.values()))
        name = f'<a href="{claim.chapter}.html">{html.escape(claim.title)}</a>'
        rerun = f"<code>make book CHAPTER={Path(claim.chapter).name}</code>"
        if is_stale(claim, file):
            rerun = f"<b>stale: the code has changed since</b><br>{rerun}"
    badge = f'<span class="verdict" style="color:{COLOURS[verdict]}">{MARKS[verdict]} {verdict}</span>'
    cells = (f"<b>{claim.id}</b>", f"{name}<br><small>{html.escape(where)}</small>", badge, found, n, rerun)
    return verdict, f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def scoreboard(fresh: Path | None = None, show_all: bool = True) -> tuple[str, dict[str, int]]:
    """The table as HTML, and how many claims have each verdict.

    Args:
        fresh: folder of results computed just now; the committed ones under ``figures/`` fill the gaps.
        show_all: False leaves out the rows of claims that are not yet measured (they are still counted).
    """
    rows = [_row(claim, fresh) for claim in load_claims().values()]
    counts = Counter(verdict for verdict, _ in rows)
    names = ("claim", "what it says", "verdict", "estimate [95 % interval] and negative control", "seeds", "re-run")
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(row for verdict, row in rows if show_all or verdict != "not yet measured")
    table = f'<div class="scoreboard"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return table, {verdict: counts[verdict] for verdict in VERDICTS}


def fresh_results() -> Path | None:
    """The output folder of the running build, or None when only committed results count."""
    folder = out_dir()
    return folder if folder.is_dir() and folder != root() / "_build" / "out" else None
