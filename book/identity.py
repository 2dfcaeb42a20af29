"""What the outputs of a chapter come from: its code, what that reaches in the library, and what it declares to read.

A chapter's code counts as a trainer's does (`icl_lib.lineage`). What lies outside of the book's packages counts by its version
(`icl_lib.provenance.versions`); files, by what the chapter's metadata declares (`notebooks.declared`).
"""

from functools import cache
from pathlib import Path

from book.notebooks import declared_files
from icl_lib import lineage
from icl_lib.lineage.reach import Reached, Symbol, attributes, links, reached, read
from icl_lib.lineage.stripped import stripped
from icl_lib.paths import read_json
from icl_lib.source import PACKAGE, Stamp, notebook_code, stamp
from icl_lib.validate import require

BEGIN = ("icl_lib.device", "one_thread")  # every chapter begins with it
# Modules that draw, judge, file or name results: a change there re-runs a chapter but makes no result stale.
# ``book.claims`` is not one of them: Q1 and Q2 compute with its criteria.
FILING = lineage.FILING | {f"book.{name}" for name in ("chapter", "identity", "scoreboard", "words")}


@cache
def _chapter(notebook: Path, written: Stamp, without: frozenset[str]) -> dict[Symbol, Reached]:
    code = notebook_code(notebook)
    known = read(code)
    own = [new for node in code.body for new in [stripped(node)] if new is not None]  # in the order of the cells
    leads = {link for tree in own for link in links(tree, known, "", without)}
    found = reached(
        [*(target for _, target in leads), BEGIN], without, {name for tree in own for name in attributes(tree)}
    )
    return {**found, ("", notebook.stem): Reached(own, leads)}


@cache
def _chapter_digest(notebook: Path, written: Stamp, without: frozenset[str]) -> str:
    return lineage.digest(_chapter(notebook, written, without))


def library_data(notebook: Path) -> list[Path]:
    """The files of the library's data that a chapter declares to read."""
    return [file for file in declared_files(notebook, PACKAGE.parent) if file.is_relative_to(PACKAGE)]


def chapter_code(notebook: Path, *, drawn: bool = False) -> str:
    """Changes when a chapter may say something else: with its code, what that reaches, and the library's data that it declares.

    Versions do not count: a result says which it has. Nor do other files that it declares, such as what other chapters recorded.

    Args:
        drawn: also with what draws, judges and files results.

    Raises:
        icl_lib.source.CodeChanged: if code of the library was written since this process began.
    """
    key = notebook, stamp(notebook), frozenset() if drawn else FILING
    lineage.check(_chapter(*key))
    data = (lineage.text_hash(file.name, file.read_text(encoding="utf-8")) for file in library_data(notebook))
    return lineage.text_hash(_chapter_digest(*key), *data)[:16]


def tables(notebook: Path, book: Path) -> str:
    """Hash (16 hex digits) of what a chapter declares to read besides the library's data, as what others recorded; "" if nothing.

    Of a recorded result only the numbers count.
    """
    files = [file for file in declared_files(notebook, book) if not file.resolve().is_relative_to(PACKAGE)]
    said = []
    for file in files:
        if file.name == "result.json":
            clauses = read_json(file)["clauses"].items()
            text = f"{[(key, clause['value'], clause['control']) for key, clause in clauses]}"
        else:
            text = file.read_text(encoding="utf-8")
        said.append(f"{file.relative_to(book)}\n{text}")
    return lineage.text_hash(*said)[:16] if said else ""


def check_trains(notebook: Path, device: str, prefix: str = "") -> None:
    """Refuse another device than the CPU for a chapter that trains none of the networks that can use it.

    Raises:
        ConfigError: naming the device.
    """
    if device != "cpu":
        uses_it = ("icl_lib.device", "compute_device") in _chapter(notebook, stamp(notebook), FILING)
        require(uses_it, f"{prefix}device", device, "'cpu', this chapter trains nothing that can use a GPU")
