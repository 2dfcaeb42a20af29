"""Notebooks as the tools see them: which there are, what their outputs depend on, and outputs put into a source."""

import copy
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from book import registry
from book.compare import code_cells, joined_streams
from book.identity import chapter_code
from book.notebooks import chapter_files, declared_files, read_cells
from icl_lib.source import canonical, cell_code
from icl_lib.validate import require

INDEX = Path("index.ipynb")
SUMMARIES = (  # they read all results
    INDEX,
    *(Path("chapters", f"{name}.ipynb") for name in ("introduction", "scoreboard", "all_results", "published")),
)
REFERENCES = Path("tests/reference")


def chapters() -> list[Path]:
    """All chapters, those known to be long first, so that none of them is left to run alone at the end."""
    long = reduced()
    return sorted((p for p in chapter_files(Path()) if p not in SUMMARIES), key=lambda path: (path not in long, path))


def summaries() -> list[Path]:
    """The pages that show what all chapters recorded: they run last. Those of `SUMMARIES` that there are."""
    return [path for path in SUMMARIES if path.is_file()]


def reduced() -> dict[Path, dict[str, Any]]:
    """`registry.reduced` of this book."""
    return {Path(path): parameters for path, parameters in registry.reduced(Path()).items()}


def ledger(notebook: Path) -> dict[str, Any]:
    """What the entries of the ledger ask that a chapter measures."""
    entries = registry.ledger(Path())
    return {key: registry.asked(e) for key, e in entries.items() if e.get("chapter") == str(notebook.with_suffix(""))}


def heavy(notebook: Path) -> bool:
    """Whether the ledger calls a chapter heavy: too long to run on every reader's machine."""
    return any(entry.get("heavy") for entry in ledger(notebook).values())


def label(notebook: Path) -> str:
    """How a notebook is called in messages."""
    return str(notebook.with_suffix("")).removeprefix("chapters/")


def load(path: Path) -> Any:
    """A notebook.

    Raises:
        ConfigError: for a file that is none, with its name.
    """
    read_cells(path)
    return nbformat.read(path, as_version=4)


def save(notebook: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def fingerprint(notebook: Path) -> str:
    """Changes when outputs may: with the code, the library code under it, what the ledger asks, data and packages."""
    # The number of lines per cell: outputs are put back cell by cell, so moving a cell border counts as a change.
    layout = [len(cell.source.splitlines()) for cell in code_cells(load(notebook))]
    files = declared_files(notebook, Path())
    code = chapter_code(notebook, drawn=True)
    kernels = [os.environ.get(name, "") for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR")]
    return json.dumps([code, layout, ledger(notebook), kernels, digest([Path("requirements.lock"), *files])])


def digest(files: Iterable[Path]) -> str:
    """Hash of the names and contents of files."""
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            total.update(f"{file}\n".encode() + file.read_bytes())
    return total.hexdigest()


def with_outputs(source: Any, executed: Any) -> Any:
    """The source notebook with the outputs of an executed copy.

    Raises:
        ConfigError: if that has other code.
    """
    merged = copy.deepcopy(source)
    for number, (cell, run) in enumerate(zip(code_cells(merged), code_cells(executed), strict=True), 1):
        same = canonical(cell_code(cell.source)) == canonical(cell_code(run.source))
        require(same, "code cell", number, "as it ran; it was changed since: run it again")
        cell.execution_count = run.execution_count
        cell.outputs = joined_streams(run.outputs)
    return merged
