"""The scoreboard: every claim of the ledger with what was found, measured or not."""

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from book import words
from book.claims import OURS, VERDICTS, Claim, Measured, judge, judge_clause, load_claims, overall, read_result, why
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
GROUPS = {
    "li2024": "Paper L: Li et al. 2024, softmax attention",
    "kim2024": "Paper K: Kim &amp; Suzuki 2024, linear attention on learned features",
    "open": "Our own questions",
}
OWN = {"reproduced": "held", "partly": "partly held", "not reproduced": "refuted"}  # verdicts on what we expected


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


def label(verdict: str, paper: str = "") -> str:
    """A verdict in words; an expectation of our own is held or refuted, not reproduced.

    >>> label("not reproduced"), label("not reproduced", "open"), label("reproduced", "open")
    ('not reproduced', 'refuted', 'held')
    """
    return OWN.get(verdict, verdict) if paper == "open" else verdict


def standing(claim: Claim, fresh: Path | None = None) -> tuple[str, dict[str, str]]:
    """Verdict on a claim, and those on its clauses; none of these where it is not yet measured."""
    file = result_file(claim, fresh)
    if file is None:
        return "not yet measured", {}
    measured, _ = recorded_in(file)
    return judge(claim, measured), {key: judge_clause(c, measured[key]) for key, c in claim.clauses.items()}


def _links(claim: Claim) -> str:
    """From a verdict to its figure, that figure's data, and the recorded numbers; then the command that makes them."""
    targets = [("result.json", f"../figures/{claim.id}/result.json")]
    if figure := main_figure(claim.id, root() / f"{claim.chapter}.ipynb", claim.key_figure):
        name, anchor = figure
        own = [("figure", f"{_page(claim)}#{anchor}"), ("data", f"../figures/{claim.id}/{name}.csv")]
        targets = [*own, *targets]
    links = " · ".join(f'<a href="{url}" aria-label="{claim.id}: {text}">{text}</a>' for text, url in targets)
    command = f"make book CHAPTER={Path(claim.chapter).name}"
    return f'<p class="links">{links}</p><div class="highlight"><pre>{command}</pre></div>'


def _page(claim: Claim) -> str:
    """The chapter's address on a page in ``chapters/``."""
    return f"{claim.chapter.removeprefix('chapters/')}.html"


def _mark(verdict: str, paper: str) -> str:
    return f'<span style="color:{COLOURS[verdict]}" title="{label(verdict, paper)}">{MARKS[verdict]}</span>'


def _clauses(claim: Claim, file: Path) -> str:
    """The clauses of a measured claim as HTML: its number, its control, what it means."""
    measured, _ = recorded_in(file)
    lines, moved = [], words.moves(root(), claim.id)
    for key, clause in claim.clauses.items():
        m = measured[key]
        its = judge_clause(clause, m)
        title = html.escape(f"{key}: {clause.measure}", quote=True)
        said = html.escape(sentence(clause, m))
        ours = f'<span class="ours">{clause.ours}</span> ' if key not in claim.counted else ""
        if (because := why(clause, m)) and its != "not measured":
            said += f" <i>{because[0].upper()}{because[1:]}.</i>"
        if moved.get(key, 0) > words.LEVEL:
            said += f"<br><small>rounding moves it: {words.share(moved[key])}</small>"
        lines.append(f'<div class="clause" title="{title}">{_mark(its, claim.paper)} {ours}{said}</div>')
    if claim.theory_only:
        lines.append(f"<p>Theory only: {html.escape('; '.join(claim.theory_only))}</p>")
    return "".join(lines)


def _warning(claim: Claim, file: Path) -> str:
    """What has to be seen of a result besides its verdict, as HTML."""
    if other := other_setting(claim, file):
        return f"<b>exploratory, not at the ledger's setting: {html.escape(words.in_words(other))}</b>"
    because = stale_because(claim, file)
    return f"<b>stale: {because}</b>" if because else ""


