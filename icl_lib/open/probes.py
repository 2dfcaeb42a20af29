"""Prompts that take something away: no context with the query's pattern, and perhaps none with its partner's either."""

from collections.abc import Callable, Sequence

import pandas as pd
import torch

from icl_lib.rng import generator
from icl_lib.softmax import model
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.evaluate import evaluate_params, judged
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.model import Activations
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_integer

STEPS = 1_000  # the stream "check" of ``assumptions`` is below


def take_away(
    prompts: Prompts, n_relevant: int, own: int, partner: int, seeds: Sequence[int], step: int = 0
) -> Prompts:
    """Prompts of exact counts in which some contexts get another pattern than the two of the task, and a coin's label.

    Args:
        own: contexts with the query's pattern; they come first and are always replaced.
        partner: of the contexts with the partner's pattern, which come next, so many are replaced.
    """
    first, second = prompts.query_parts[:, :, 0], prompts.parts[:, :, 0, own]
    require(bool((prompts.parts[:, :, 0, :own] == first[..., None]).all()), "prompts", "reading", "of exact counts")
    low, high = torch.minimum(first, second)[..., None], torch.maximum(first, second)[..., None]
    gone, size = own + partner, prompts.label.shape[1:2]
    gens = [generator(seed, "check", STEPS + step) for seed in seeds]
    other = torch.stack([torch.randint(n_relevant - 2, (*size, gone), generator=g) for g in gens])
    other += (other >= low).long()
    other += (other >= high).long()
    coin = torch.stack([torch.randint(2, (*size, gone), generator=g) for g in gens]) * 2.0 - 1
    parts, label = prompts.parts.clone(), prompts.label.clone()
    parts[:, :, 0, :gone], label[..., :gone] = other, coin
    return prompts._replace(parts=parts, label=label)


def errors_without(
    models: Ensemble,
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    partner_too: bool,
    n_prompts: int = 4_000,
    forward: Callable[..., Activations] = model.forward,
) -> pd.DataFrame:
    """0-1 error without the contexts with the query's pattern; one row per member: seed, n_prompts, n_errors, error.

    Args:
        prompts: of exact counts, before anything is taken away.
        partner_too: take away the partner's contexts as well; nothing is then left to go by.
    """
    require_integer("n_prompts", n_prompts, 1)
    own, partner = exact_counts(prompts.alpha, prompts.n_context)
    seeds, n_relevant = models.seeds, models.patterns.n_relevant

    def change(drawn: Prompts, step: int) -> Prompts:
        return take_away(drawn, n_relevant, own, partner * partner_too, seeds, step)

    found = evaluate_params(
        models.params, models.patterns, seeds, tasks, [prompts] * len(seeds), n_prompts, forward=forward,
        metrics=judged, change=change, group=None,
    )  # fmt: skip
    return found[["seed", "n_prompts", "n_errors", "error"]]
