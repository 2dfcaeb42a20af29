"""The number of steps to reach a loss, followed step by step, and which of two laws describes how it scales."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.model import Params, forward, hinge
from icl_lib.softmax.prompts import CHUNK, PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.training import TrainConfig, initial_state, train_steps
from icl_lib.stats import Interval, affine_fit, checked_curves, log_log, paired_interval
from icl_lib.validate import require

CHECK = 512  # prompts on which the loss is followed from step to step


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


class Scaling(NamedTuple):
    """What `compare_scaling` found.

    fits: one row per seed: seed; C, p and rms_power of y = C x^p; A, B and rms_reciprocal of y = A/x + B.
    difference: interval over seeds of rms_power - rms_reciprocal; above 0 where A/x + B fits better.
    """

    fits: pd.DataFrame
    difference: Interval


def compare_scaling(x: ArrayLike, values_by_seed: ArrayLike | pd.DataFrame, level: float = 0.95) -> Scaling:
    """Does y = C x^p or y = A/x + B describe the curves better? Two parameters each, fitted to every seed.

    Both minimise the squared residuals of log y, so their rms log residuals (natural log: 0.01 is one per cent)
    compare directly. A and B may have either sign as long as A/x + B is positive over the range of x.

    Args:
        x: shape (points,), positive, at least three different.
        values_by_seed: shape (seeds, points), positive; the index of a DataFrame names the seeds.

    Raises:
        ConfigError: as `power_law`.
    """
    points, values, seeds = checked_curves(x, values_by_seed, 3)
    slopes, offsets, rms_power = log_log(points, values)
    reciprocal = [affine_fit(1 / points, np.log(row)) for row in values]
    fits = pd.DataFrame({"seed": seeds, "C": np.exp(offsets), "p": slopes, "rms_power": rms_power})
    fits[["A", "B", "rms_reciprocal"]] = reciprocal
    return Scaling(fits, paired_interval(fits["rms_power"], fits["rms_reciprocal"], level))
