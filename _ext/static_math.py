"""Formulas for readers without JavaScript: beside each, its MathML, made by docutils, in a ``noscript``."""

import re
from html import escape, unescape

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

FORMULA = re.compile(
    r'<(span|div) class="math notranslate nohighlight"[^>]*>.*?(?:\\\((.*?)\\\)|\\\[(.*?)\\\])</\1>', re.S
)
# What docutils does not know, in other words.
SAME = ((r"\\dots\b", r"\\ldots"), (r"\\([td]?frac)(\d)(\d)", r"\\\1{\2}{\3}"), (r"\{(gathered|split)\}", "{aligned}"))
HIDE = "<noscript><style>.math:has(+ noscript.mathml) { display: none; }</style></noscript>"


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML; as TeX, where it has what docutils does not know.

    >>> mathml(r"\\\\tfrac12", block=False).count("<mfrac>")
    1
    """
    for pattern, other in SAME:
        tex = re.sub(pattern, other, tex)
    try:
        return str(tex2mathml(tex, as_block=block))
    except (SyntaxError, ValueError):  # its own error is either, by the version of docutils
        return f"<code>{escape(tex)}</code>"


def beside(found: re.Match[str]) -> str:
    inline = found[2] is not None
    made = mathml(unescape(found[2] if inline else found[3]).strip(), block=not inline)
    return f'{found[0]}<noscript class="mathml">{made}</noscript>'


def add(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: object) -> None:
    if '"math notranslate' in context.get("body", ""):
        context["body"] = FORMULA.sub(beside, context["body"])
        context["metatags"] = context.get("metatags", "") + HIDE


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("html-page-context", add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
