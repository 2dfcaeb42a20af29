"""Runs that are followed, step by step or over a sweep: curves, weights kept on the way, steps to a loss, members that diverge."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from icl_lib.errors import Diverged
from icl_lib.softmax.descent import Ensemble, State, stacked_patterns
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.model import Params, forward, hinge
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import CHUNK, PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import TrainConfig, initial_state, train, train_steps
from icl_lib.validate import require

# Columns of ``evaluate``.
EVALUATED = ("n_prompts", "n_errors", "n_lossy", "largest_output", "error", "hinge", "attention", "margin")
CHECK = 512  # prompts on which the loss is followed from step to step
T = TypeVar("T")


class Snapshots(NamedTuple):
    """Weights of an ensemble at several steps of one training run."""

    configs: tuple[TrainConfig, ...]
    patterns: Patterns
    params: dict[int, Params]  # by step

    @property
    def seeds(self) -> list[int]:
        """One seed per member."""
        return [c.seed for c in self.configs]

    def ensemble(self, step: int) -> Ensemble:
        """The ensemble as it was at one of the steps, to be evaluated (without losses)."""
        return Ensemble(self.configs, self.patterns, self.params[step], torch.empty(len(self.configs), 0))


def _followed(configs: Sequence[TrainConfig], every: int, see: Callable[[State], None]) -> Ensemble:
    """Train; ``see`` is called at step 0, every so many steps, and at the end."""
    start = initial_state(configs)
    see(start)
    return train(configs, start, every, see)


def snapshots(configs: Sequence[TrainConfig], every: int) -> Snapshots:
    """Train, and keep the weights at step 0, every so many steps, and at the end."""
    kept: dict[int, Params] = {}
    done = _followed(configs, every, lambda state: kept.update({state.step: state.params}))
    return Snapshots(done.configs, done.patterns, kept)


def learning_curve(
    configs: Sequence[TrainConfig], tasks: Sequence[Tasks], prompts: PromptConfig, every: int, n_prompts: int
) -> pd.DataFrame:
    """Train and evaluate on ``tasks`` at step 0 and every so many steps: the columns of ``evaluate``, and step."""
    patterns, tables = stacked_patterns(configs), list[pd.DataFrame]()

    def measure(state: State) -> None:
        now = Ensemble(tuple(configs), patterns, state.params, state.losses)
        tables.append(evaluate(now, tasks, prompts, n_prompts).assign(step=state.step))

    _followed(configs, every, measure)
    return pd.concat(tables, ignore_index=True)


def survivors(train: Callable[[Sequence[Any]], T], configs: Sequence[Any]) -> tuple[T | None, pd.DataFrame]:
    """Train an ensemble without the members that diverge: that one did is a result, and the others go on.

    Members do not see each other, so leaving one out moves no other. Costs one more run, up to where it diverges, for
    every step at which some member does.

    Args:
        train: such as ``training.train``, ``cache.trained`` or ``deep.trained_deep``.

    Returns:
        What ``train`` made of those that are left, None if there are none; and one row per member in the order of ``configs``:
        seed, diverged, and step, the steps it took (censored at n_steps where it did not diverge).

    >>> from dataclasses import replace
    >>> calm = TrainConfig(((0, 1), (1, 0)), require_cover=False, n_steps=5)
    >>> left, fate = survivors(train, [calm, replace(calm, seed=1, step_size=1e6)])
    >>> left.seeds, fate["diverged"].tolist()
    ([0], [False, True])
    """
    require(len(configs) > 0, "configs", len(configs), "at least one")
    steps: dict[int, int] = {}
    ensemble: T | None = None
    while ensemble is None and (left := [i for i in range(len(configs)) if i not in steps]):
        try:
            ensemble = train([configs[i] for i in left])
        except Diverged as error:
            steps |= {left[member]: error.step for member in error.members}
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


def steps_to_reach(
    configs: Sequence[TrainConfig], tasks: Sequence[Tasks], prompts: PromptConfig, thresholds: Sequence[float]
) -> pd.DataFrame:
    """T: the first step after which the hinge loss on ``tasks`` is at or below each threshold.

    The loss is measured on ``CHECK`` fixed prompts a member, from the stream "check": every ``CHUNK``
    steps, and then again after every single step of a chunk that ends below a threshold (so a dip that
    begins and ends within one chunk is not seen). Training stops when every member has reached every
    threshold, or at the configs' ``n_steps``; what was not reached is NaN.

    Returns:
        One row per member and threshold: member, seed, threshold, steps.
    """
    require(len(thresholds) > 0 and min(thresholds) > 0, "thresholds", thresholds, "numbers above 0")
    patterns, state = stacked_patterns(configs), initial_state(configs)
    seeds, goal = [c.seed for c in configs], torch.tensor(thresholds)
    check = sample_prompts([prompts] * len(configs), task_table(tasks), seeds, patterns.counts, CHECK, "check")
    met: list[Tensor] = []  # after every single step of a chunk

    def meets(params: Params) -> Tensor:
        """(E, thresholds): whether the loss is at or below each threshold now."""
        return hinge(forward(params, patterns, check), check).mean(1)[:, None] <= goal

    def note(params: Params) -> None:
        met.append(meets(params))

    steps = torch.where(meets(state.params), 0.0, torch.nan)
    while bool(steps.isnan().any()) and state.step < configs[0].n_steps:
        n = min(CHUNK, configs[0].n_steps - state.step)
        after = train_steps(configs, state, n, patterns)
        crossed = meets(after.params) & steps.isnan()
        if bool(crossed.any()):
            met.clear()
            train_steps(configs, state, n, patterns, on_step=note)
            first = state.step + 1 + torch.stack(met).int().argmax(0)
            steps = torch.where(crossed, first, steps)
        state = after
    rows = [(i, s, t, float(steps[i, j])) for j, t in enumerate(thresholds) for i, s in enumerate(seeds)]
    return pd.DataFrame(rows, columns=["member", "seed", "threshold", "steps"])
