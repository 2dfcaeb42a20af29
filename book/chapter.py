"""What every chapter does: check its parameters, show figures with provenance, record its result."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import matplotlib.pyplot as plt
import pandas as pd
import torch
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from book.cells import EDITED, Cells
from book.claims import Measured, load_claims, result_json
from book.claims import if_measurable as if_measurable
from book.identity import chapter_code, check_trains, tables
from book.notebooks import chapter_files, declared, declared_files
from book.parameters import (
    is_of,
    ledger_setting,
    notebook_parameters,
    unknown,
)
from book.registry import find
from book.words import as_text, show
from icl_lib.device import compute_device, one_thread
from icl_lib.figures import save_figure, use_theme
from icl_lib.paths import out_dir, root, write_json
from icl_lib.provenance import versions
from icl_lib.source import WRITTEN, CodeChanged, check_unchanged, stamp
from icl_lib.twin import SIZE, is_twin
from icl_lib.validate import require, require_integer


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
        self.id, self.notebook, self.folder = found.id, found.notebook, out_dir() / found.id
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

    def figure(self, fig: Figure, name: str, data: pd.DataFrame) -> None:
        """Save a figure with the tidy data that it shows, display it with one line of provenance."""
        provenance = self._provenance()
        save_figure(fig, self.folder, name, data, provenance)
        display(fig)
        plt.close(fig)
        parts = [f"figures/{self.id}/{name}.csv", f"code {provenance['code_hash']}"]
        parts += [f"{self.parameters['n_seeds']} seeds"] if "n_seeds" in self.parameters else []
        parts += [EDITED] if self._cells.edited() else []
        parts += [] if self.device == "cpu" else [f"trained on {self.device}"]
        line = " · ".join([*parts, f"torch {torch.__version__.split('+')[0]}"])
        display(Markdown(f'<small class="provenance">{line}</small>'))

    def record(self, measured: Mapping[str, Measured]) -> Markdown:
        """Write result.json, and run.json with wall time and date; returns the verdict as a table."""
        claim = load_claims()[self.id]
        result = result_json(claim, measured, **self._provenance())
        write_json(self.folder / "result.json", result)
        took = {
            "wall_seconds": round(time.perf_counter() - self.started, 1),
            "date": datetime.now(UTC).isoformat("T", "minutes"),
        }
        write_json(self.folder / "run.json", took)
        ledgers = ledger_setting(root(), self.id, self.notebook)
        other = {k: v for k, v in self.parameters.items() if v != ledgers[k]}
        other |= {"code": EDITED} if self._cells.edited() else {}
        other |= {} if self.device == "cpu" else {"device": self.device}
        other |= {"twin": SIZE} if is_twin() else {}
        changed = ", ".join(f"{k} = {as_text(v)}" for k, v in other.items())
        setting = f" (not at the ledger's setting: {changed})" if changed else ""
        lines = [
            f"**Verdict on {self.id}: {result['verdict']}**{setting}",
            "",
            "| clause | criterion | measured | control | verdict |",
            "|---|---|---|---|---|",
        ]
        for key, entry in result["clauses"].items():  # type: ignore[attr-defined]
            criterion = ", ".join(f"{k} {v}" for k, v in claim.clauses[key].passes.items())
            m = measured[key]
            lines.append(f"| {key} | {criterion} | {show(m.value)} | {show(m.control)} | {entry['verdict']} |")
        return Markdown("\n".join(lines))
