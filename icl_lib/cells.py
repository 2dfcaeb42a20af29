"""Whether the cells that a kernel has run are those of the saved notebook: in Jupyter, they need not be."""

import ast
from collections.abc import Sequence
from pathlib import Path

from IPython.core.getipython import get_ipython

from icl_lib.source import canonical, cell_code, notebook_cells

EDITED = "cells edited or run in another order, not the saved chapter"


def _parsed(cells: Sequence[str]) -> list[ast.Module]:
    """Cells that say something; one that is no Python has not run."""
    found = []
    for text in cells:
        try:
            found.append(cell_code(text))
        except SyntaxError:
            continue
    return [cell for cell in found if cell.body]


def _sets_parameters(cell: ast.Module) -> bool:
    """Plain values under plain names, as in the cell of parameters: a chapter takes them as it finds them."""
    for line in cell.body:
        if not isinstance(line, ast.Assign | ast.AnnAssign) or line.value is None:
            return False
        try:
            ast.literal_eval(line.value)
        except ValueError:
            return False
    return True


def are_saved(ran: Sequence[str], begun: int, saved: Sequence[str]) -> bool:
    """Whether a kernel ran what is saved.

    Args:
        ran: the sources of all cells that it has run.
        begun: which of them began the chapter. From it on, the saved cells must have run one after the other, once; before it,
            saved cells may have run in any order, and values may have been set.
        saved: the sources of the saved cells.
    """
    known = [canonical(cell) for cell in _parsed(saved)]
    before, since = _parsed(ran[:begun]), [canonical(cell) for cell in _parsed(ran[begun:])]
    if any(canonical(cell) not in known and not _sets_parameters(cell) for cell in before):
        return False
    return any(known[i : i + len(since)] == since for i in range(len(known)))


class Cells:
    """The cells of this kernel, from the one that runs now on; outside of IPython there are none to compare."""

    def __init__(self, notebook: Path) -> None:
        self._saved, self._begun = notebook_cells(notebook), len(self.ran()) - 1

    @staticmethod
    def ran() -> list[str]:
        """What this kernel has run so far."""
        shell = get_ipython()
        kept = getattr(shell, "history_manager", None)
        return [] if kept is None else list(kept.input_hist_raw)

    def edited(self) -> bool:
        """Whether something else ran than what is saved."""
        ran = self.ran()
        return bool(ran) and not are_saved(ran, self._begun, self._saved)
