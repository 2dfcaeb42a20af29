"""Of what a cell prints, a page shows the first lines; the others are folded below them."""

import html

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LINES = 8


def fold(app: Sphinx, doctree: nodes.document, page: str) -> None:
    for block in list(doctree.findall(nodes.literal_block)):
        above, lines = block.parent, block.astext().splitlines()
        if "cell_output" not in above.get("classes", []) or len(lines) <= LINES:
            continue
        first = nodes.literal_block("", "\n".join(lines[:LINES]), **block.attributes)
        n = len(lines) - LINES
        said = f"{n} more line{'s' * (n > 1)}"
        rest = f'<details class="more-lines"><summary>{said}</summary><div class="highlight"><pre>{html.escape(chr(10).join(lines[LINES:]))}</pre></div></details>'
        block.replace_self([first, nodes.raw("", rest, format="html")])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
