"""Measuring while training: learning curves, and the number of steps to reach a loss."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from icl_lib.softmax.descent import Ensemble, State, stacked_patterns
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.model import Params, forward, hinge
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import CHUNK, TrainConfig, initial_state, train, train_steps
from icl_lib.validate import require

CHECK = 512  # prompts on which the loss is followed from step to step


def learning_curve(
    configs: Sequence[TrainConfig], tasks: Sequence[Tasks], prompts: PromptConfig, every: int, n_prompts: int
) -> pd.DataFrame:
    """Train and evaluate on ``tasks`` at step 0 and every so many steps: the columns of ``evaluate``, and step."""
    patterns = stacked_patterns(configs)
    tables: list[pd.DataFrame] = []

    def measure(state: State) -> None:
        now = Ensemble(tuple(configs), patterns, state.params, state.losses)
        tables.append(evaluate(now, tasks, prompts, n_prompts).assign(step=state.step))

    measure(initial_state(configs))
    train(configs, every=every, on_progress=measure)
    return pd.concat(tables, ignore_index=True)


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


def shortest_from_which(table: pd.DataFrame, length: str, value: str, threshold: float) -> float:
    """The shortest length from which ``value`` stays at or below the threshold up to the longest; NaN if it never does.

    >>> table = pd.DataFrame({"n_context": [5, 10, 20, 40], "error": [0.3, 0.04, 0.06, 0.01]})
    >>> shortest_from_which(table, "n_context", "error", threshold=0.05)
    40.0
    """
    ordered = table.sort_values(length)
    above = np.flatnonzero(ordered[value].to_numpy() > threshold)
    first = 0 if len(above) == 0 else above[-1] + 1
    return float(ordered[length].iloc[first]) if first < len(ordered) else float("nan")
