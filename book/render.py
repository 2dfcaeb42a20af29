"""A run as one HTML file, told as a run: its own verdict first, the book's marked as such, what was written for the ledger's setting folded away.

The chapter's text, descriptions of figures and lines of provenance were written for the committed result. In a run they say whose
they are, and figures name the run's own files. Pictures are inside, formulas MathML; nothing is fetched when the page is opened.
"""

import copy
import io
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from book.notebooks import figure_anchor
from book.registry import ChapterFile, ours
from book.words import as_text, in_words, show
from icl_lib.paths import read_json

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
KEPT = ("The claim", "The question", "Why it should be true", "Where the formulas come from")  # true at any setting
HEADING = re.compile(r"(#{1,6}) +(.*)")
FENCE = re.compile(r" *(`{3,}|~{3,}|:{3,})(.*)")
FOLD = "<details><summary>The book's {}, for the ledger's setting</summary>\n\n{}\n\n</details>"
NOTE = (
    "*Estimate, 95 % interval in brackets, number of replications n, verdict. For a good one the control, which stands in the "
    "table of the verdict, has to fail too. The clauses measure:*"
)
CITED = re.compile(r"figures/(\w+/\w+\.csv)")


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


def tell(notebook: Any, chapter: ChapterFile, changed: Mapping[str, object], out: Path) -> None:
    """Rewrite an executed notebook in place.

    Args:
        changed: what is not at the ledger's setting; text is only folded if there is anything.
        out: the folder that the chapter wrote to.
    """
    import nbformat

    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    if first.cell_type == "markdown" and title.startswith("# "):
        first.source = rest.strip()
    else:
        title = f"# {chapter.id}: {chapter.title}"
    if changed:
        _fold(notebook.cells)
    for cell in notebook.cells:
        _cite_own_files(cell, bool(changed))
    top = "\n\n".join(part for part in (title, *_top(chapter, changed, notebook.metadata["icl_book"], out)) if part)
    notebook.cells = [
        nbformat.v4.new_markdown_cell(top, id="run"),
        *(cell for cell in notebook.cells if cell.cell_type != "markdown" or cell.source),
    ]


def _top(chapter: ChapterFile, changed: Mapping[str, object], stamp: Mapping[str, Any], out: Path) -> Iterator[str]:
    """What stands below the title."""
    if changed:
        yield f"**Exploratory run**, not at the ledger's setting: {in_words({name: as_text(value) for name, value in changed.items()})}."
    found, book = (result.get("verdict") for result in _results(chapter, out))
    if found:
        said = f" The book's verdict, at the ledger's setting: {book}." if book else ""
        yield f"**Verdict of this run: {found}.**{said}"
    yield headline(chapter, out)
    yield f"*Computed at commit {stamp['commit']} on {stamp['date']} in {stamp['seconds']} s ({stamp['machine']}).*"


def pieces(text: str) -> Iterator[tuple[str, str]]:
    """Headings with the text below each; the first heading is empty. A line in a fence is none.

    >>> list(pieces("Before.\\n## A\\n```sh\\n# no heading\\n```"))
    [('', 'Before.'), ('## A', '```sh\\n# no heading\\n```')]
    """
    below: list[str] = []
    heading, fence = "", ""
    for line in text.splitlines():
        mark = FENCE.fullmatch(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        if HEADING.fullmatch(line) and not fence:
            yield heading, "\n".join(below)
            heading, below = line, []
        else:
            below.append(line)
    yield heading, "\n".join(below)


def _fold(cells: list[Any]) -> None:
    """Fold the text of all sections but those that hold at any setting; headings stay."""
    kept = False
    for cell in cells:
        if cell.cell_type != "markdown":
            continue
        told = []
        for heading, text in pieces(cell.source):
            level = HEADING.fullmatch(heading)
            if level and len(level[1]) <= 2:
                kept = level[2].startswith(KEPT)
            text = text.strip()
            what = "verdict and text" if text.startswith("**Verdict") else "text"
            told += [heading, text if kept or not text else FOLD.format(what, text)]
        cell.source = "\n\n".join(part for part in told if part)


def _cite_own_files(cell: Any, exploratory: bool) -> None:
    """Name the run's files below figures, and say of a description that it is the book's."""
    cited = ""
    for output in cell.get("outputs", []):
        text = output.get("data", {}).get("text/markdown", "")
        if 'class="provenance"' in text:
            cited = next(iter(CITED.findall(text)), cited)
            output.data["text/markdown"] = CITED.sub(r'<a href="\1">\1</a>', text)
    image = cell.metadata.get("mystnb", {}).get("image", {})
    if exploratory and cited and "alt" in image:
        image["alt"] = f"This run's figure, drawn from {cited}. In the book, at the ledger's setting: {image['alt']}"


def headline(chapter: ChapterFile, out: Path) -> str:
    """A Markdown table of the clauses, the result in the folder ``out`` beside the committed one; below it, what they measure.

    Empty for a chapter that records no result. A clause that one of the two lacks has a dash there.
    """
    found, committed = (dict(result.get("clauses", {})) for result in _results(chapter, out))
    if not found:
        return ""
    measures, labels = chapter.entry.get("clauses", {}), ours(chapter.entry)
    rows, words = ["| clause | this run | in the book |", "|---|---|---|"], []
    for name in {**committed, **found}:
        whose = f", {labels[name]}" if name in labels else ""
        rows.append(f"| `{name}`{whose} | {_shown(found.get(name))} | {_shown(committed.get(name))} |")
        if name in measures:
            words.append(
                f"- `{name}`: " + re.sub(r"([\\`*_{}|$<>\[\]])", r"\\\1", measures[name]["measure"])
            )  # no markup
    return "\n".join([*rows, "", NOTE, "", *words])


def _results(chapter: ChapterFile, out: Path) -> list[dict[str, Any]]:
    """The result in the folder ``out`` and the committed one; empty where there is none."""
    files = [folder / chapter.id / "result.json" for folder in (out, chapter.book / "figures")]
    return [read_json(file) if file.is_file() else {} for file in files]


def _shown(clause: Mapping[str, Any] | None) -> str:
    value = [clause["value"][name] for name in ("estimate", "low", "high", "n")] if clause else []
    return f"{show(value)}, n = {value[3]}: {clause['verdict']}" if clause else "–"
