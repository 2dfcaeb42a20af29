"""What a number comes from: the definitions that a trainer or a chapter can reach, without what moves no number.

- `stripped` takes out of code what moves no number: types, docstrings, and the words of refusals and errors.
- `reach` follows names from definition to definition, so that only what is reached counts, wherever it stands.
- `trigger` is the hash of that. Another trigger does not mean other numbers: where a trainer's probes come out to the bit, its
  results keep the `lineage` that they had (``data/lineages.csv``, written by ``python -m tools.vouch``).

What lies outside our packages counts by its version (`provenance.versions`). A chapter's code counts in the same way, see
``book.identity``.
"""

import csv
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache

from icl_lib.lineage.reach import Reached, Symbol, module, reached
from icl_lib.source import PACKAGE, canonical, check_unchanged, module_file
from icl_lib.validate import require

ROUNDS = 4  # in which definitions take up what their names stand for
TABLE = PACKAGE / "data" / "lineages.csv"
# Modules that draw or name results: a change there moves no number.
FILING = frozenset(
    f"icl_lib.{name}" for name in ("figures", "provenance", "source", "lineage", "lineage.reach", "lineage.stripped")
)


def text_hash(*parts: str) -> str:
    """Hash (64 hex digits) of texts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def digest(found: Mapping[Symbol, Reached]) -> str:
    """Hash (16 hex digits) of definitions and of what their names stand for; where they stand does not matter.

    A definition's hash begins as that of its text and, in a few rounds, takes up those that its names lead to. So two
    definitions of the same name that change places are noticed by their callers.
    """
    labels = {symbol: text_hash(*map(canonical, one.trees)) for symbol, one in found.items()}
    for _ in range(ROUNDS):
        labels = {
            symbol: text_hash(labels[symbol], *sorted(f"{name} {labels.get(t, t)}" for name, t in one.names))
            for symbol, one in found.items()
        }
    return text_hash(*sorted(label for symbol, label in labels.items() if found[symbol].trees))[:16]


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
    """Raise `source.CodeChanged` if a module of these definitions was written since this process began; one that is gone fails by itself."""
    check_unchanged(file for where in {where for where, _ in found if where} for file in [module_file(where)] if file)


def trigger(*names: str) -> str:
    """Hash that changes when what functions, such as ``icl_lib.softmax.training.train``, reach may compute something else.

    Raises:
        icl_lib.source.CodeChanged: if the code on disk is not the code that runs.
    """
    check(_found(*names))
    return _digest(*names)


def lineage(name: str) -> str:
    """The hash that a trainer's results are kept under: its trigger, or an earlier one whose results were equal to the bit.

    Raises:
        icl_lib.source.CodeChanged: if the code on disk is not the code that runs; so it is also asked for before results are saved.
    """
    now = trigger(name)
    with TABLE.open(encoding="utf-8", newline="") as rows:
        known = {row["trigger"]: row["lineage"] for row in csv.DictReader(rows) if row["trainer"] == name}
    return known.get(now, now)
