"""Whether two notebooks, results or files say the same: numbers within tolerance, words exactly."""

import copy
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REL, ABS = 1e-3, 1e-9  # what counts as the same number
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def code_cells(notebook: Any) -> list[Any]:
    """Code cells, without the one that papermill adds for parameters."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]


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
    """Equal up to rounding; NaN equals NaN."""
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
        return same_value(json.loads(a.read_text(encoding="utf-8")), json.loads(b.read_text(encoding="utf-8")))
    if a.suffix in {".csv", ".svg"}:
        return same_text(a.read_text(encoding="utf-8"), b.read_text(encoding="utf-8"))
    return a.read_bytes() == b.read_bytes()


def same_outputs(a: Any, b: Any, *, pictures: bool) -> bool:
    """Whether two notebooks with the same code have the same outputs; pictures only if asked for.

    What nbval checks it compares letter by letter, so there the text has to be the same and not just near.
    """
    pairs = zip(code_cells(a), code_cells(b), strict=True)
    return all(x.execution_count == y.execution_count and same_cell(x, y, pictures=pictures) for x, y in pairs)


def same_cell(a: Any, b: Any, *, pictures: bool) -> bool:
    """Whether two code cells have the same outputs."""
    exact = a.source.startswith("# NBVAL_CHECK_OUTPUT")
    outputs = zip(a.outputs, b.outputs)
    return len(a.outputs) == len(b.outputs) and all(_same_output(x, y, pictures, exact) for x, y in outputs)


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
