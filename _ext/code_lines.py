"""Long lines of code wrap instead of running out of the page; what is wrapped hangs below its line's own indentation."""

import re
from html import unescape

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

# Code, commands and examples. What a program prints, in an example too, is as often as not a table, and scrolls by itself.
BLOCK = re.compile(
    r'(<div class="(?:doctest )?highlight-(?:default|ipython3|python|sh|console|yaml|toml|json) [^>]*>\s*<div class="highlight">\s*<pre>)(.*?)(</pre>)',
    re.S,
)
PRINTED = '<span class="go">'
SHORT = 40  # characters that fit a phone


def wrapped(code: str) -> str:
    """Highlighted code, each of its long lines a block of its own that knows its indentation."""
    lines = []
    for line in code.splitlines(keepends=True):
        text = unescape(re.sub(r"<[^>]*>", "", line))
        whole = all(line.count(f"<{tag} ") + line.count(f"<{tag}>") == line.count(f"</{tag}>") for tag in ("span", "a"))
        if len(text) > SHORT and whole and not line.startswith(PRINTED):
            indent = len(text) - len(text.lstrip())
            line = f'<span class="code-line" style="--in: {indent}ch">{line}</span>'
        lines.append(line)
    return "".join(lines)


def wrap_page(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: object) -> None:
    if "body" in context:
        context["body"] = BLOCK.sub(lambda m: m[1] + wrapped(m[2]) + m[3], context["body"])


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", wrap_page, priority=700)  # after the links into the library
    return {"parallel_read_safe": True, "parallel_write_safe": True}
