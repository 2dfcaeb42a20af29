"""Where the book lies and where a chapter writes."""

import os
from pathlib import Path


def root() -> Path:
    """Folder of the book: the nearest one above the working directory that holds ``claims.yml``.

    Raises:
        FileNotFoundError: outside a checkout of the book.
    """
    here = Path.cwd().resolve()
    for folder in (here, *here.parents):
        if (folder / "claims.yml").is_file():
            return folder
    raise FileNotFoundError(f"no claims.yml in {here} or above: run from inside the book's checkout")


def out_dir() -> Path:
    """Folder that chapters write to: ``$ICL_BOOK_OUT``, by default ``_build/out`` in the book."""
    chosen = os.environ.get("ICL_BOOK_OUT")
    return Path(chosen).resolve() if chosen else root() / "_build" / "out"


def cache_dir() -> Path:
    """Folder of trained ensembles, safe to delete at any time."""
    return root() / "_build" / "cache"
