"""Whether the cells that a kernel has run are those of the saved notebook: in Jupyter, they need not be."""

import ast
import linecache
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.core.inputtransformer2 import TransformerManager

from icl_lib.source import canonical, notebook_cells

EDITED = "cells edited or run in another order, not the saved chapter: restart the kernel"
SHOWS = ("config", "matplotlib", "pinfo", "pinfo2", "who", "whos")  # magics that compute nothing
IN_PLACE = ("capture", "time")  # magics of a whole cell, which runs as it stands


def _magic(line: ast.stmt) -> tuple[str, str, list[str]]:
    """Function, name and what follows of a line that IPython has made of a magic; else empty."""
    call = line.value if isinstance(line, ast.Expr) else None
    called = call.func if isinstance(call, ast.Call) else None
    if isinstance(call, ast.Call) and isinstance(called, ast.Attribute) and called.attr.startswith("run_"):
        texts = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if texts:
            return called.attr, texts[0], texts[1:]
    return "", "", []


def _parsed(cells: Sequence[str]) -> Iterator[ast.Module]:
    """What cells compute, as IPython runs them; those that it cannot read have not run."""
    for text in cells:
        try:
            cell = ast.parse(TransformerManager().transform_cell(text))
            function, name, rest = _magic(cell.body[0]) if cell.body else ("", "", [])
            if function == "run_cell_magic" and name in IN_PLACE:
                cell = ast.parse(TransformerManager().transform_cell(rest[-1]))
        except (SyntaxError, ValueError):
            continue
        cell.body = [line for line in cell.body if _magic(line)[0] != "run_line_magic" or _magic(line)[1] not in SHOWS]
        if cell.body:
            yield cell


def _sets_parameters(cell: ast.Module) -> bool:
    """Plain values under plain names, as in the cell of parameters: a chapter takes them as it finds them."""
    for line in cell.body:
        targets = line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
        if not isinstance(line, ast.Assign | ast.AnnAssign) or not all(isinstance(one, ast.Name) for one in targets):
            return False
        if line.value is None or ast.unparse(line.value) in ("float('nan')", "float('inf')", "float('-inf')"):
            continue
        try:
            ast.literal_eval(line.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
    return True


def are_saved(before: Sequence[str], since: Sequence[str], saved: Sequence[str]) -> bool:
    """Whether a kernel ran what is saved.

    Args:
        before: what it ran before the cell that began the chapter: saved cells in any order, or cells that set values.
        since: that cell and what ran after it: saved cells, one after the other, once.
        saved: the sources of the saved cells.
    """
    known = [canonical(cell) for cell in _parsed(saved)]
    if any(canonical(cell) not in known and not _sets_parameters(cell) for cell in _parsed(before)):
        return False
    ran = [canonical(cell) for cell in _parsed(since)]
    return bool(ran) and any(known[i : i + len(ran)] == ran for i in range(len(known)))


class Cells:
    """The cells of this kernel, from the one that calls `depth` frames up on; outside of IPython there are none."""

    def __init__(self, notebook: Path, depth: int = 2) -> None:
        self._saved, self._since, shell = notebook_cells(notebook), list[str](), get_ipython()
        kept = getattr(shell, "history_manager", None)
        self._before = [] if kept is None else list(kept.input_hist_raw)
        if shell is not None:
            # Which cell this is, also where none is put into the history.
            own = "".join(linecache.getlines(sys._getframe(depth).f_code.co_filename))
            if self._before and [*_parsed([own])] and canonical_of(self._before[-1]) == canonical_of(own):
                self._before.pop()
            self._since.append(own)
            shell.events.register("pre_run_cell", self._runs)

    def _runs(self, info: Any) -> None:
        self._since.append(info.raw_cell)

    def edited(self) -> bool:
        """Whether something else ran than what is saved."""
        return bool(self._since) and not are_saved(self._before, self._since, self._saved)


def canonical_of(text: str) -> list[str]:
    """A cell's code in a form in which spaces and comments do not count."""
    return [canonical(cell) for cell in _parsed([text])]
