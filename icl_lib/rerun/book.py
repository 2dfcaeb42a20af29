"""The chapters of the book as the command sees them: by id, with title, parameters and measured run time."""

import csv
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from icl_lib.parameters import Parameter, check_values, load_table, notebook_parameters, read_parameters
from icl_lib.validate import ConfigError


@dataclass(frozen=True)
class ChapterFile:
    """One chapter: the claim it measures (or its file's name), its notebook, and what can be changed in it."""

    id: str
    book: Path
    notebook: Path
    title: str
    entry: Mapping[str, Any]  # of the ledger; empty for a chapter that measures no claim
    parameters: Mapping[str, Parameter]

    @property
    def label(self) -> str:
        """How messages and tables call the chapter, such as ``softmax/L1_in_domain``."""
        return str(self.notebook.relative_to(self.book / "chapters").with_suffix(""))

    def values(self, given: Mapping[str, object]) -> dict[str, object]:
        """All parameters: the given values, checked, and defaults.

        Raises:
            ConfigError: naming chapter, parameter, value and what is allowed.
        """
        return check_values(self.parameters, given, f"{self.id}: ")

    def changed(self, values: Mapping[str, object]) -> dict[str, object]:
        """Those values that are not the default: with any of them a run is exploratory."""
        default = self.values({})
        return {name: value for name, value in values.items() if value != default[name]}


def ledger(book: Path) -> dict[str, dict[str, Any]]:
    """The entries of ``claims.yml``, read without the library that judges them."""
    return yaml.load((book / "claims.yml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def chapters(book: Path) -> list[ChapterFile]:
    """All chapters in the order of the ledger, then those that measure no claim; pages without parameters are none."""
    entries, table, found = ledger(book), load_table(book), []
    claims = {entry["chapter"]: id for id, entry in entries.items() if "chapter" in entry}
    for notebook in sorted((book / "chapters").rglob("*.ipynb")):
        if notebook.parent.name == ".ipynb_checkpoints" or not notebook_parameters(notebook):
            continue
        label = str(notebook.relative_to(book / "chapters").with_suffix(""))
        id = claims.get(f"chapters/{label}", notebook.stem)
        entry = entries.get(id, {})
        known = read_parameters(notebook, table.get(label, {}))
        found.append(ChapterFile(id, book, notebook, entry.get("title") or _heading(notebook), entry, known))
    order = list(entries)
    return sorted(found, key=lambda c: (order.index(c.id) if c.id in entries else len(order), c.label))


def _heading(notebook: Path) -> str:
    """The first heading of a notebook."""
    cells = json.loads(notebook.read_text())["cells"]
    lines = ("".join(cell["source"]).partition("\n")[0] for cell in cells if cell["cell_type"] == "markdown")
    return next((line.lstrip("# ") for line in lines if line.startswith("#")), notebook.stem)


def find(name: str, book: Path) -> ChapterFile:
    """A chapter by its claim (``L1``), its file's name (``L1_in_domain``) or its path below ``chapters``; upper or lower case.

    Raises:
        ConfigError: for a name that no chapter has, with the nearest ones.
    """
    known = chapters(book)
    wanted = name.removeprefix("chapters/").removesuffix(".ipynb")
    for chapter in known:
        if wanted.lower() in (text.lower() for text in (chapter.id, chapter.notebook.stem, chapter.label)):
            return chapter
    names = [chapter.id for chapter in known]
    near = difflib.get_close_matches(wanted, [*names, *(chapter.notebook.stem for chapter in known)], n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ConfigError(f"chapter={name!r}: must be one of {', '.join(names)}{hint}")


def run_seconds(chapter: ChapterFile) -> float | None:
    """Measured run time at the default setting: this machine's last build if there is one, else the recorded one."""
    built = chapter.book / "_build" / "book" / "run" / "chapters" / f"{chapter.label}.ipynb"
    if built.is_file():
        return float(json.loads(built.read_text())["metadata"]["icl_book"]["seconds"])
    return recorded_seconds(chapter)


def recorded_seconds(chapter: ChapterFile) -> float | None:
    """Run time at the default setting as committed in ``benchmarks/commands.csv``, or None if it has not been measured."""
    names = (chapter.label, f"make book CHAPTER={chapter.notebook.stem}")  # the latter of a heavy chapter, timed alone
    recorded = chapter.book / "benchmarks" / "commands.csv"
    if recorded.is_file():
        with recorded.open() as file:
            for row in csv.DictReader(file):
                if row["command"] in names:
                    return float(row["seconds"])
    return None


def cell_count(chapter: ChapterFile) -> int:
    """How many code cells a run executes."""
    cells = json.loads(chapter.notebook.read_text())["cells"]
    return sum(cell["cell_type"] == "code" and bool("".join(cell["source"]).strip()) for cell in cells)
