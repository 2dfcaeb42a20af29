"""What every chapter does: check its parameters, show figures with provenance, record its result.

In Jupyter, the cells that a kernel has run need not be those of the saved notebook: then the result says so.
"""

import ast
import linecache
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.core.getipython import get_ipython
from IPython.core.inputtransformer2 import TransformerManager
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from book.claims import Measured, load_claims, result_json
from book.claims import if_measurable as if_measurable
from book.identity import chapter_code, check_trains, tables
from book.notebooks import chapter_files, declared, declared_files
from book.parameters import is_of, notebook_parameters, unknown
from book.registry import find
from book.words import as_text, in_words, show
from icl_lib.device import compute_device, one_thread
from icl_lib.figures import save_figure, use_theme
from icl_lib.paths import out_dir, root, write_json
from icl_lib.provenance import versions
from icl_lib.source import WRITTEN, CodeChanged, canonical, check_unchanged, notebook_cells, stamp
from icl_lib.twin import SIZE, is_twin
from icl_lib.validate import require, require_integer

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


def _canonical(cells: Sequence[str]) -> list[str]:
    """What cells compute, in a form in which spaces and comments do not count."""
    return [canonical(cell) for cell in _parsed(cells)]


def are_saved(before: Sequence[str], since: Sequence[str], saved: Sequence[str]) -> bool:
    """Whether a kernel ran what is saved.

    Args:
        before: what it ran before the cell that began the chapter: saved cells in any order, or cells that set values.
        since: that cell and what ran after it: saved cells, one after the other, once.
        saved: the sources of the saved cells.
    """
    known, ran = _canonical(saved), _canonical(since)
    if any(canonical(cell) not in known and not _sets_parameters(cell) for cell in _parsed(before)):
        return False
    return bool(ran) and any(known[i : i + len(ran)] == ran for i in range(len(known)))


class Cells:
    """The cells of this kernel, from the one that makes a `Chapter` on; outside of IPython there are none."""

    def __init__(self, notebook: Path) -> None:
        self._saved, self._since, shell = notebook_cells(notebook), list[str](), get_ipython()
        kept = getattr(shell, "history_manager", None)
        self._before = [] if kept is None else list(kept.input_hist_raw)
        if shell is not None:
            # Which cell this is, also where none is put into the history.
            own = "".join(linecache.getlines(sys._getframe(2).f_code.co_filename))
            if (ran := _canonical([own])) and ran == _canonical(self._before[-1:]):
                self._before.pop()
            self._since.append(own)
            shell.events.register("pre_run_cell", self._runs)

    def _runs(self, info: Any) -> None:
        self._since.append(info.raw_cell)

    def edited(self) -> bool:
        """Whether something else ran than what is saved."""
        return bool(self._since) and not are_saved(self._before, self._since, self._saved)


def check_parameters(known: Mapping[str, str], namespace: Mapping[str, object]) -> dict[str, object]:
    """The values of the known parameters; refuses unknown names and wrong types.

    Must run right after the parameters cell: any plain value that is then defined under another
    name was injected from outside, most likely with a slip of the pen.
    """
    plain = {k: v for k, v in namespace.items() if isinstance(v, int | float | str | list | dict | None)}
    for name in plain:
        if not (name.startswith("_") or name.isupper() or name in known or name in ("In", "Out")):
            raise unknown(name, plain[name], known)
    for name, kind in known.items():
        require(is_of(namespace[name], kind), name, namespace[name], f"of type {kind}")
    return {name: namespace[name] for name in known}


class Chapter:
    """A running chapter: ``Chapter("L1", globals())``, in the cell after the parameters.

    Raises:
        ConfigError: for a parameter that the chapter does not have, or whose value it does not allow; for a device it cannot use.
    """

    def __init__(self, id: str, namespace: Mapping[str, object]) -> None:
        found = find(id, root())
        others = [n for n in chapter_files(root()) if n != found.notebook and n.stem.startswith(f"{found.id}_")]
        require(not others, "id", id, f"that of one chapter, not of {', '.join(n.name for n in others)} too")
        self._file, self.id, self.notebook, self.folder = found, found.id, found.notebook, out_dir() / found.id
        self._code, self._cells = chapter_code(self.notebook), Cells(self.notebook)
        self._tables = tables(self.notebook, root())
        self._data = {file: stamp(file) for file in declared_files(self.notebook, root())}
        self.parameters = check_parameters(notebook_parameters(self.notebook), namespace)
        found.values(self.parameters)
        if "n_seeds" in self.parameters:
            require_integer("n_seeds", self.parameters["n_seeds"], 2, allowed="at least 2: intervals are over seeds")
        self.device = str(compute_device())
        check_trains(self.notebook, self.device)
        self.started = time.perf_counter()
        one_thread()
        use_theme()

    def _provenance(self) -> dict[str, object]:
        check_unchanged(self._data, self._data)
        if chapter_code(self.notebook) != self._code:
            raise CodeChanged(f"{self.notebook} {WRITTEN}")
        return {
            "chapter": self.notebook.stem,
            "code_hash": self._code + "-edited" * self._cells.edited(),
            "parameters": self.parameters,
            **({"tables": self._tables} if self._tables else {}),
            "versions": versions(self.device, declared(self.notebook)["packages"]),
        }

    def figure(self, fig: Figure, name: str, data: pd.DataFrame, n_seeds: int | None = None) -> None:
        """Save a figure with the tidy data that it shows, display it with one line of provenance.

        Args:
            n_seeds: how many seeds it shows, where that is not the chapter's parameter of this name.
        """
        provenance = self._provenance()
        save_figure(fig, self.folder, name, data, provenance)
        display(fig)
        plt.close(fig)
        parts = [f"figures/{self.id}/{name}.csv", f"code {provenance['code_hash']}"]
        shown = self.parameters.get("n_seeds") if n_seeds is None else n_seeds
        parts += [] if shown is None else [f"{shown} seeds"]
        parts += [EDITED] if self._cells.edited() else []
        parts += [] if self.device == "cpu" else [f"trained on {self.device}"]
        line = " · ".join([*parts, f"torch {torch.__version__.split('+')[0]}"])
        display(Markdown(f'<small class="provenance">{line}</small>'))

    def record(self, measured: Mapping[str, Measured]) -> Markdown:
        """Write result.json, and run.json with wall time and date; returns the verdict as a table."""
        claim = load_claims()[self.id]
        result = result_json(claim, measured, **self._provenance())
        write_json(self.folder / "result.json", result)
        seconds, date = round(time.perf_counter() - self.started, 1), datetime.now(UTC).isoformat("T", "minutes")
        write_json(self.folder / "run.json", {"wall_seconds": seconds, "date": date})
        other = self._file.changed(self.parameters)
        other |= {"code": EDITED} if self._cells.edited() else {}
        other |= {} if self.device == "cpu" else {"device": self.device}
        other |= {"twin": SIZE} if is_twin() else {}
        changed = in_words({name: as_text(value) for name, value in other.items()})
        setting = f" (not at the ledger's setting: {changed})" if changed else ""
        lines = [f"**Verdict on {self.id}: {result['verdict']}**{setting}", ""]
        lines += ["| clause | criterion | measured | control | verdict |", "|---|---|---|---|---|"]
        for key, entry in result["clauses"].items():  # type: ignore[attr-defined]
            criterion = ", ".join(f"{k} {v}" for k, v in claim.clauses[key].passes.items())
            m = measured[key]
            lines.append(f"| {key} | {criterion} | {show(m.value)} | {show(m.control)} | {entry['verdict']} |")
        return Markdown("\n".join(lines))
