"""How a provoked run ends, and the table of such endings."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from icl_lib.errors import Diverged
from icl_lib.mean_field.measure import NonFinite, SingularCovariance
from icl_lib.paths import root, write_atomic
from icl_lib.validate import ConfigError

DOCUMENTED = (ConfigError, Diverged, NonFinite, SingularCovariance)
FINITE, NOT_FINITE = "finite result", "NaN or infinity returned"


class Row(NamedTuple):
    """How often one case ended in one way.

    Attributes:
        kind: of fault. case: what it was done to.
        outcome: how it ended. n: how often. passed: whether that is a good end.
        detail: a message, or whatever else a reader should see.
    """

    kind: str
    case: str
    outcome: str
    n: int
    passed: bool
    detail: str = ""


def finite(value: object) -> bool:
    """Whether all numbers in tensors, arrays, tables, and nested sequences of them are finite."""
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, pd.DataFrame | pd.Series):
        value = pd.DataFrame(value).select_dtypes("number").to_numpy(float)
    if isinstance(value, float | np.ndarray | np.number):
        return bool(np.isfinite(value).all())
    if isinstance(value, Mapping):
        return all(map(finite, value.values()))
    return all(map(finite, value)) if isinstance(value, Sequence) and not isinstance(value, str) else True


def ending(call: Callable[[], object]) -> tuple[str, str]:
    """Name of how a call ends, and the message if it is an error: a documented one by its name, others as crashes."""
    try:
        return (FINITE if finite(call()) else NOT_FINITE), ""
    except DOCUMENTED as error:
        return type(error).__name__, str(error)
    except Exception as error:
        return f"crash: {type(error).__name__}", str(error).partition("\n")[0]


def good(outcome: str) -> bool:
    """Whether a run may end so: with finite numbers, or with an error that the library documents."""
    return outcome == FINITE or outcome in {kind.__name__ for kind in DOCUMENTED}


def counted(kind: str, case: str, ends: Iterable[tuple[str, str]]) -> list[Row]:
    """One row per way of ending; bad ends are told apart by their messages, up to types and numbers, and show the first."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for outcome, message in ends:
        key = outcome, "" if good(outcome) else re.sub(r"'[^']*'|\d+|\(.*", "", message)
        counts[key] += 1
        first.setdefault(key, "" if good(outcome) else message)
    return [Row(kind, case, key[0], n, good(key[0]), first[key]) for key, n in sorted(counts.items())]


def results_file() -> Path:
    return root() / "reliability" / "results.csv"


def load(path: Path | None = None) -> pd.DataFrame:
    """All rows, as recorded."""
    return pd.read_csv(path or results_file(), keep_default_na=False)


def save(rows: Sequence[Row], path: Path | None = None) -> None:
    """Put the rows in place of those of the same kinds; atomically."""
    path = path or results_file()
    table = pd.DataFrame(rows, columns=Row._fields)
    if path.is_file():
        old = load(path)
        table = pd.concat([old[~old["kind"].isin(table["kind"])], table])
    text = table.sort_values("kind", kind="stable").to_csv(index=False, lineterminator="\n")
    write_atomic(path, text.encode())
