"""Sweeps in which training may diverge: that a member did is a result, and the others go on without it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pandas as pd

from icl_lib.errors import Diverged
from icl_lib.validate import require

T = TypeVar("T")
# Columns of ``evaluate``.
EVALUATED = ("n_prompts", "n_errors", "n_lossy", "largest_output", "error", "hinge", "attention", "margin")


def survivors(train: Callable[[Sequence[Any]], T], configs: Sequence[Any]) -> tuple[T | None, pd.DataFrame]:
    """Train an ensemble without the members that diverge.

    Members do not see each other, so leaving one out moves no other. Costs one more run, up to where it diverges, for
    every step at which some member does.

    Args:
        train: such as ``train.train``, ``cache.trained`` or ``deep.trained_deep``.

    Returns:
        What ``train`` made of those that are left, None if there are none; and one row per member in the order of ``configs``:
        seed, diverged, and step, the steps it took (censored at n_steps where it did not diverge).

    >>> from dataclasses import replace
    >>> from icl_lib.softmax.training import TrainConfig, train
    >>> calm = TrainConfig(((0, 1), (1, 0)), require_cover=False, n_steps=5)
    >>> left, fate = survivors(train, [calm, replace(calm, seed=1, step_size=1e6)])
    >>> left.seeds, fate["diverged"].tolist()
    ([0], [False, True])
    """
    require(len(configs) > 0, "configs", len(configs), "at least one")
    steps: dict[int, int] = {}
    while left := [i for i in range(len(configs)) if i not in steps]:
        try:
            ensemble: T | None = train([configs[i] for i in left])
            break
        except Diverged as error:
            steps |= {left[member]: error.step for member in error.members}
    else:
        ensemble = None
    rows = [(c.seed, i in steps, steps.get(i, c.n_steps)) for i, c in enumerate(configs)]
    return ensemble, pd.DataFrame(rows, columns=["seed", "diverged", "step"])


def outcomes(
    train: Callable[[Sequence[Any]], T],
    configs: Sequence[Any],
    measure: Callable[[T], pd.DataFrame],
    columns: Sequence[str] = EVALUATED,
) -> pd.DataFrame:
    """What is measured on the trained members: one row per member, in the order of ``configs``.

    Args:
        measure: a table of one row per member that is left, in order.
        columns: what there is of it, at least, where nobody is left.

    Returns:
        The columns of ``survivors`` and those of ``measure``, NaN for a member that diverged: no interval is then made
        of it, so that what is concluded from the others alone is said to be.
    """
    left, fate = survivors(train, configs)
    if left is None:
        return fate.assign(**dict.fromkeys(columns, math.nan))
    table = measure(left).set_index(fate.index[~fate["diverged"]])
    return fate.join(table.drop(columns=fate.columns, errors="ignore"))


def complete(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Those rows of ``outcomes`` at whose setting, the columns of ``by``, no member diverged: only they are averaged."""
    return table[~table.groupby(list(by))["diverged"].transform("any").astype(bool)]
