"""A run's notebook as one story: its own verdict first, the book's marked as such, what was written for the ledger's setting folded away.

The chapter's text, alternative texts of figures and lines of provenance were written for the committed result. In a run they say whose
they are, and figures name the run's own files.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from book.registry import ChapterFile
from book.words import as_text, show
from icl_lib.paths import read_json

KEPT = ("The claim", "The question", "Why it should be true", "Where the formulas come from")  # true at any setting
HEADING = re.compile(r"(#{1,6}) +(.*)")
FENCE = re.compile(r" *(`{3,}|~{3,}|:{3,})(.*)")
FOLD = "<details><summary>The book's {}, for the ledger's setting</summary>\n\n{}\n\n</details>"
NOTE = (
    "*Estimate, 95 % interval in brackets, number of replications n, verdict. For a good one the control, which stands in the "
    "table of the verdict, has to fail too. The clauses measure:*"
)
CITED = re.compile(r"figures/(\w+/\w+\.csv)")


def in_words(values: Mapping[str, object]) -> str:
    """Values for people, such as ``alpha = 0.5, beta = 1``."""
    return ", ".join(f"{name} = {value}" for name, value in values.items())


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
    results = [folder / chapter.id / "result.json" for folder in (out, chapter.book / "figures")]
    found, book = (read_json(f).get("verdict") if f.is_file() else None for f in results)
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
    committed = _clauses(chapter.book / "figures" / chapter.id / "result.json")
    found = _clauses(out / chapter.id / "result.json")
    if not found:
        return ""
    measures = chapter.entry.get("clauses", {})
    rows, words = ["| clause | this run | in the book |", "|---|---|---|"], []
    for name in {**committed, **found}:
        rows.append(f"| `{name}` | {_shown(found.get(name))} | {_shown(committed.get(name))} |")
        if name in measures:
            words.append(f"- `{name}`: {_plain(measures[name]['measure'])}")
    return "\n".join([*rows, "", NOTE, "", *words])


def _clauses(file: Path) -> dict[str, Any]:
    """The clauses of a result; none if there is no such file."""
    return dict(read_json(file).get("clauses", {})) if file.is_file() else {}


def _plain(text: str) -> str:
    """Text with nothing that Markdown would take for markup."""
    return re.sub(r"([\\`*_{}|$<>\[\]])", r"\\\1", text)


def _shown(clause: Mapping[str, Any] | None) -> str:
    if clause is None:
        return "–"
    value = [clause["value"][name] for name in ("estimate", "low", "high", "n")]
    return f"{show(value)}, n = {value[3]}: {clause['verdict']}"
