"""In the text of a chapter, a link to another chapter is its short name, such as L5; its title shows on hover."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from book.claims import claims_by_page

LISTS = ("/part", "/closing")  # there titles are what a reader chooses by


def shorten(app: Sphinx, doctree: nodes.document, page: str) -> None:
    claims = claims_by_page(Path.cwd())
    if page.count("/") < 2 or page.endswith(LISTS):
        return
    titles = {f"{claim.id} · {claim.title}": claim for claim in claims.values()}
    for link in doctree.findall(nodes.reference):
        claim = titles.get(link.astext())
        if claim and link.get("internal"):
            link.children = []
            link += nodes.inline("", claim.id)
            link["reftitle"] = claim.title


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", shorten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
