"""The chapters of the book as the command sees them: by id, with title, parameters and measured run time."""

import csv
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.notebooks import chapter_files, read_cells
from book.parameters import Parameter, check_values, ledger_setting, load_table, nearest, read_parameters
from icl_lib.paths import read_yaml
from icl_lib.validate import ConfigError, require


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

    def injected(self, values: Mapping[str, object]) -> dict[str, object]:
        """Those values that are not the notebook's default: what a run has to be told."""
        default = self.values({})
        return {name: value for name, value in values.items() if value != default[name]}

    def changed(self, values: Mapping[str, object]) -> dict[str, object]:
        """Those values that are not of the ledger's setting: with any of them a run is exploratory."""
        setting = ledger_setting(self.book, self.id, self.notebook)
        return {name: value for name, value in values.items() if value != setting[name]}


def ledger(book: Path) -> dict[str, dict[str, Any]]:
    """The entries of ``claims.yml``, read without the library that judges them."""
    entries = read_yaml(book / "claims.yml") or {}
    require(isinstance(entries, dict), "file", str(book / "claims.yml"), "a mapping from claims to their entries")
    return dict(entries)


def asked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry of the ledger asks, without its title, the words in which pages tell the results, and whose they are: those move none."""
    clauses = {
        key: {name: value for name, value in clause.items() if name not in ("says", "ours")}
        for key, clause in entry.get("clauses", {}).items()
    }
    kept = {
        name: value for name, value in entry.items() if name not in ("finding", "tile", "first", "title", "clauses")
    }
    return kept | {"clauses": clauses}


def ours(entry: Mapping[str, Any]) -> dict[str, str]:
    """The clauses of a paper's claim that the paper does not say, each with its label."""
    clauses = entry.get("clauses", {}) if entry.get("paper") != "open" else {}
    return {key: clause["ours"] for key, clause in clauses.items() if clause.get("ours")}


def reduced(book: Path) -> dict[str, dict[str, Any]]:
    """Chapters that are tested at a smaller setting, by the path of their notebook, with the parameters of that."""
    file = book / "tests" / "reference" / "settings.yml"
    return dict(read_yaml(file) or {}) if file.is_file() else {}


def _places(book: Path, entries: Mapping[str, Any]) -> list[tuple[str, str, Path]]:
    """Id, label and file of every notebook, in the order of the ledger; one that measures no claim has its file's name as id."""
    ids = {str(entry.get("chapter")).removeprefix("chapters/"): id for id, entry in reversed([*entries.items()])}
    labels = {file.relative_to(book / "chapters").with_suffix("").as_posix(): file for file in chapter_files(book)}
    order = {id: number for number, id in enumerate(entries)}
    found = [(ids.get(label, file.stem), label, file) for label, file in labels.items()]
    return sorted(found, key=lambda place: order.get(place[0], len(order)))


def _chapter(
    place: tuple[str, str, Path], book: Path, entries: Mapping[str, Any], table: Mapping[str, dict[str, str]]
) -> ChapterFile | None:
    """What a notebook says of itself, its title by its first heading if the ledger has none; None if it has no parameters."""
    id, label, notebook = place
    entry, known = entries.get(id, {}), read_parameters(notebook, table.get(label, {}))
    texts = ["".join(cell["source"]) for cell in read_cells(notebook) if cell["cell_type"] == "markdown"]
    heading = next((text.partition("\n")[0].lstrip("# ") for text in texts if text.startswith("#")), notebook.stem)
    return ChapterFile(id, book, notebook, entry.get("title") or heading, entry, known) if known else None


def chapters(book: Path) -> list[ChapterFile]:
    """All chapters in the order of the ledger, then those that measure no claim; pages without parameters are none.

    A file that is no notebook is left out, with a warning that names it.
    """
    entries, table, found = ledger(book), load_table(book), []
    for place in _places(book, entries):
        try:
            found.append(_chapter(place, book, entries, table))
        except ConfigError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
    return [chapter for chapter in found if chapter]


def _named(name: str, places: Sequence[tuple[str, str, Path]], others: Sequence[str] = ()) -> tuple[str, str, Path]:
    wanted = name.removeprefix("chapters/").removesuffix(".ipynb")
    for id, label, file in places:
        if wanted.lower() in (id.lower(), file.stem.lower(), label.lower()):
            return id, label, file
    names = [*others, *(id for id, _, _ in places)]
    hint = nearest(wanted, [*names, *(file.stem for _, _, file in places)])
    raise ConfigError(f"chapter={name!r}: must be one of {', '.join(names)}{hint}")


def find_file(name: str, book: Path, others: Sequence[str] = ()) -> Path:
    """The notebook of a chapter by its claim (``L1``), its file's name (``L1_in_domain``) or its path; upper or lower case.

    Args:
        others: names that would have been understood as well, for the message.

    Raises:
        ConfigError: for a name that no chapter has, with the nearest ones.
    """
    return _named(name, _places(book, ledger(book)), others)[2]


def find(name: str, book: Path) -> ChapterFile:
    """A chapter by any name that `find_file` knows.

    Raises:
        ConfigError: for a name that no chapter has, and for a page without parameters.
    """
    entries = ledger(book)
    found = _chapter(_named(name, _places(book, entries)), book, entries, load_table(book))
    if found is None:
        raise ConfigError(f"chapter={name!r}: must be a chapter with parameters, which this page has not")
    return found


def run_seconds(chapter: ChapterFile) -> float | None:
    """Measured run time at the default setting: this machine's last build if there is one, else the recorded one."""
    built = chapter.book / "_build" / "book" / "run" / "chapters" / f"{chapter.label}.ipynb"
    try:
        return float(json.loads(built.read_text(encoding="utf-8"))["metadata"]["icl_book"]["seconds"])
    except (OSError, ValueError, KeyError, TypeError):  # none, half of one, or of another version
        pass
    return recorded_seconds(chapter)


def recorded_seconds(chapter: ChapterFile) -> float | None:
    """Run time at the default setting as committed in ``benchmarks/commands.csv``, or None if it has not been measured."""
    names = (chapter.label, f"make book CHAPTER={chapter.notebook.stem}")  # the latter of a heavy chapter, timed alone
    recorded = chapter.book / "benchmarks" / "commands.csv"
    rows = csv.DictReader(recorded.read_text(encoding="utf-8").splitlines()) if recorded.is_file() else ()
    return next((float(row["seconds"]) for row in rows if row["command"] in names), None)


def cell_count(chapter: ChapterFile) -> int:
    """How many code cells a run executes."""
    cells = read_cells(chapter.notebook)
    return sum(cell["cell_type"] == "code" and bool("".join(cell["source"]).strip()) for cell in cells)
