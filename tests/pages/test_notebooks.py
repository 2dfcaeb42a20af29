"""The committed notebooks: executed, free of errors and warnings, with described pictures."""

from pathlib import Path

import pytest

from book import compare
from tools import notebooks

COMMITTED = [*notebooks.chapters(), *notebooks.summaries()]
RECORDED = [*COMMITTED, *(notebooks.REFERENCES / path.name for path in notebooks.reduced())]


@pytest.mark.parametrize("path", RECORDED, ids=str)
def test_outputs_are_committed_and_clean(path: Path) -> None:
    notebook = notebooks.load(path)
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        assert cell.execution_count, f"cell {number} has not been executed"
        for output in cell.outputs:
            assert output.output_type != "error", f"cell {number} failed: {output.get('evalue')}"
            assert output.get("name") != "stderr", f"cell {number} wrote to stderr: {output.text[:200]}"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), f"cell {number}: a widget"
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert counts == sorted(counts), "executed out of order"


@pytest.mark.parametrize("path", RECORDED, ids=str)
def test_nothing_personal_is_committed(path: Path) -> None:
    notebook = notebooks.load(path)
    assert notebook.metadata.keys() <= {"kernelspec", "language_info", "icl"}
    assert notebook.metadata.kernelspec.name == "python3"
    text = path.read_text()
    assert str(Path.cwd()) not in text
    assert str(Path.home()) + "/" not in text


@pytest.mark.parametrize("path", notebooks.chapters(), ids=str)
def test_first_code_cell_holds_the_parameters(path: Path) -> None:
    first = next(cell for cell in notebooks.load(path).cells if cell.cell_type == "code")
    assert "parameters" in first.metadata.get("tags", [])


@pytest.mark.parametrize("path", COMMITTED, ids=str)
def test_pictures_have_alt_text(path: Path) -> None:
    for number, cell in enumerate(notebooks.load(path).cells, 1):
        if cell.cell_type == "code" and any(
            mime.startswith("image/") for output in cell.outputs for mime in output.get("data", {})
        ):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt) > 20, f"cell {number} shows a picture without a description"


@pytest.mark.parametrize("path", notebooks.chapters(), ids=str)
def test_some_outputs_are_compared(path: Path) -> None:
    compared = notebooks.REFERENCES / path.name if path in notebooks.reduced() else path
    cells = [cell for cell in notebooks.load(compared).cells if cell.source.startswith("# NBVAL_CHECK_OUTPUT")]
    assert any(cell.outputs for cell in cells), "nbval would compare nothing"


@pytest.mark.parametrize(("path", "parameters"), notebooks.reduced().items(), ids=str)
def test_reference_is_of_the_present_chapter(path: Path, parameters: dict[str, object]) -> None:
    chapter, reference = notebooks.load(path), notebooks.load(notebooks.REFERENCES / path.name)
    sources = [[cell.source for cell in compare.code_cells(notebook)] for notebook in (chapter, reference)]
    assert sources[0] == sources[1], "the chapter has changed: run make record"
    injected = [cell for cell in reference.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    found: dict[str, object] = {}
    exec(injected[0].source, found)
    assert {name: found[name] for name in parameters} == parameters
