"""Where the book lies, where a chapter writes, and how a file is written so that nobody sees half of it."""

import json
import os
import tempfile
from pathlib import Path


def root() -> Path:
    """Folder of the book: the nearest one above the working directory that holds ``claims.yml``.

    Raises:
        FileNotFoundError: outside a checkout of the book, or in another one than that of the library which runs.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "claims.yml").is_file():
            ours, its = Path(__file__).resolve().parent, folder / "icl_lib"
            if its.is_dir() and its.resolve() != ours:
                remedy = f"use the environment of {folder} (make env there makes it)"
                raise FileNotFoundError(f"the library that runs is {ours}, not that of this checkout: {remedy}")
            return folder
    raise FileNotFoundError(f"no claims.yml in {here} or above: run from inside the book's checkout")


def out_dir() -> Path:
    """Folder that chapters write to: ``$ICL_BOOK_OUT``, by default ``_build/out`` in the book."""
    chosen = os.environ.get("ICL_BOOK_OUT")
    return Path(chosen).resolve() if chosen else root() / "_build" / "out"


def cache_dir() -> Path:
    """Folder of trained ensembles, safe to delete at any time."""
    return root() / "_build" / "cache"


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under its name only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).chmod(0o644)
    Path(name).replace(path)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically, keys sorted, so that equal contents give equal files."""
    write_atomic(path, (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
