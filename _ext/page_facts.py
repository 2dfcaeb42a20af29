"""What stands below a chapter's headings, none of it typed by hand.

Below its title: which claim, how long it takes to read and to run, how many seeds, what rounding moves; below that of a long page, how
long it takes to read. Below "Verdict and control": what the ledger says of each clause, and what was changed there and when. The run time
comes from benchmarks/commands.csv, seeds from the result, moves from reliability/twins.csv.
"""

import html
import json
import math
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import desc
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from book import words
from book.claims import Claim, Clause, load_claims
from book.registry import ChapterFile, chapters, recorded_seconds
from book.scoreboard import PAPERS
from book.words import criterion

VERDICT = "Verdict and control"
WORDS_PER_MINUTE, SECONDS_PER_FIGURE = 200, 12  # a displayed formula takes as long as a figure
LONG = 5  # minutes from which a page that is no chapter says how long it takes
WORD = re.compile(r"\w+(?:[-'’.,]\w+)*")
NO_PROSE = (nodes.literal_block, nodes.raw, nodes.comment, nodes.math_block)


def counts(node: nodes.Node, output: bool = False) -> tuple[int, int]:
    """Words of prose below a node, and figures and displayed formulas; in what a cell displays, only its figures count."""
    if isinstance(node, nodes.Text):
        return (0 if output else len(WORD.findall(node.astext()))), 0
    if isinstance(node, nodes.math):
        return int(not output), 0
    classes = node.get("classes", []) if isinstance(node, nodes.Element) else []
    if (
        "first-screen" in classes
        or isinstance(node, NO_PROSE)
        or "cell_input" in classes
        or "legend" in classes
        or isinstance(node, nodes.legend)
    ):
        return 0, int(isinstance(node, nodes.math_block))
    own = isinstance(node, nodes.image)
    output = (output or "cell_output" in classes) and not isinstance(node, nodes.caption)
    below = [counts(child, output) for child in node.children]
    return sum(words for words, _ in below), own + sum(pictures for _, pictures in below)


def minutes(seconds: float) -> str:
    return f"{max(1, math.ceil(seconds / 60))} min"


@cache
def by_page(book: Path) -> dict[str, tuple[ChapterFile, Claim | None]]:
    """The chapters and their claims by the names of their pages; none without a ledger."""
    if not (book / "claims.yml").is_file():
        return {}
    claims = load_claims(book)
    return {f"chapters/{chapter.label}": (chapter, claims.get(chapter.id)) for chapter in chapters(book)}


def labelled(clause: Clause) -> str:
    return f' <span class="ours">{clause.ours}</span>' if clause.ours else ""


def whose(claim: Claim) -> str:
    """Which clauses are ours and not the paper's, as HTML; empty if none is."""
    ours = [
        f"<code>{html.escape(key)}</code>{labelled(clause)}" for key, clause in claim.clauses.items() if clause.ours
    ]
    if not ours or claim.paper == "open":
        return ""
    counted = "the verdict counts the others" if claim.counted else "none is left for a verdict on the paper"
    return f'<p class="whose">What the paper does not say: {", ".join(ours)}; {counted}.</p>\n'


def ledger(claim: Claim) -> str:
    """The clauses of a claim and the changes of its entry, as HTML."""
    parts = []
    for key, clause in claim.clauses.items():
        says = f"{clause.measure}. Passes {criterion(clause.passes)}; partly {criterion(clause.partly)}."
        parts.append(
            f"<dt><code>{html.escape(key)}</code>{labelled(clause)}</dt><dd>{html.escape(re.sub(r'[.]+ Passes', '. Passes', says))}"
        )
        parts.append(f"<br>Control, which must fail this: {html.escape(clause.control.rstrip('.'))}.</dd>")
    parts += [f"<dt>Theory only</dt><dd>{html.escape(text)}</dd>" for text in claim.theory_only]
    parts += [f"<dt>Changed</dt><dd>{html.escape(text)}</dd>" for text in claim.changes]
    summary = "<summary>What each clause measures, its control, and changes of the ledger</summary>"
    return f'<details class="ledger">{summary}<dl>{"".join(parts)}</dl></details>\n'


