"""Which files below ``chapters/`` are notebooks of the book, and what is read of one."""

import json
import re
from pathlib import Path
from typing import Any

from icl_lib.validate import ConfigError, require

COPY = "*-Copy[0-9]*.ipynb"  # what Jupyter calls a copy
MERGE = re.compile(r"^<<<<<<< ", re.M)
DRAWN = re.compile(r'chapter\.figure\(\s*\w+,\s*"(\w+)"')


def chapter_files(book: Path) -> list[Path]:
    """All notebooks below ``chapters/``, sorted, but for hidden files and folders (``._L1.ipynb``) and Jupyter's copies."""
    found = (book / "chapters").rglob("*.ipynb")
    shown = (p for p in found if not any(part.startswith(".") for part in p.relative_to(book).parts))
    return sorted(p for p in shown if p.is_file() and not p.match(COPY))


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook.

    Raises:
        ConfigError: if the file is no notebook; the message names it.
    """
    text = notebook.read_text(encoding="utf-8", errors="replace")
    try:
        cells = json.loads(text)["cells"]
        ok = all(isinstance(cell["source"], str | list) and isinstance(cell["metadata"], dict) for cell in cells)
    except (ValueError, KeyError, TypeError):
        ok = False
    if not ok:
        merge = MERGE.search(text)
        why = f", there are merge markers in line {text.count(chr(10), 0, merge.start()) + 1}" if merge else ""
        raise ConfigError(f"notebook={str(notebook)!r}: must be a notebook{why}")
    return list(cells)


def declared_files(notebook: Path, book: Path) -> list[Path]:
    """The files of a book that a notebook declares to read."""
    return [file for pattern in declared(notebook)["reads"] for file in sorted(book.glob(pattern))]


def declared(notebook: Path) -> dict[str, list[str]]:
    """What a notebook says that it depends on besides code, under ``icl`` in its metadata.

    "reads": files, as patterns from the book's folder; "packages": those whose version moves its numbers, besides the usual
    ones (`provenance.PACKAGES`).

    Raises:
        ConfigError: for anything else under ``icl``.
    """
    read_cells(notebook)  # or refused with its name
    said = json.loads(notebook.read_text(encoding="utf-8")).get("metadata", {}).get("icl", {})
    found = {"reads": [], "packages": [], **(said if isinstance(said, dict) else {"icl": said})}
    ok = set(found) == {"reads", "packages"}
    ok = ok and all(isinstance(v, list) and all(isinstance(name, str) for name in v) for v in found.values())
    require(ok, f"{notebook.name}: metadata.icl", said, "lists of names, as reads and packages")
    return found


def figure_anchor(id: str, name: str) -> str:
    """The anchor that rendering gives to a figure whose cell does not name it."""
    return f"fig-{id}-{name}".lower().replace("_", "-")


def main_figure(id: str, notebook: Path, name: str = "") -> tuple[str, str] | None:
    """File name (without ending) and anchor of the main figure of claim ``id``; None if its notebook draws none.

    Args:
        name: of the file; the first figure if it is empty.
    """
    for cell in read_cells(notebook):
        drawn = DRAWN.search("".join(cell["source"]))
        if drawn and name in ("", drawn[1]):
            named = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            return drawn[1], named or figure_anchor(id, drawn[1])
    return None
