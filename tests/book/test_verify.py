"""`icl verify`: a committed result comes out again, or it is said what differs."""

import json
import shutil
from pathlib import Path

import nbformat
from nbformat import v4

from book import verify as verify_module
from book.compare import code_cells
from book.registry import cell_count, find, reduced
from book.run import run
from tests.book.toy import KERNEL, icl, lines


def commit_outputs(book: Path, out: Path, id: str = "T1") -> None:
    """Give the book's notebook and figures what a run has written."""
    path = book / f"chapters/toy/{id}_toy.ipynb"
    committed, executed = (nbformat.read(file, as_version=4) for file in (path, out / path.name))
    for cell, done in zip(code_cells(committed), code_cells(executed), strict=True):
        cell.outputs, cell.execution_count = done.outputs, done.execution_count
    nbformat.write(committed, path)
    shutil.copytree(out / id, book / "figures" / id)


def test_same_then_different(book: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(book)
    monkeypatch.delenv("ICL_BOOK_OUT", raising=False)
    chapter, started = find("T1", book), []
    commit_outputs(book, run(chapter, {}, tmp_path / "out", lambda: started.append(1)).folder)
    assert len(started) == cell_count(chapter) == 3
    before = {p: p.read_bytes() for p in book.rglob("*") if p.is_file()}
    same = icl(book, "verify")
    assert same.returncode == 0, same.stderr
    assert same.stdout.startswith("T1: same (4 results compared, ")
    assert {p: p.read_bytes() for p in book.rglob("*") if p.is_file()} == before

    result = book / "figures/T1/result.json"
    result.write_text(result.read_text().replace("0.5", "0.7"))
    path = book / "chapters/toy/T1_toy.ipynb"
    path.write_text(path.read_text().replace("slope 0.500", "slope 0.600"))
    different = icl(book, "verify", "T1")
    assert different.returncode == 1
    first, *rest = lines(different.stdout)
    assert first.startswith("T1: DIFFERS")
    assert rest == [
        "  code cell 3 (time.sleep(pause)) says something else than the committed outputs",
        "  result.json: clauses is not the recorded one",
    ]


def test_the_smaller_setting_is_found(book: Path) -> None:
    chapter = find("T1", book)
    assert reduced(book) == {}
    (book / "tests/reference").mkdir(parents=True)
    (book / "tests/reference/settings.yml").write_text("chapters/toy/T1_toy.ipynb: {beta: 2}\n")
    assert reduced(book)[f"chapters/{chapter.label}.ipynb"] == {"beta": 2}


def notebook(text: str, source: str = "show()") -> nbformat.NotebookNode:
    outputs = [
        v4.new_output("stream", name="stdout", text=text),
        v4.new_output("display_data", {"image/png": text, "text/plain": "<Figure>"}),
    ]
    return v4.new_notebook(cells=[v4.new_code_cell(source, outputs=outputs, execution_count=1)], metadata=KERNEL)


def test_outputs_are_compared_within_tolerance_and_pictures_not() -> None:
    assert verify_module._outputs(notebook("x 0.5"), notebook("x 0.50001")) == ([], 1)
    assert verify_module._outputs(notebook("x 0.5"), notebook("x 0.52"))[0][0].startswith("code cell 1 (show())")
    changed = verify_module._outputs(notebook("x"), notebook("x", "show(2)"))
    assert changed == (["the code is not that of the committed outputs"], 0)


def test_results_versions_are_a_remark_and_code_is_not(tmp_path: Path) -> None:
    recorded = {"verdict": "partly", "clauses": {"a": 0.5}, "code_hash": "x", "versions": {"torch": "2"}}
    file = tmp_path / "result.json"
    assert verify_module._results(recorded, file) == (["no result.json was written"], [])
    file.write_text(json.dumps({**recorded, "versions": {"torch": "3"}}))
    assert verify_module._results(recorded, file) == ([], ["recorded with {'torch': '2'}"])
    file.write_text(json.dumps({**recorded, "code_hash": "y", "verdict": "reproduced"}))
    assert verify_module._results(recorded, file)[0] == [
        "result.json: verdict is not the recorded one",
        "result.json: the code has changed since it was recorded",
    ]
