"""The scoreboard: every claim of the ledger with what was found, measured or not."""

import html
from collections import Counter
from pathlib import Path

import pandas as pd

from book import words
from book.claims import VERDICTS, Claim, Measured, judge, judge_clause, load_claims, overall, read_result, why
from book.compare import NEAR, same_value
from book.identity import chapter_code, tables
from book.notebooks import main_figure
from book.parameters import ledger_setting
from book.words import sentence
from icl_lib.paths import out_dir, read_json, root
from icl_lib.validate import ConfigError, require

MARKS = dict(zip(VERDICTS, ("✔", "◐", "✘", "◇", "○"), strict=True))
COLOURS = dict(zip(VERDICTS, ("#0173b2", "#b8860b", "#b3341f", "#6b6b6b", "#9a9a9a"), strict=True))
# A clause that another setting or machine does not let a chapter measure.
MARKS["not measured"], COLOURS["not measured"] = MARKS["not yet measured"], COLOURS["not yet measured"]
PAPERS = {"li2024": "Li et al. 2024", "kim2024": "Kim & Suzuki 2024", "open": "Open question"}


def result_file(claim: Claim, fresh: Path | None) -> Path | None:
    """The result to show: the one just computed if there is one, else the committed one."""
    files = [folder / claim.id / "result.json" for folder in (fresh, root() / "figures") if folder]
    return next((file for file in files if file.is_file()), None)


def recorded_in(file: Path) -> tuple[dict[str, Measured], dict[str, object]]:
    """What `read_result` finds.

    Raises:
        ConfigError: for a file that no chapter wrote, with its name.
    """
    try:
        measured, content = read_result(file)
        content["code_hash"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"file={str(file)!r}: must be a result as a chapter records it") from error
    return measured, content


def stale_because(claim: Claim, result: Path) -> str:
    """Why a recorded result may not be what comes out today; empty if it is."""
    recorded, notebook = recorded_in(result)[1], root() / f"{claim.chapter}.ipynb"
    code = str(recorded["code_hash"])
    if chapter_code(notebook) not in (code, vouched().get(code, ("", ""))[0]):
        return "the code has changed since this was recorded"
    return "" if recorded.get("tables", "") == tables(notebook, root()) else "other results, which it reads, are new"


def other_setting(claim: Claim, result: Path) -> dict[str, object]:
    """The parameters of a result that are not those of the recorded one: then it is exploratory."""
    found = read_json(result).get("parameters", {})
    setting = ledger_setting(root(), claim.id, root() / f"{claim.chapter}.ipynb")
    return {name: value for name, value in found.items() if name in setting and value != setting[name]}


def vouched() -> dict[str, tuple[str, str]]:
    """Code hashes of recorded results, each with that of later code under which the same numbers come out, and how that was seen.

    ``python -m tools.vouch`` writes a row of figures/vouched.csv after it has seen that.
    """
    file = root() / "figures" / "vouched.csv"
    if not file.is_file():
        return {}
    try:
        table = pd.read_csv(file, dtype=str)
    except pd.errors.ParserError:  # a row that is too long
        table = pd.DataFrame()
    whole = {"recorded", "now", "how"} <= set(table) and bool(table.notna().all(axis=None))
    require(whole, "file", str(file), "a full table, as python -m tools.vouch writes it, without merge markers")
    return dict(zip(table["recorded"], zip(table["now"], table["how"], strict=True), strict=True))


def _links(claim: Claim) -> str:
    """From a verdict to its figure, that figure's data, and the recorded numbers; then the command that makes them."""
    targets = [("result.json", f"figures/{claim.id}/result.json")]
    if figure := main_figure(claim.id, root() / f"{claim.chapter}.ipynb"):
        name, anchor = figure
        targets = [("figure", f"{claim.chapter}.html#{anchor}"), ("data", f"figures/{claim.id}/{name}.csv"), *targets]
    links = " · ".join(f'<a href="{url}" aria-label="{claim.id}: {text}">{text}</a>' for text, url in targets)
    command = f"make book CHAPTER={Path(claim.chapter).name}"
    return f'<small>{links}</small><div class="highlight"><pre>{command}</pre></div>'


def _mark(verdict: str, title: str) -> str:
    return f'<span style="color:{COLOURS[verdict]}" title="{title}">{MARKS[verdict]}</span>'


def _clauses(claim: Claim, file: Path) -> tuple[str, str, str, int]:
    """Verdict on a measured claim, what is ours beside it and its clauses, folded, as HTML, and the smallest number of seeds."""
    measured, _ = recorded_in(file)
    verdict = judge(claim, measured)  # which every clause must be there for
    lines, marks, moved = [], "", words.moves(root(), claim.id)
    beside: dict[str, str] = {}
    for key, clause in claim.clauses.items():
        m = measured[key]
        its = judge_clause(clause, m)
        title = html.escape(f"{key}: {clause.measure}", quote=True)
        said = html.escape(sentence(clause, m))
        mark, label = _mark(its, its), ""
        if key in claim.counted:
            marks += mark
        else:
            beside[clause.ours] = beside.get(clause.ours, "") + _mark(its, html.escape(f"{key}: {its}"))
            label = f'<span class="ours">{clause.ours}</span> '
        if (because := why(clause, m)) and its != "not measured":
            said += f" <i>{because[0].upper()}{because[1:]}.</i>"
        if moved.get(key, 0) > words.LEVEL:
            said += f"<br><small>rounding moves it: {words.share(moved[key])}</small>"
        lines.append(f'<div class="clause" title="{title}">{mark} {label}{said}</div>')
    if claim.theory_only:
        lines.append(f"<small>Theory only: {html.escape('; '.join(claim.theory_only))}</small>")
    n, rest = len(claim.counted), len(claim.clauses) - len(claim.counted)
    parts = [f"{marks} {n} measure{'s' * (n > 1)}"] * bool(n) + [f"{rest} of ours"] * bool(rest)
    folded = f"<details><summary>{', '.join(parts)}</summary>{''.join(lines)}</details>"
    ours = "".join(
        f'<div class="beside"><span class="ours">{label}</span> {found}</div>' for label, found in beside.items()
    )
    return verdict, ours, folded, min(m.value.n for m in measured.values())


