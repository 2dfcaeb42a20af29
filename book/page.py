"""An executed notebook as one HTML file: pictures inside, formulas as MathML, nothing fetched when it is opened."""

import copy
import io
import re
import tempfile
from typing import Any

from book.notebooks import figure_anchor

STYLE = """<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
img { max-width: 100% } pre, pre.code, pre code { background: #fafafa } pre.code:not(.output) { white-space: pre-wrap; overflow-wrap: anywhere } pre { padding: .6rem; overflow-x: auto; font-size: 13px }
details { margin: .2rem 0 } summary { cursor: pointer; color: #1460cf; font-size: 13px } figure { margin: 1rem 0 } figcaption { font-size: 14px; color: #444 }
table { border-collapse: collapse; display: block; max-width: 100%; overflow-x: auto } math[display=block] { overflow-x: auto } td, th { padding: .2rem .6rem; vertical-align: top; border-bottom: 1px solid #ddd; text-align: left } td code { overflow-wrap: anywhere } .provenance { color: #666 }
aside.admonition, div.admonition { border-left: 3px solid #999; padding-left: 1rem; margin: 1rem 0 }
</style>
</head>"""
ELSEWHERE: list[tuple[str, Any]] = [
    (r"\{cite(?::\w+)?\}`([a-z]+)(\d{4})\w*`", lambda m: f"({m[1].title()} {m[2]})"),  # the references are another page
    (
        r"(?<!!)\[\]\((?!https?:|#)(?:[^)#]*/)?([^)/#]+?)\.(?:ipynb|md)(?:#[^)]*)?\)",
        r"`\1`",
    ),  # a chapter by its file's name
    (r"(?<!!)\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1"),  # so are other chapters
    (r"\{(?:term|ref|numref|doc|eq|prf:ref)\}`([^`<]*)(?:<[^>]*>)?`", r"\1"),
    (r"^(:{3,}|`{3,})\{(?:dropdown|prf:\w+|exercise|solution)\}", r"\1{admonition}"),
    (r"\\dots\b", r"\\ldots"),  # which docutils knows
    (r"\{gathered\}", "{aligned}"),  # this one too
    (r"\\([td]?frac)(\d)(\d)", r"\\\1{\2}{\3}"),  # 1/2, where docutils reads 12 over what follows
]
# Code is folded away but for what was set: the default parameters and the ones of this run.
CODE = re.compile(
    r'(<div class="cell (?![^"]*parameters)[^"]*">\s*)<div class="cell_input docutils container">\s*(<pre.*?</pre>)\s*</div>',
    re.S,
)
# What may scroll: without a script there is no telling whether it does, so the keyboard reaches each of them.
SCROLLS = re.compile(r'<(?=table\b|math [^>]*display="block"|pre class="[^"]*\boutput\b)\w+')


def provenance_as_legend(cell: Any) -> None:
    """Put the line that says where a figure comes from below its caption; left alone it becomes a second figure."""
    figure = cell.metadata.get("mystnb", {}).get("figure")
    lines = [o for o in cell.get("outputs", []) if 'class="provenance"' in o.get("data", {}).get("text/markdown", "")]
    if figure and lines:
        says = "\n\n".join(o.data["text/markdown"] for o in lines)
        figure["caption"] = f"{figure.get('caption', '')}\n\n{says}"
        if file := re.search(r"\b(\w+)/(\w+)\.csv", says):
            figure.setdefault("name", figure_anchor(*file.groups()))  # so that every figure can be linked to
        cell.outputs = [output for output in cell.outputs if output not in lines]


def html_page(notebook: Any, title: str = "A chapter, run again") -> str:
    """The page, without what only the whole book can resolve: citations and links into other chapters become text."""
    import nbformat
    from docutils.core import publish_string
    from myst_nb.docutils_ import Parser

    plain = copy.deepcopy(notebook)
    for cell in plain.cells:
        provenance_as_legend(cell)
        if cell.cell_type == "markdown":
            for pattern, replacement in ELSEWHERE:
                cell.source = re.sub(pattern, replacement, cell.source, flags=re.M)
    with tempfile.TemporaryDirectory() as pictures:
        settings = {
            "nb_execution_mode": "off",
            "nb_render_markdown_format": "myst",
            "myst_enable_extensions": ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "tasklist"],
            "nb_output_folder": pictures,
            "image_loading": "embed",
            "math_output": "MathML",
            "output_encoding": "unicode",
            "title": title,
            "initial_header_level": "2",
            "report_level": 5,
            "halt_level": 5,
            "warning_stream": io.StringIO(),
        }
        source = nbformat.writes(plain)
        page: str = publish_string(source, parser=Parser(), writer_name="html5", settings_overrides=settings)
    page = CODE.sub(r"\1<details><summary>Code</summary>\2</details>", page)
    page = SCROLLS.sub(r'\g<0> tabindex="0"', page)
    return page.replace("</head>", STYLE, 1)
