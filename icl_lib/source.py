"""The code on disk, and whether it is still the code that runs.

A process reads a module once. What is written into the file later is not what runs, so no result may be filed under its hash:
`check_unchanged` is asked before a result or a trained network is kept.
"""

import ast
import contextlib
import importlib.util
import json
import marshal
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
# Where code stands that may decide what a chapter says, by the names that Python imports.
PACKAGES = {name: PACKAGE.parent / name for name in ("icl_lib", "studies", "book")}
Stamp = tuple[int, int, int]  # when a file was written, when that was entered, and its size


class CodeChanged(RuntimeError):
    """Code was written while it ran: what came out is of the code before, or of both, and is not kept."""


def stamp(file: Path) -> Stamp:
    """Changes whenever a file is written, also when it is put back as it was."""
    found = file.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _sources() -> dict[Path, Stamp]:
    found = {}
    for file in (file for folder in PACKAGES.values() for file in folder.rglob("[!.]*.py")):
        with contextlib.suppress(OSError):  # gone meanwhile, or a link to nothing
            found[file] = stamp(file)
    return found


BEGUN = _sources()  # before this process read the others
WRITTEN = "was written while its code ran: nothing is kept under its name, start again (in Jupyter: restart the kernel)"


def check_unchanged(files: Iterable[Path], since: Mapping[Path, Stamp] | None = None) -> None:
    """Raise `CodeChanged` if one of these files was written since; by default, since this process began."""
    known = BEGUN if since is None else since
    for file in files:
        if not file.is_file() or known.get(file) != stamp(file):
            raise CodeChanged(f"{file} {WRITTEN}")
        if file.suffix == ".py" and not _compiled(file):
            raise CodeChanged(f"{file} is not what Python has compiled of it: remove {file.parent / '__pycache__'}")


@cache
def _compiled(file: Path) -> bool:
    """Whether what Python runs is this file: it trusts any compiled file whose time (in seconds) and size agree."""
    kept = Path(importlib.util.cache_from_source(str(file)))
    if not kept.is_file() or kept.stat().st_mtime_ns > stamp(file)[1]:
        return True  # compiled after the file was written
    head, content = kept.read_bytes()[:16], file.stat()
    ours = [int(content.st_mtime) & 0xFFFFFFFF, content.st_size & 0xFFFFFFFF]
    taken = head[4:8] == bytes(4) and [int.from_bytes(head[i : i + 4], "little") for i in (8, 12)] == ours
    # Compared as code: equal code can be written down in several ways.
    return not taken or bool(marshal.loads(kept.read_bytes()[16:]) == compile(file.read_bytes(), str(file), "exec"))


def module_file(name: str) -> Path | None:
    """File of a module in ``PACKAGES``, or None if there is no such module."""
    package, *inner = name.split(".")
    base = PACKAGES.get(package, PACKAGE).joinpath(*inner)
    for file in (base / "__init__.py", base.with_suffix(".py")):  # in the order in which Python looks
        if package in PACKAGES and file.is_file():
            return file
    return None


def canonical(node: object) -> str:
    """A syntax tree as text that all versions of Python agree on: no positions, no fields that are empty.

    >>> canonical(ast.parse("x = 1  # one")) == canonical(ast.parse("x=1"))
    True
    """
    if isinstance(node, ast.JoinedStr):  # some versions put an empty text into a nested one
        node = ast.JoinedStr([part for part in node.values if getattr(part, "value", None) != ""])
    if isinstance(node, ast.AST):
        parts = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={canonical(value)}' for name, value in parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return ascii(node)  # repr depends on which characters a version can print


def notebook_cells(notebook: Path) -> list[str]:
    """The sources of the code cells of a notebook; cells injected by papermill are left out."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def notebook_code(notebook: Path) -> ast.Module:
    """The code cells of a notebook (`notebook_cells`) as one syntax tree.

    Raises:
        ConfigError: for a cell that is no Python, with its number among the cells of code.
    """
    found: list[ast.stmt] = []
    for number, text in enumerate(notebook_cells(notebook), 1):
        try:
            found += cell_code(text).body
        except SyntaxError as error:
            from icl_lib.validate import ConfigError  # not before this module has looked at the files

            place = f"notebook={str(notebook)!r}: must be Python in code cell {number}"
            raise ConfigError(f"{place}: {error.msg}") from None
    return ast.Module(found, [])


def cell_code(source: str) -> ast.Module:
    """A cell as a syntax tree, without lines that are commands of Jupyter's."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.M))