def _standing(claim: Claim, file: Path) -> str:
    """What has to be known of a result besides its verdict, as HTML."""
    if other := other_setting(claim, file):
        return f"<b>exploratory, not at the ledger's setting: {html.escape(words.in_words(other))}</b><br>"
    if because := stale_because(claim, file):
        return f"<b>stale: {because}</b><br>"
    recorded = read_json(file)["code_hash"]
    if recorded == chapter_code(root() / f"{claim.chapter}.ipynb"):
        return ""
    return f"<small>recorded with earlier code; with today's: {html.escape(vouched()[recorded][1])}</small><br>"


def finding(claim: Claim, file: Path) -> str:
    """The ledger's sentence on a result; "" unless it was written for what the result says.

    So it has to be current, at the ledger's setting, with the verdicts that the sentence stands for, and no further from the
    committed result than another machine may come.
    """
    committed = root() / "figures" / claim.id / "result.json"
    if not (claim.finding and committed.is_file()) or other_setting(claim, file) or stale_because(claim, file):
        return ""
    measured, content = recorded_in(file)
    verdicts = [judge_clause(clause, measured[key]) for key, clause in claim.clauses.items()]
    near = same_value(recorded_in(committed)[1]["clauses"], content["clauses"], NEAR)
    return claim.finding.says if near and verdicts == claim.finding.when else ""


def _row(claim: Claim, fresh: Path | None) -> tuple[str, str]:
    """Verdict and the HTML table row of one claim."""
    file = result_file(claim, fresh)
    name, where = html.escape(claim.title), html.escape(f"{PAPERS[claim.paper]}, {claim.where}")
    if file is None:
        verdict, ours, found, n, rerun, told = "not yet measured", "", "", "", "", ""
    else:
        verdict, ours, found, seeds = _clauses(claim, file)
        n, name = str(seeds), f'<a href="{claim.chapter}.html">{name}</a>'
        rerun, told = _standing(claim, file) + _links(claim), html.escape(finding(claim, file))
    badge = f'<span class="verdict" style="color:{COLOURS[verdict]}">{MARKS[verdict]} {verdict}</span>'
    below = f'<p class="finding">{told}</p>' if told else "<br>"
    says = f'<span class="title">{name}</span><br><small>{where}</small>{below}{rerun}'
    cells = (f"<b>{claim.id}</b>", says, badge + ours, found, n)
    data = f'data-verdict="{verdict}" data-paper="{PAPERS[claim.paper]}" data-seeds="{n}"'
    return verdict, f"<tr {html.escape(data, quote=False)}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def scoreboard(fresh: Path | None = None, show_all: bool = True) -> tuple[str, dict[str, int], dict[str, int]]:
    """The table as HTML; how many claims of the papers have each verdict, and the same of open questions, which are no claims.

    Args:
        fresh: folder of results computed just now; the committed ones under ``figures/`` fill the gaps.
        show_all: False leaves out the rows of claims that are not yet measured (they are still counted).
    """
    claims = list(load_claims().values())
    rows = [_row(claim, fresh) for claim in claims]
    verdicts = [verdict if verdict in VERDICTS else "not yet measured" for verdict, _ in rows]
    of_papers = Counter(v for claim, v in zip(claims, verdicts, strict=True) if claim.paper != "open")
    of_open = Counter(verdicts) - of_papers
    names = ("claim", "what it says, and how to re-run it", "verdict", "what was measured, and its control", "seeds")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(row for verdict, row in rows if show_all or verdict != "not yet measured")
    table = f'<div class="scoreboard"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    return table, {v: of_papers[v] for v in VERDICTS}, {v: of_open[v] for v in VERDICTS}


def all_counted(fresh: Path | None = None) -> dict[str, int]:
    """How many claims of the papers would have each verdict if the clauses of ours counted as well."""
    claims = [claim for claim in load_claims().values() if claim.paper != "open"]
    files = [(claim, file) for claim in claims if (file := result_file(claim, fresh))]
    found = Counter(
        overall(judge_clause(claim.clauses[key], m) for key, m in recorded_in(file)[0].items()) for claim, file in files
    )
    return {v: found[v] for v in VERDICTS if found[v]}


def fresh_results() -> Path | None:
    """The output folder of the running build, or None when only committed results count."""
    folder = out_dir()
    return folder if folder.is_dir() and folder != root() / "_build" / "out" else None
