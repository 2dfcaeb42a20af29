"""Of what a cell prints or shows as a table, a page shows the first lines; the others are folded below them."""

import copy
import html

from bs4 import BeautifulSoup, Tag
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LINES = 8


def folded(n: int, what: str, inside: str) -> str:
    """Something behind a line that says how much it is."""
    return (
        f'<details class="more-lines"><summary>{n} more {what}{"s" * (n > 1)}</summary>{inside}</details>' if n else ""
    )


def printed(text: str) -> tuple[str, str]:
    """The first lines of a text, and the rest as HTML; that is empty where nothing is left."""
    lines = text.splitlines()
    rest = html.escape("\n".join(lines[LINES:]))
    more = folded(max(0, len(lines) - LINES), "line", f'<div class="highlight"><pre>{rest}</pre></div>')
    return "\n".join(lines[:LINES]), more


def cut(rows: list[Tag]) -> int:
    """How many rows to show: the first ones, and those that a cell of theirs reaches down to."""
    until = 0
    for i, row in enumerate(rows):
        if i >= LINES and i >= until:
            return i
        until = max([until, *(i + int(str(cell["rowspan"])) for cell in row.select("[rowspan]"))])
    return len(rows)


def tabled(text: str) -> str:
    """HTML with a table of pandas', its rows after the first ones in a second table that is folded; a row or two more are no reason."""
    page = BeautifulSoup(text, "html.parser")
    for table in page.select("table.dataframe"):
        rows = table.select("tbody > tr")
        first = cut(rows)
        if len(rows) <= max(first, LINES + 2) or table.find_parent("details"):
            continue
        rest = copy.copy(table)
        for row in rows[first:]:
            row.decompose()
        for row in rest.select("tbody > tr")[:first]:
            row.decompose()
        table.insert_after(BeautifulSoup(folded(len(rows) - first, "row", str(rest)), "html.parser"))
    return str(page)


def fold(app: Sphinx, doctree: nodes.document, page: str) -> None:
    outputs = [node for node in doctree.findall(nodes.container) if "cell_output" in node["classes"]]
    for output in outputs:
        for block in list(output.findall(nodes.literal_block)):
            first, more = printed(block.astext())
            if more:
                shown = nodes.literal_block("", first, **block.attributes)
                block.replace_self([shown, nodes.raw("", more, format="html")])
        for raw in list(output.findall(nodes.raw)):
            if "dataframe" in raw.astext():
                raw.replace_self(nodes.raw("", tabled(raw.astext()), format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