def facts(chapter: ChapterFile, figures: Path) -> list[tuple[str, str]]:
    """What is said of a chapter beside its reading time, each with how it is known."""
    said = []
    if seconds := recorded_seconds(chapter):
        how = f"Measured: {seconds:.0f} s on a machine with two cores (benchmarks/commands.csv)"
        said.append((f"{minutes(seconds)} to run on two cores", how))
    result = figures / chapter.id / "result.json"
    if result.is_file():
        n = min(clause["value"]["n"] for clause in json.loads(result.read_text(encoding="utf-8"))["clauses"].values())
        said.append((f"{n} seeds", f"The smallest number of any clause (figures/{chapter.id}/result.json)"))
    if moved := words.moves(chapter.book, chapter.id):
        clause = max(moved, key=lambda name: moved[name])
        how = "; ".join(f"{name}: {words.share(move)}" for name, move in moved.items())
        how = f"What moves when all weights start 1e-7 of their size elsewhere (reliability/twins.csv): {how}"
        if moved[clause] > words.LEVEL:
            said.append((f"rounding moves {clause}: {words.share(moved[clause])}", how))
        else:
            said.append(("rounding moves nothing by a tenth of its half width", how))
    return said


def insert(app: Sphinx, doctree: nodes.document, page: str) -> None:
    headings = list(doctree.findall(nodes.title))
    chapter, claim = by_page(Path.cwd()).get(page, (None, None))
    words, pictures = counts(doctree)
    seconds = 60 * words / WORDS_PER_MINUTE + SECONDS_PER_FIGURE * pictures
    if not headings or (chapter is None and (seconds < 60 * LONG or next(iter(doctree.findall(desc)), None))):
        return
    how = f"{words} words at {WORDS_PER_MINUTE} a minute, and {SECONDS_PER_FIGURE} s for each of {pictures} figures and displayed formulas"
    said = [(f"{minutes(seconds)} to read", how)]
    if claim:
        names = (f"Claim {claim.id}", f"{PAPERS[claim.paper]}, {claim.where}")
        said = [(name, "") for name in (names if claim.paper != "open" else [f"Open question {claim.id}"])] + said
    said += facts(chapter, Path(app.srcdir) / "figures") if chapter else []
    titles = [f' title="{html.escape(why)}"' if why else "" for _, why in said]
    spans = [f"<span{title}>{html.escape(text)}</span>" for title, (text, _) in zip(titles, said, strict=True)]
    parts = {"chapters/softmax": "#part-i-paper-l", "chapters/mean_field": "#part-ii-paper-k", "chapters/open": ""}
    part = parts.get(page.rpartition("/")[0])
    if part is not None:  # what the symbols mean, one click from where they first occur
        address = app.builder.get_relative_uri(page, "chapters/notation")
        spans.append(f'<a href="{address}{part}">symbols</a>')
    below(headings[0], f'<p class="page-facts">{" · ".join(spans)}</p>\n')
    if claim:
        mark(doctree, claim)
    for heading in headings:
        if claim and heading.astext() == VERDICT:
            below(heading, whose(claim) + ledger(claim))


def mark(doctree: nodes.document, claim: Claim) -> None:
    """In tables that begin with the names of clauses, say which are ours."""
    for row in doctree.findall(nodes.row):
        name = row[0].astext()
        if name in claim.clauses and claim.paper != "open" and row[0].children:
            row[0][0] += nodes.raw("", labelled(claim.clauses[name]), format="html")


def below(heading: nodes.title, text: str) -> None:
    heading.parent.insert(heading.parent.index(heading) + 1, nodes.raw("", text, format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
