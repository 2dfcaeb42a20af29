"""The first use of a glossary term on a page leads to the glossary; text that says ``{term}`` itself is left as it is."""

import re
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

PAGES = re.compile(r"index|chapters/(?:introduction|verdicts|compare|(?:softmax|mean_field|open)/\w+)")
NOT_IN = (
    nodes.reference,
    nodes.title,
    nodes.emphasis,
    nodes.strong,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.caption,
)


def prose(node: nodes.Node) -> Iterator[nodes.Text]:
    """The text of a page that is neither code, formula, heading, link nor output."""
    if isinstance(node, nodes.Text):
        yield node
    elif not isinstance(node, NOT_IN) and not (
        isinstance(node, nodes.Element) and "cell_output" in node.get("classes", [])
    ):
        for child in list(node.children):
            yield from prose(child)


def link_first_uses(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if not PAGES.fullmatch(page):
        return
    objects = app.env.domains["std"].data["objects"]
    terms = {name: place for (kind, name), place in objects.items() if kind == "term"}
    said = " ".join(link.get("refuri", "") for link in doctree.findall(nodes.reference))
    left = {name: place for name, place in terms.items() if not re.search(rf"#{re.escape(place[1])}\b", said)}
    for text in list(prose(doctree)):
        if not left:
            return
        # The longest first: "softmax attention" before "attention". A plural is the same word.
        found = re.compile(rf"\b({'|'.join(sorted(map(re.escape, left), key=len, reverse=True))})(?:e?s)?\b", re.I)
        parts: list[nodes.Node] = []
        rest = text.astext()
        while left and (use := found.search(rest)):
            name = next((n for n in left if n.lower() == use[1].lower()), None)
            if name is None:  # a second use, in the text whose first use has just been linked
                parts.append(nodes.Text(rest[: use.end()]))
            else:
                document, anchor = left.pop(name)
                address = f"{app.builder.get_relative_uri(page, document)}#{anchor}"
                link = nodes.reference("", use[0], internal=True, refuri=address, classes=["term-link"])
                parts += [nodes.Text(rest[: use.start()]), link]
            rest = rest[use.end() :]
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(rest)])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("doctree-resolved", link_first_uses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
