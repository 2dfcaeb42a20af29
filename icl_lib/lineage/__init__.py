"""What a number comes from: the definitions that a trainer or a chapter can reach, without what moves no number.

- `stripped` takes out of code what moves no number: types, docstrings, and the words of refusals and errors.
- `reach` follows names from definition to definition, so that only what is reached counts, wherever it stands.
- `trigger` is the hash of that. Another trigger does not mean other numbers: where a trainer's probes come out to the bit, its
  results keep the `lineage` that they had (``data/lineages.csv``, written by ``python -m tools.vouch``).

What lies outside ``icl_lib`` and ``studies`` counts by its version (`provenance.versions`); data that a chapter reads, by what its metadata
declares (`icl_lib.notebooks.declared`).
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from icl_lib.lineage.reach import Reached, Symbol, attributes, links, module, reached, read
from icl_lib.lineage.stripped import stripped
from icl_lib.notebooks import declared_files
from icl_lib.paths import read_json
from icl_lib.source import PACKAGE, Stamp, canonical, check_unchanged, module_file, notebook_code, stamp
from icl_lib.validate import require

BEGIN = ("icl_lib.device", "one_thread")  # every chapter begins with it
ROUNDS = 4  # in which definitions take up what their names stand for
TABLE = PACKAGE / "data" / "lineages.csv"
# Modules that draw, judge, file or name results: a change there re-runs a chapter but makes no result stale.
FILING = frozenset(
    f"icl_lib.{name}"
    for name in (
        *("cells", "chapter", "figures", "provenance", "rounding", "scoreboard", "source"),
        *("lineage", "lineage.reach", "lineage.stripped"),
    )
)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def digest(found: Mapping[Symbol, Reached]) -> str:
    """Hash (16 hex digits) of definitions and of what their names stand for; where they stand does not matter.

    Every definition begins as its text. Then, in a few rounds, it takes up those that its names lead to: two definitions of
    the same name that change places are noticed by whoever uses them.
    """
    labels = {symbol: _hash(*map(canonical, one.trees)) for symbol, one in found.items()}
    for _ in range(ROUNDS):
        labels = {
            symbol: _hash(labels[symbol], *sorted(f"{name} {labels.get(t, t)}" for name, t in one.names))
            for symbol, one in found.items()
        }
    return _hash(*sorted(label for symbol, label in labels.items() if found[symbol].trees))[:16]


@cache
def _found(*names: str) -> dict[Symbol, Reached]:
    start = []
    for name in names:
        where, _, own = name.rpartition(".")
        require(module_file(where) is not None and own in module(where).defined, "name", name, "defined in the library")
        start.append((where, own))
    return reached(start, FILING)


@cache
def _digest(*names: str) -> str:
    return digest(_found(*names))


def check(found: Iterable[Symbol]) -> None:
    """Raise `source.CodeChanged` if a module of these definitions was written since this process began.

    One that is gone does not compute: whoever needs it fails by itself.
    """
    check_unchanged(file for where in {where for where, _ in found if where} for file in [module_file(where)] if file)


def trigger(*names: str) -> str:
    """Changes when what functions reach may compute something else.

    Args:
        names: such as ``icl_lib.softmax.train.train``.

    Raises:
        icl_lib.source.CodeChanged: if it is not the code that runs.
    """
    check(_found(*names))
    return _digest(*names)


def lineage(name: str) -> str:
    """Under what the results of a trainer are kept: its trigger, or an earlier one whose results were the same to the bit.

    Raises:
        icl_lib.source.CodeChanged: if the code on disk is not the code that runs; so it is also asked for before results are saved.
    """
    now = trigger(name)
    with TABLE.open(encoding="utf-8", newline="") as rows:
        known = {row["trigger"]: row["lineage"] for row in csv.DictReader(rows) if row["trainer"] == name}
    return known.get(now, now)


@cache
def _chapter(notebook: Path, written: Stamp, without: frozenset[str]) -> dict[Symbol, Reached]:
    code = notebook_code(notebook)
    known = read(code)
    own = [new for node in code.body for new in [stripped(node)] if new is not None]  # in the order of the cells
    leads = {link for tree in own for link in links(tree, known, "", without)}
    found = reached(
        [*(target for _, target in leads), BEGIN], without, {name for tree in own for name in attributes(tree)}
    )
    return {**found, ("", notebook.stem): Reached(own, leads)}


@cache
def _chapter_digest(notebook: Path, written: Stamp, without: frozenset[str]) -> str:
    return digest(_chapter(notebook, written, without))


def library_data(notebook: Path) -> list[Path]:
    """The files of the library's data that a chapter declares to read."""
    return [file for file in declared_files(notebook, PACKAGE.parent) if file.is_relative_to(PACKAGE)]


def chapter_code(notebook: Path, *, drawn: bool = False) -> str:
    """Changes when a chapter may say something else: with its code, what that reaches, and the library's data that it declares.

    Versions do not count: a result says which it has. Nor do other files that it declares, such as what other chapters recorded.

    Args:
        drawn: also with what draws, judges and files results.

    Raises:
        icl_lib.source.CodeChanged: if code of the library was written since this process began.
    """
    key = notebook, stamp(notebook), frozenset() if drawn else FILING
    check(_chapter(*key))
    data = (_hash(file.name, file.read_text(encoding="utf-8")) for file in library_data(notebook))
    return _hash(_chapter_digest(*key), *data)[:16]


def tables(notebook: Path, book: Path) -> str:
    """Hash (16 hex digits) of what a chapter declares to read besides the library's data, as what others recorded; "" if nothing.

    Of a recorded result only the numbers count.
    """
    files = [file for file in declared_files(notebook, book) if not file.resolve().is_relative_to(PACKAGE)]
    said = []
    for file in files:
        if file.name == "result.json":
            clauses = read_json(file)["clauses"].items()
            text = f"{[(key, clause['value'], clause['control']) for key, clause in clauses]}"
        else:
            text = file.read_text(encoding="utf-8")
        said.append(f"{file.relative_to(book)}\n{text}")
    return _hash(*said)[:16] if said else ""


def check_trains(notebook: Path, device: str, prefix: str = "") -> None:
    """Refuse another device than the CPU for a chapter that trains none of the networks that can use it.

    Raises:
        ConfigError: naming the device.
    """
    if device != "cpu":
        uses_it = ("icl_lib.device", "compute_device") in _chapter(notebook, stamp(notebook), FILING)
        require(uses_it, f"{prefix}device", device, "'cpu', this chapter trains nothing that can use a GPU")
