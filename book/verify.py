"""Chapters executed again and compared with what is committed: numbers by the rule `compare.NEAR`, words and verdicts exactly."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.compare import NEAR, code_cells, same_outputs, same_value
from book.registry import ChapterFile, reduced
from icl_lib.locks import workplace
from icl_lib.paths import read_json

BY_ROUNDING = (
    "decided-by-rounding"  # tag of a cell whose numbers another processor does not repeat, as the chapter says
)
PROVENANCE = ("code_hash", "tables", "versions")  # said apart from the numbers


@dataclass(frozen=True)
class Comparison:
    """What came of a chapter: differences, each in a line; and remarks, which do not count as such."""

    differences: list[str]
    remarks: list[str]
    compared: int


def verify(chapter: ChapterFile, *, full: bool = False, on_cell: Callable[[], None] | None = None) -> Comparison:
    """Execute a chapter and compare its outputs and its result with the committed ones.

    A chapter with a smaller setting runs at that one, and is compared with the outputs recorded there, unless ``full``.

    Raises:
        OSError: if there is no place to run it.
    """
    import nbformat

    from book.execute import run

    smaller = None if full else reduced(chapter.book).get(f"chapters/{chapter.label}.ipynb")
    tested = chapter.book / "tests" / "reference" / chapter.notebook.name
    reference = chapter.notebook if smaller is None else tested
    with workplace(Path(tempfile.gettempdir()) / "icl-verify") as work:
        target = work / chapter.notebook.name
        problem = run(chapter.notebook, target, work, smaller, cwd=chapter.book, on_cell=on_cell)
        if problem:
            return Comparison([f"failed in {problem}"], [], 0)
        committed, again = (nbformat.read(path, as_version=4) for path in (reference, target))
        differences, compared = _outputs(committed, again)
        remarks = [] if smaller is None else ["at the smaller setting of the tests"]
        recorded, found = chapter.book / "figures" / chapter.id / "result.json", work / chapter.id / "result.json"
        if smaller is None and recorded.is_file():
            more, said = _results(read_json(recorded), found)
            differences, remarks, compared = [*differences, *more], [*remarks, *said], compared + 1
        return Comparison(differences, remarks, compared)


def _outputs(committed: Any, again: Any) -> tuple[list[str], int]:
    """Differences between the text outputs of two notebooks; pictures are not compared."""
    old, new = code_cells(committed), code_cells(again)
    if [cell.source for cell in old] != [cell.source for cell in new]:
        return ["the code is not that of the committed outputs"], 0
    found = []
    for number, (a, b) in enumerate(zip(old, new), 1):
        if BY_ROUNDING not in a.metadata.get("tags", []) and not same_outputs(a.outputs, b.outputs):
            title = next((line for line in a.source.splitlines() if not line.startswith("#")), "")
            found.append(f"code cell {number} ({title.strip()[:60]}) says something else than the committed outputs")
    return found, len(old)


def _results(recorded: Mapping[str, Any], file: Path) -> tuple[list[str], list[str]]:
    """Differences between a recorded result and the new one; another version is only a remark."""
    if not file.is_file():
        return ["no result.json was written"], []
    found = json.loads(file.read_text(encoding="utf-8"))
    names = [name for name in {**recorded, **found} if name not in PROVENANCE]
    other = [name for name in names if not same_value(recorded.get(name), found.get(name), NEAR)]
    differences = [f"result.json: {name} is not the recorded one" for name in other]
    if recorded.get("tables") != found.get("tables"):
        differences.append("result.json: tables that it reads have been recorded anew since it was recorded")
    if recorded.get("code_hash") != found.get("code_hash"):
        differences.append("result.json: the code has changed since it was recorded")
    same = recorded.get("versions") == found.get("versions")
    return differences, [] if same else [f"recorded with {recorded.get('versions')}"]