def _code(claim: Claim, file: Path) -> str:
    """With which code a result that is not stale was recorded, where that is not today's, as HTML."""
    recorded = read_json(file)["code_hash"]
    if recorded == chapter_code(root() / f"{claim.chapter}.ipynb") or _warning(claim, file):
        return ""
    return f"<p>Recorded with earlier code; with today's: {html.escape(vouched()[recorded][1])}</p>"


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
    file, (verdict, clauses) = result_file(claim, fresh), standing(claim, fresh)
    name, n, told, numbers = html.escape(claim.title), "", "", ""
    if file:
        n = str(min(m.value.n for m in recorded_in(file)[0].values()))
        name = f'<a href="{_page(claim)}">{name}</a>'
        told = f'<p class="finding">{html.escape(said)}</p>' if (said := finding(claim, file)) else ""
        told += _warning(claim, file)
        numbers = f"{_clauses(claim, file)}<p>{n} seeds</p>{_code(claim, file)}{_links(claim)}"
    what = "numbers, control, data" if file else "the claim"
    summary = f'<summary aria-label="{claim.id}: {what}">{what}</summary>'
    found = f'<span class="title">{name}</span>{told}<details>{summary}{_says(claim)}{numbers}</details>'
    shown = f"{MARKS[verdict]} {label(verdict, claim.paper)}"
    badge = f'<span class="verdict" style="color:{COLOURS[verdict]}">{shown}</span>{strip(claim, clauses)}'
    data = {"verdict": verdict, "clauses": ",".join(clauses.values()), "paper": PAPERS[claim.paper], "seeds": n}
    attributes = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in data.items())
    return verdict, f"<tr {attributes}><td><b>{claim.id}</b></td><td>{found}</td><td>{badge}</td></tr>"


def _says(claim: Claim) -> str:
    """What a claim says and where, as HTML."""
    of_paper = claim.paper != "open"
    what, whose = ("The claim", PAPERS[claim.paper]) if of_paper else ("What was expected", "Our question")
    lines = (f"{what}: {claim.statement.strip()}", f"{whose}, {claim.where}")
    return "".join(f'<p class="says">{html.escape(line)}</p>' for line in lines)


def strip(claim: Claim, clauses: Mapping[str, str]) -> str:
    """A mark for each clause, those that do not count apart; their numbers in words for those who do not see the marks."""

    def marked(keys: Iterable[str], what: str) -> str:
        verdicts = [clauses[key] for key in keys]
        counted = Counter(label(verdict, claim.paper) for verdict in verdicts)
        said = f"{what}: " + ", ".join(f"{n} {verdict}" for verdict, n in counted.items())
        marks = "".join(_mark(verdict, claim.paper) for verdict in verdicts)
        return f'<span role="img" aria-label="{said}">{marks}</span>' if verdicts else ""

    parts = [marked((key for key in clauses if key in claim.counted), "clauses")]
    for kind in OURS:
        own = marked((k for k in clauses if k not in claim.counted and claim.clauses[k].ours == kind), "not counted")
        parts.append(f'<span class="ours">{kind}</span>{own}' if own else "")
    return "".join(f'<span class="strip">{part}</span>' for part in parts if part)


def scoreboard(fresh: Path | None = None) -> tuple[str, dict[str, int], dict[str, int]]:
    """The table as HTML; how many claims of the papers have each verdict, and the same of open questions, which are no claims.

    Its links are for a page in ``chapters/``.

    Args:
        fresh: folder of results computed just now; the committed ones under ``figures/`` fill the gaps.
    """
    claims = list(load_claims().values())
    rows = [_row(claim, fresh) for claim in claims]
    verdicts = [verdict if verdict in VERDICTS else "not yet measured" for verdict, _ in rows]
    of_papers = Counter(v for claim, v in zip(claims, verdicts, strict=True) if claim.paper != "open")
    of_open = Counter(verdicts) - of_papers
    bodies = ""
    for paper, title in GROUPS.items():
        body = "".join(row for claim, (_, row) in zip(claims, rows, strict=True) if claim.paper == paper)
        bodies += (
            f'<tbody><tr class="group"><th colspan="3" scope="rowgroup">{title}</th></tr>{body}</tbody>' if body else ""
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("claim", "what was found", "verdict, and its clauses"))
    table = f'<div class="scoreboard"><table><thead><tr>{head}</tr></thead>{bodies}</table></div>'
    return table, {v: of_papers[v] for v in VERDICTS}, {v: of_open[v] for v in VERDICTS}


def all_counted(fresh: Path | None = None) -> dict[str, int]:
    """How many claims of the papers would have each verdict if the clauses of ours counted as well."""
    claims = [claim for claim in load_claims().values() if claim.paper != "open"]
    measured = [claim for claim in claims if result_file(claim, fresh)]
    found = Counter(overall(standing(claim, fresh)[1].values()) for claim in measured)
    return {v: found[v] for v in VERDICTS if found[v]}


def fresh_results() -> Path | None:
    """The output folder of the running build, or None when only committed results count."""
    folder = out_dir()
    return folder if folder.is_dir() and folder != root() / "_build" / "out" else None
