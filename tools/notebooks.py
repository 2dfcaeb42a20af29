"""Notebooks as the tools see them: their code cells, and whether two sets of outputs say the same."""

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from icl_lib import provenance

INDEX = Path("index.ipynb")
SUMMARIES = (INDEX, Path("chapters/introduction.ipynb"), Path("chapters/all_results.ipynb"))  # they read all results
REFERENCES = Path("tests/reference")
REL, ABS = 1e-3, 1e-9  # what counts as the same number
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def chapters() -> list[Path]:
    """All chapters, those known to be long first, so that none of them is left to run alone at the end."""
    found = (p for p in Path("chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return sorted((p for p in found if p not in SUMMARIES), key=lambda path: (path not in reduced(), path))


def summaries() -> list[Path]:
    """The pages that show what all chapters recorded: they run last. Those of `SUMMARIES` that there are."""
    return [path for path in SUMMARIES if path.is_file()]


def reduced() -> dict[Path, dict[str, Any]]:
    """Chapters that are tested at a smaller setting, with the parameters of that setting."""
    file = REFERENCES / "settings.yml"
    settings = yaml.safe_load(file.read_text()) if file.is_file() else None
    return {Path(path): parameters for path, parameters in (settings or {}).items()}


def ledger(notebook: Path) -> dict[str, Any]:
    """The entries of the ledger that a chapter measures."""
    entries = yaml.safe_load(Path("claims.yml").read_text())
    return {key: e for key, e in entries.items() if e.get("chapter") == str(notebook.with_suffix(""))}


def heavy(notebook: Path) -> bool:
    """Whether the ledger calls a chapter heavy: too long to run on every reader's machine."""
    return any(entry.get("heavy") for entry in ledger(notebook).values())


def label(notebook: Path) -> str:
    """How a notebook is called in messages."""
    return str(notebook.with_suffix("")).removeprefix("chapters/")


def load(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def save(notebook: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def code_cells(notebook: Any) -> list[Any]:
    """Code cells, without the one that papermill adds for parameters."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]


def fingerprint(notebook: Path) -> str:
    """Changes when outputs may: with the code, the library code under it, what the ledger asks, data and packages."""
    # The number of lines per cell: outputs are put back cell by cell, so moving a cell border counts as a change.
    layout = [len(cell.source.splitlines()) for cell in code_cells(load(notebook))]
    files = [Path("requirements.lock"), *sorted(Path("icl_lib/data").glob("*.csv"))]
    if "benchmarks" in provenance.notebook_code(notebook):
        files += sorted(Path("benchmarks").glob("results.*"))
        files += sorted(Path("benchmarks").glob("*.csv"))
    return json.dumps([provenance.chapter_hash(notebook), layout, ledger(notebook), digest(files)])


def digest(files: Iterable[Path]) -> str:
    """Hash of the names and contents of files."""
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            total.update(f"{file}\n".encode() + file.read_bytes())
    return total.hexdigest()


def with_outputs(source: Any, executed: Any) -> Any:
    """The source notebook with the outputs of an executed copy whose code is the same."""
    merged = copy.deepcopy(source)
    for cell, run in zip(code_cells(merged), code_cells(executed), strict=True):
        cell.execution_count = run.execution_count
        cell.outputs = joined_streams(run.outputs)
    return merged


def joined_streams(outputs: Sequence[Any]) -> list[Any]:
    """Outputs with neighbouring pieces of one stream joined: where a stream is cut is a matter of timing."""
    joined: list[Any] = []
    for output in copy.deepcopy(list(outputs)):
        if joined and output.output_type == "stream" and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def same_number(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=REL, abs_tol=ABS) or (math.isnan(a) and math.isnan(b))


def same_text(a: str, b: str) -> bool:
    """Equal but for numbers, and those within tolerance."""
    if a == b:
        return True
    numbers = NUMBER.findall(a), NUMBER.findall(b)
    return NUMBER.split(a) == NUMBER.split(b) and all(same_number(float(x), float(y)) for x, y in zip(*numbers))


def same_value(a: Any, b: Any) -> bool:
    """Equal JSON values; numbers within tolerance, strings (hashes, verdicts) exactly."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return same_number(a, b) if numbers else bool(type(a) is type(b) and a == b)


def same_file(a: Path, b: Path) -> bool:
    """Whether two files exist and say the same; pictures by bytes."""
    if not (a.is_file() and b.is_file()):
        return False
    if a.suffix == ".json":
        return same_value(json.loads(a.read_text()), json.loads(b.read_text()))
    if a.suffix in {".csv", ".svg"}:
        return same_text(a.read_text(), b.read_text())
    return a.read_bytes() == b.read_bytes()


def same_outputs(a: Any, b: Any, *, pictures: bool) -> bool:
    """Whether two notebooks with the same code have the same outputs; pictures only if asked for.

    What nbval checks it compares letter by letter, so there the text has to be the same and not just near.
    """
    pairs = list(zip(code_cells(a), code_cells(b), strict=True))
    if any(x.execution_count != y.execution_count or len(x.outputs) != len(y.outputs) for x, y in pairs):
        return False
    checked = [p.source.startswith("# NBVAL_CHECK_OUTPUT") for p, _ in pairs]
    return all(
        _same_output(x, y, pictures, exact)
        for (p, q), exact in zip(pairs, checked)
        for x, y in zip(p.outputs, q.outputs)
    )


def _same_output(a: Any, b: Any, pictures: bool, exact: bool) -> bool:
    if (a.output_type, a.get("name")) != (b.output_type, b.get("name")):
        return False
    mine, theirs = ({"text": x.text} if x.output_type == "stream" else x.get("data", {}) for x in (a, b))
    return mine.keys() == theirs.keys() and all(_same_mime(k, mine[k], theirs[k], pictures, exact) for k in mine)


def _same_mime(mime: str, a: Any, b: Any, pictures: bool, exact: bool) -> bool:
    if mime.startswith("image/"):
        return a == b or not pictures
    if exact:
        return bool(a == b)
    return same_text(a, b) if isinstance(a, str) and isinstance(b, str) else same_value(a, b)
