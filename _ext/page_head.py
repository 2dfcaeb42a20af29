"""What a page says of itself to those who link to it: a description, a picture, its own address. And pages without a column beside them."""

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from book.claims import claims_by_page

LONGEST = 200  # characters of a description
WIDE = ("index", "chapters/scoreboard")  # without the list of headings
PICTURE = "_static/social.png"
PICTURE_SAYS = "Five cards with signs, a sixth with a question mark: a prompt, and its query"


def shortened(text: str) -> str:
    """A text in at most `LONGEST` characters, whole sentences where the first one fits."""
    text = re.sub(r"\s+", " ", text).strip()
    if len(text) <= LONGEST:
        return text
    sentences = re.match(rf".{{40,{LONGEST - 1}}}\.(?= )", text)
    return sentences[0] if sentences else text[: LONGEST - 2].rsplit(" ", 1)[0] + " …"


def description(page: str, doctree: nodes.document | None) -> str:
    """A chapter's finding, or what its claim says; of another page its first paragraph."""
    if claim := claims_by_page(Path.cwd()).get(page):
        return shortened(claim.finding.says if claim.finding else claim.statement)
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        if len(paragraph.astext()) > 40 and not next(iter(paragraph.findall(nodes.math)), None):
            return shortened(paragraph.astext())
    return ""


def head(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    if page in WIDE:
        context["meta"] = {**(context.get("meta") or {}), "html_theme.sidebar_secondary.remove": "true"}
    base = app.config.html_baseurl
    address = context["pageurl"] = (
        context.get("pageurl") or f"{page.rpartition('/')[2]}.html"
    )  # without a public copy: relative
    title = re.sub(r"<[^>]+>", "", str(context.get("title", "")))
    picture = f"{base.rstrip('/')}/{PICTURE}" if base else context["pathto"](PICTURE, 1)
    said = {
        "og:title": title,
        "og:type": "article",
        "og:url": address,
        "og:image": picture,
        "og:image:alt": PICTURE_SAYS,
    }
    lines = [f'<meta property="{key}" content="{escape(value)}" />' for key, value in said.items()]
    if told := description(page, doctree):
        lines += [
            f'<meta {kind}="{name}" content="{escape(told)}" />'
            for kind, name in (("name", "description"), ("property", "og:description"))
        ]
    lines.append('<meta name="twitter:card" content="summary_large_image" />')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", head)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
