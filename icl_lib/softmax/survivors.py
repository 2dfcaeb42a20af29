"""Sweeps in which training may diverge: that a member did is a result, and the others go on without it."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from icl_lib.softmax.train import Diverged, Ensemble
from icl_lib.validate import require


def survivors(
    train: Callable[[Sequence[Any]], Ensemble], configs: Sequence[Any]
) -> tuple[Ensemble | None, pd.DataFrame]:
    """Train an ensemble without the members that diverge.

    Members do not see each other, so leaving one out moves no other. Costs one more run, up to where it diverges, for
    every step at which some member does.

    Args:
        train: such as ``train.train``, ``cache.trained`` or ``deep.trained_deep``.

    Returns:
        The ensemble of those that are left, None if there are none; and one row per member in the order of ``configs``:
        seed, diverged, and step, the steps it took (censored at n_steps where it did not diverge).

    >>> from dataclasses import replace
    >>> from icl_lib.softmax.train import TrainConfig, train
    >>> calm = TrainConfig(((0, 1), (1, 0)), require_cover=False, n_steps=5)
    >>> left, fate = survivors(train, [calm, replace(calm, seed=1, step_size=1e6)])
    >>> left.seeds, fate["diverged"].tolist()
    ([0], [False, True])
    """
    require(len(configs) > 0, "configs", len(configs), "at least one")
    steps: dict[int, int] = {}
    while left := [i for i in range(len(configs)) if i not in steps]:
        try:
            ensemble: Ensemble | None = train([configs[i] for i in left])
            break
        except Diverged as error:
            steps |= {left[member]: error.step for member in error.members}
    else:
        ensemble = None
    rows = [(c.seed, i in steps, steps.get(i, c.n_steps)) for i, c in enumerate(configs)]
    return ensemble, pd.DataFrame(rows, columns=["seed", "diverged", "step"])
