"""Measuring a trained ensemble on fresh prompts: 0-1 error, hinge loss, attention on same-pattern contexts."""

from collections.abc import Sequence

import pandas as pd
import torch

from icl_lib.softmax.model import Params, forward, hinge, wrong
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import Tasks
from icl_lib.softmax.train import Ensemble
from icl_lib.validate import require

BLOCK = 2_000  # prompts a member evaluates at once; part of the random stream, so not a setting


def evaluate_params(
    params: Params,
    patterns: Patterns,
    seeds: Sequence[int],
    tasks: Sequence[Tasks],
    prompts: Sequence[PromptConfig],
    n_prompts: int = 10_000,
    min_errors: float = 0,
    max_prompts: int = 1_000_000,
) -> pd.DataFrame:
    """Error, hinge loss and same-pattern attention mass of every member, on prompts of the held-out stream "eval".

    Args:
        params, patterns: as trained, or changed (pruned, out of domain).
        tasks, prompts: one entry per member; n_context and reading agree over the ensemble.
        n_prompts: at least so many per member, rounded up to whole blocks of ``BLOCK``.
        min_errors: go on until every member has made so many errors or seen ``max_prompts``.

    Returns:
        One row per member: member, seed, n_prompts, n_errors (F = 0 counts half), n_lossy (prompts
        with a positive hinge loss), largest_output (max |F|), error, hinge, attention.
    """
    require(n_prompts >= 1, "n_prompts", n_prompts, "at least 1")
    table, sums, seen, step = task_table(tasks), torch.zeros(len(seeds), 4, dtype=torch.float64), 0, 0
    largest = torch.zeros(len(seeds))
    while seen < n_prompts or (seen < max_prompts and bool((sums[:, 0] < min_errors).any())):
        drawn = sample_prompts(prompts, table, seeds, patterns.counts, BLOCK, "eval", step)
        act = forward(params, patterns, drawn)
        mass, loss = (act.attention * drawn.same_pattern()).sum(-1), hinge(act, drawn)
        largest = torch.maximum(largest, act.output.abs().amax(1))
        for i, measured in enumerate((wrong(act, drawn), loss > 0, loss, mass)):
            sums[:, i] += measured.sum(1, dtype=torch.float64)
        seen, step = seen + BLOCK, step + 1
    counts = dict(zip(("n_errors", "n_lossy"), sums[:, :2].T.tolist(), strict=True))
    error, _, mean_loss, attention = (sums / seen).T.tolist()
    rows = {"member": range(len(seeds)), "seed": list(seeds), "n_prompts": seen, **counts}
    means = {"error": error, "hinge": mean_loss, "attention": attention}
    return pd.DataFrame({**rows, "largest_output": largest.tolist(), **means})


def evaluate(
    ensemble: Ensemble, tasks: Sequence[Tasks], prompts: PromptConfig, n_prompts: int = 10_000, **limits: float
) -> pd.DataFrame:
    """``evaluate_params`` for a trained ensemble, with one prompt rule for all members."""
    rules = [prompts] * len(ensemble.configs)
    return evaluate_params(ensemble.params, ensemble.patterns, ensemble.seeds, tasks, rules, n_prompts, **limits)  # type: ignore[arg-type]
