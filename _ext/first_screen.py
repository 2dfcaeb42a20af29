"""The first screen of a chapter: the claim, what was done, the key figure under what was found, the verdict, what would have refuted it.

All of it comes from the ledger (`first`, `finding`) and from the figure that the chapter draws further down; nothing is typed here.
"""

import html
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from book.claims import Claim, claims_by_page
from book.notebooks import main_figure
from book.scoreboard import MARKS, finding, label, result_file, standing, strip


def told(claim: Claim, results: Path) -> str:
    """The words of the first screen as HTML."""
    verdict, clauses = standing(claim, results)
    slug = verdict.replace(" ", "-")
    shown = f'<span class="chip" data-verdict="{slug}">{MARKS[verdict]} {label(verdict, claim.paper)}</span>'
    statement = (claim.first and claim.first.claim) or claim.statement
    parts = [("The claim" if claim.paper != "open" else "What was expected", html.escape(statement.strip()))]
    if claim.first:
        parts.append(("What we did", html.escape(claim.first.did.strip())))
    parts.append(("Verdict", f"{shown} {strip(claim, clauses)}"))
    if claim.first:
        parts.append(("What would have refuted it", html.escape(claim.first.refuted.strip())))
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in parts) + "</dl>"


def key_figure(doctree: nodes.document, claim: Claim, said: str) -> nodes.container | None:
    """The figure of the ledger, as the chapter draws it, under a title; None where it draws none."""
    known = main_figure(claim.id, Path.cwd() / f"{claim.chapter}.ipynb", claim.key_figure)
    drawn = [node for node in doctree.findall(nodes.figure) if known and known[1] in node["ids"]]
    images = [image for node in drawn for image in node.findall(nodes.image)]
    if not (known and images):
        return None
    title = nodes.raw("", f'<p class="key-title">{html.escape(said)}</p>', format="html")
    link = nodes.reference("", "", images[0].deepcopy(), internal=True, refid=known[1])
    how = nodes.reference("", "How it was made, and its data", internal=True, refid=known[1])
    return nodes.container("", title, link, nodes.paragraph("", "", how, classes=["key-how"]), classes=["key-figure"])


def insert(app: Sphinx, doctree: nodes.document, page: str) -> None:
    claim, heading = claims_by_page(Path.cwd()).get(page), next(iter(doctree.findall(nodes.title)), None)
    results = Path(app.srcdir) / "figures"
    file = result_file(claim, results) if claim else None
    if claim is None or heading is None or file is None:
        return
    figure = key_figure(doctree, claim, finding(claim, file) or claim.title)
    words = nodes.raw("", told(claim, results), format="html")
    screen = nodes.container("", words, *([figure] if figure else []), classes=["first-screen"])
    heading.parent.insert(heading.parent.index(heading) + 1, screen)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", insert, priority=400)  # below what page_facts puts there later
    return {"parallel_read_safe": True, "parallel_write_safe": True}
