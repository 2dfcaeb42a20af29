"""Cells that a kernel has run against the saved ones."""

import json
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient

from book import kernel
from book.chapter import are_saved
from book.identity import chapter_code
from icl_lib.paths import root

SAVED = ["n: int = 3  # how many", "import math\nbegun = n", "x = math.sqrt(n)", "y = 2 * x"]


REST = SAVED[2:]
SAME = {
    "as saved": ([SAVED[0]], SAVED[1:]),
    "begun": ([SAVED[0]], SAVED[1:3]),
    "empty first": (["", SAVED[0]], SAVED[1:]),
    "nothing known of before": ([], SAVED[1:]),
    "injected": ([SAVED[0], "# Parameters\nn = 5"], SAVED[1:]),
    "injected, not finite": ([SAVED[0], "# Parameters\nn = float('nan')"], SAVED[1:]),
    "reformatted": ([SAVED[0]], [SAVED[1], "x = math.sqrt( n )  # spaces and words", SAVED[3]]),
    "only shown": ([SAVED[0]], [SAVED[1], "%matplotlib inline", "len?", "# words", *REST]),
    "timed": ([SAVED[0]], [SAVED[1], f"%%time\n{SAVED[2]}", SAVED[3]]),
    "no Python": ([SAVED[0]], [SAVED[1], "x = = 1", *REST]),
    "again with another value": ([*SAVED, "n = 7"], SAVED[1:]),
}
OTHER = {
    "edited": ([SAVED[0]], [SAVED[1], "x = math.sqrt(n + 1)"]),
    "value set later": ([SAVED[0]], [SAVED[1], "n = 7", SAVED[2]]),
    "twice": ([SAVED[0]], [SAVED[1], SAVED[2], SAVED[2], SAVED[3]]),
    "left out": ([SAVED[0]], [SAVED[1], SAVED[3]]),
    "other beginning": ([SAVED[0]], ["import math\nbegun = n + 1", SAVED[2]]),
    "patched before": ([SAVED[0], "math.sqrt = abs"], SAVED[1:]),
    "patched with a value": ([SAVED[0], "math.pi = 3"], SAVED[1:]),
    "patched inside": ([SAVED[0], "f.__globals__['B'] = 3"], SAVED[1:]),
    "no literal": ([SAVED[0], "n = {[1]}"], SAVED[1:]),
    **{
        f"as IPython reads it: {text!r}": ([SAVED[0]], [SAVED[1], text, *REST])
        for text in (
            *("n = 9\nlen?", "    n = 9", ">>> n = 9", "q = !true\nn = 9", "if 1:\n    %time n = 9"),
            *("%time n = 9", "%run -i edit.py", "!touch x", "%%time\nn = 9"),
        )
    },
    "does not run": ([SAVED[0]], [SAVED[1], f"%%script true\n{SAVED[2]}", SAVED[3]]),
}


@pytest.mark.parametrize(("before", "since"), SAME.values(), ids=SAME)
def test_a_run_of_the_saved_cells(before: Sequence[str], since: Sequence[str]) -> None:
    assert are_saved(before, since, SAVED)


@pytest.mark.parametrize(("before", "since"), OTHER.values(), ids=OTHER)
def test_what_is_no_run_of_the_saved_cells(before: Sequence[str], since: Sequence[str]) -> None:
    assert not are_saved(before, since, SAVED)


@given(st.permutations(SAVED[1:]))
def test_only_one_order_is_the_saved_one(order: list[str]) -> None:
    assert are_saved([SAVED[0]], order, SAVED) == (order == SAVED[1:])


@pytest.mark.parametrize("edit", [False, True])
def test_a_result_of_cells_that_are_not_saved_has_not_the_chapters_hash(tmp_path: Path, edit: bool) -> None:
    (tmp_path / "claims.yml").write_bytes((root() / "claims.yml").read_bytes())
    cells = [
        nbformat.v4.new_code_cell("n_seeds: int = 2  # replications", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("from book.chapter import Chapter\nchapter = Chapter('L1', globals())"),
        nbformat.v4.new_code_cell(
            "import matplotlib.pyplot as plt\nimport pandas as pd\nx = 1\n"
            "chapter.figure(plt.figure(), 'f', pd.DataFrame({'x': [x]}))"
        ),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    saved = tmp_path / "chapters" / "softmax" / "L1_in_domain.ipynb"
    saved.parent.mkdir(parents=True)
    nbformat.write(notebook, saved)
    if edit:
        cells[-1].source = cells[-1].source.replace("x = 1", "x = 2")
    place = {"metadata": {"path": str(saved.parent)}}
    (tmp_path / "kernel").mkdir()
    variables = kernel.environment(tmp_path / "kernel") | {"ICL_BOOK_OUT": str(tmp_path / "out")}
    NotebookClient(notebook, resources=place, kernel_manager_class=kernel.manager(variables)).execute()
    kept = json.loads((tmp_path / "out" / "L1" / "f.json").read_text(encoding="utf-8"))
    code = chapter_code(saved)
    assert kept["code_hash"] == (f"{code}-edited" if edit else code)
    assert ("cells edited" in str(cells[-1].outputs)) == edit
