"""The notebook of a run tells one story: its own verdict first, the book's marked as such, figures that cite the run's files."""

import json
from html import unescape
from pathlib import Path

import nbformat
import pytest

from book import registry as books
from book.registry import ChapterFile
from book.render import html_page, tell

LEAD = "# T1 · A toy\n\n**Verdict: reproduced.** Flat.\n\n## The claim\n\nIt is flat.\n\n## Experiment\n\n### First\n\nLook at 300.\n\n```sh\n# no heading\n```"
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ALT = "It falls until step 300."


def notebook_of_a_run() -> nbformat.NotebookNode:
    says = '<small class="provenance">figures/T1/curve.csv · 3 seeds</small>'
    outputs = [nbformat.v4.new_output("display_data", data) for data in ({"image/png": DOT}, {"text/markdown": says})]
    metadata = {"mystnb": {"figure": {"caption": "A curve"}, "image": {"alt": ALT}}}
    cells = [
        nbformat.v4.new_markdown_cell(LEAD),
        nbformat.v4.new_code_cell("draw()", outputs=outputs, metadata=metadata),
        nbformat.v4.new_markdown_cell("It falls.\n\n## Exercises\n\n1. Why?"),
    ]
    stamp = {"commit": "c", "date": "d", "seconds": 1.0, "machine": "m"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"icl_book": stamp})


@pytest.fixture
def chapter(book: Path) -> ChapterFile:
    (book / "figures/T1").mkdir(parents=True)
    (book / "figures/T1/result.json").write_text(json.dumps({"verdict": "reproduced", "clauses": {}}))
    return books.find("T1", book)


def test_an_exploratory_run(chapter: ChapterFile, tmp_path: Path) -> None:
    (tmp_path / "run/T1").mkdir(parents=True)
    interval = {"estimate": 2.0, "low": 1.5, "high": 2.5, "n": 3}
    clauses = {"slope": {"value": interval, "control": interval, "verdict": "not reproduced"}}
    (tmp_path / "run/T1/result.json").write_text(json.dumps({"verdict": "not reproduced", "clauses": clauses}))
    notebook = notebook_of_a_run()
    tell(notebook, chapter, {"alpha": 0.5}, tmp_path / "run")
    top, text = notebook.cells[0].source, notebook.cells[1].source
    assert top.startswith("# T1 · A toy\n\n**Exploratory run**, not at the ledger's setting: alpha = 0.5.\n\n")
    assert "**Verdict of this run: not reproduced.** The book's verdict, at the ledger's setting: reproduced." in top
    fold, open_text, rest = text.partition("## The claim\n\nIt is flat.")
    assert open_text and fold.startswith("<details><summary>The book's verdict and text, for the ledger's setting")
    assert rest.count("<details>") == rest.count("</details>") == 1 and rest.index("### First") < rest.index("Look at")
    page = unescape(html_page(notebook))
    assert page.index("Verdict of this run: not") < page.index("for the ledger's setting</summary>")
    assert page.count("<h1") == 1 and "figures/T1" not in page and '<a href="T1/curve.csv">T1/curve.csv</a>' in page
    assert f"This run's figure, drawn from T1/curve.csv. In the book, at the ledger's setting: {ALT}" in page
    assert page.count("<summary>The book's") == page.count("for the ledger's setting</summary>") == 4


def test_a_run_at_the_ledgers_setting_keeps_the_text(chapter: ChapterFile, tmp_path: Path) -> None:
    notebook = notebook_of_a_run()
    tell(notebook, chapter, {}, tmp_path / "run")
    assert "Exploratory" not in notebook.cells[0].source and "# T1 · A toy" in notebook.cells[0].source
    assert notebook.cells[1].source == LEAD.partition("\n")[2].strip()
    assert "<details><summary>The book" not in (page := html_page(notebook)) and 'href="T1/curve.csv"' in page
    assert "In the book" not in page
