"""Chapters run three times in random order, each time from nothing: results and tables are equal byte for byte."""

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from reliability.chapter import FEW, copy_of_book, run
from reliability.outcome import Row

KIND = "three times in random order"
CHAPTERS = [path for path in FEW if "K1" not in path]
TIMES = 3


def contents(folder: Path) -> dict[str, bytes]:
    """Results and tables by name; not run.json, which holds date and wall time, nor pictures."""
    files = [path for kind in ("*.csv", "*.json") for path in folder.rglob(kind) if path.name != "run.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def compared(case: str, runs: Sequence[dict[str, bytes]]) -> Row:
    """One row per chapter; n is the number of files that were compared."""
    names = sorted(set().union(*runs))
    moved = [name for name in names if len({one.get(name) for one in runs}) > 1]
    outcome = f"{len(moved)} files differ" if moved or not names else f"files equal in {len(runs)} runs"
    return Row(KIND, case, outcome, len(names), bool(names) and not moved, ", ".join(moved))


def rows(chapters: Sequence[str] = CHAPTERS, seed: int = 0) -> Iterator[Row]:
    found: dict[str, list[dict[str, bytes]]] = {chapter: [] for chapter in chapters}
    for number in range(TIMES):
        order = random.Random(seed + number).sample(chapters, len(chapters))
        with tempfile.TemporaryDirectory() as folder:
            book = copy_of_book(Path(folder) / "book")
            for chapter in order:
                found[chapter].append(contents(run(book, chapter)))
    for chapter in chapters:
        yield compared(Path(chapter).stem, found[chapter])
