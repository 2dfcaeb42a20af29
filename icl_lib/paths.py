"""Where the book lies, where a chapter writes, and how a file is written so that nobody sees half of it."""

import errno
import json
import os
import re
import secrets
import tempfile
import warnings
from pathlib import Path
from typing import Any

import yaml

from icl_lib.validate import ConfigError


def root(start: Path | None = None) -> Path:
    """Folder of the book: the nearest one above `start`, by default the working directory, that holds ``claims.yml``.

    Raises:
        FileNotFoundError: outside a checkout of the book, or in another one than that of the library which runs.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "claims.yml").is_file():
            ours, its = Path(__file__).resolve().parent, folder / "icl_lib"
            if its.is_dir() and its.resolve() != ours:
                remedy = f"use the environment of {folder} (make env there makes it), or set PYTHONPATH={folder}"
                raise FileNotFoundError(f"the library that runs is {ours}, not that of this checkout: {remedy}")
            return folder
    raise FileNotFoundError(f"no claims.yml in {here} or above: run from inside the book's checkout")


def out_dir() -> Path:
    """Folder that chapters write to: ``$ICL_BOOK_OUT``, by default ``_build/out`` in the book."""
    chosen = os.environ.get("ICL_BOOK_OUT")
    return Path(chosen).resolve() if chosen else root() / "_build" / "out"


def cache_dir() -> Path:
    """Folder of trained ensembles, safe to delete at any time: ``$ICL_BOOK_CACHE``, by default ``_build/cache`` in the book.

    Where that cannot be written, as in a read-only checkout, a temporary folder of the user's, with a warning.
    """
    chosen = os.environ.get("ICL_BOOK_CACHE")
    if chosen:
        return Path(chosen).resolve()
    usual = root() / "_build" / "cache"
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
    except OSError:
        pass
    instead = own_temporary() / "cache"
    instead.mkdir(exist_ok=True)
    said = f"{usual} cannot be written: trained models are kept in {instead} (or in $ICL_BOOK_CACHE)"
    warnings.warn(said, stacklevel=2)
    return instead


def own_temporary() -> Path:
    """A folder of this user's among the temporary ones.

    Raises:
        PermissionError: if somebody else has taken its name.
    """
    folder = Path(tempfile.gettempdir()) / f"icl-book-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "belongs to somebody else", str(folder))
    return folder


def read_yaml(path: Path) -> Any:
    """What a YAML file says; if it cannot be read, a ConfigError with its name and the line."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ConfigError(f"file={str(path)!r}: must be YAML in UTF-8; {error}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"file={str(path)!r}: must be YAML; line {line}: {error.problem}") from error


def read_json(path: Path) -> Any:
    """What a JSON file says; if it cannot be read, a ConfigError with its name and the line."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        merge = ", there are merge markers in it" if re.search(r"^<<<<<<< ", text, re.M) else ""
        raise ConfigError(f"file={str(path)!r}: must be JSON; line {error.lineno}: {error.msg}{merge}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file under its name only when it is complete; who may read it, the umask says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{secrets.token_hex(6)}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically, keys sorted, so that equal contents give equal files."""
    write_atomic(path, (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode())
