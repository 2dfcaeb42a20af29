"""Below a chapter's heading "Verdict and control": what the ledger says of each clause, and what was changed there and when."""

import html
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from book.claims import Claim, load_claims
from book.words import criterion

HEADING = "Verdict and control"


@cache
def by_page(book: Path) -> dict[str, Claim]:
    """The claims by the names of their pages; none without a ledger."""
    return {claim.chapter: claim for claim in load_claims(book).values()} if (book / "claims.yml").is_file() else {}


def entry(claim: Claim) -> str:
    """The clauses of a claim and the changes of its entry, as HTML."""
    parts = []
    for key, clause in claim.clauses.items():
        says = f"{clause.measure}. Passes {criterion(clause.passes)}; partly {criterion(clause.partly)}."
        parts.append(
            f"<dt><code>{html.escape(key)}</code></dt><dd>{html.escape(re.sub(r'[.]+ Passes', '. Passes', says))}"
        )
        parts.append(f"<br>Control, which must fail this: {html.escape(clause.control.rstrip('.'))}.</dd>")
    parts += [f"<dt>Theory only</dt><dd>{html.escape(text)}</dd>" for text in claim.theory_only]
    parts += [f"<dt>Changed</dt><dd>{html.escape(text)}</dd>" for text in claim.changes]
    return f'<details class="ledger"><summary>What each clause measures, its control, and changes of the ledger</summary><dl>{"".join(parts)}</dl></details>\n'


def insert(app: Sphinx, doctree: nodes.document, page: str) -> None:
    claim = by_page(Path.cwd()).get(page)
    for title in doctree.findall(nodes.title) if claim else ():
        if claim and title.astext() == HEADING:
            title.parent.insert(title.parent.index(title) + 1, nodes.raw("", entry(claim), format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", insert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
