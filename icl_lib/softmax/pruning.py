"""Pruning neurons, the rows of W_O: which go first, and what is left (Li et al. 2024, theorem on magnitude pruning).

A criterion is a function of (weights, seeds) that gives every neuron a score, (E, m); the lowest scores are pruned first.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.evaluation import evaluate_params, judged
from icl_lib.softmax.model import Params, forward
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_members, require_number

Scores = Float[Tensor, "E m"]


def magnitude(params: Params, seeds: Sequence[int]) -> Scores:
    """Short rows of W_O first: the criterion of the theorem."""
    return params.w_o.norm(dim=-1)


def largest(params: Params, seeds: Sequence[int]) -> Scores:
    """Long rows of W_O first."""
    return -params.w_o.norm(dim=-1)


def random(params: Params, seeds: Sequence[int]) -> Scores:
    """In an order that the seed alone decides."""
    return torch.stack([torch.rand(params.a.shape[1], generator=generator(s, "prune")) for s in seeds])


def positive(params: Params, seeds: Sequence[int]) -> Scores:
    """Neurons with a > 0 first, in random order: pruning that is unbalanced between the two signs of a."""
    return random(params, seeds) - (params.a > 0).float()


CRITERIA: dict[str, Callable[[Params, Sequence[int]], Scores]] = {
    "magnitude": magnitude,
    "random": random,
    "largest first": largest,
    "a > 0 first": positive,
}


def keep(scores: Scores, rates: Sequence[float], among: Bool[Tensor, "E m"] | None = None) -> Bool[Tensor, "E R m"]:
    """Which neurons are left at each pruning rate.

    Args:
        scores: the lowest go first.
        rates: fractions pruned, in [0, 1]; the number pruned is rounded to the nearest integer.
        among: neurons that may be pruned (all by default); rates are fractions of their number.

    >>> scores = torch.tensor([[0.3, 0.1, 0.4, 0.2]])
    >>> keep(scores, [0.5]).tolist()
    [[[True, False, True, False]]]
    """
    require_members("rates", rates)
    for rate in rates:
        require_number("rates", rate, 0, 1)
    require(bool(scores.isfinite().all()), "scores", scores, "finite")
    among = torch.ones_like(scores, dtype=torch.bool) if among is None else among
    order = torch.where(among, scores, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)  # 0 is pruned first
    n_pruned = (torch.tensor(list(rates)) * among.sum(1, keepdim=True)).round()  # (E, R)
    return order[:, None] >= n_pruned[..., None]


def _check_mask(kept: Tensor, params: Params) -> None:
    shape, kind = tuple(kept.shape), str(kept.dtype).removeprefix("torch.")
    needed = tuple(params.a.shape)
    require(shape == needed and kind == "bool", "kept", (shape, kind), f"a bool for every member and neuron, {needed}")


def prune(params: Params, kept: Bool[Tensor, "E m"]) -> Params:
    """The weights with the rows of W_O that are not kept set to 0; a neuron without input is silent.

    >>> from icl_lib.softmax.model import ModelConfig, init_params
    >>> from icl_lib.softmax.patterns import PatternConfig
    >>> params = init_params(ModelConfig(m=100), PatternConfig(), seed=0)
    >>> pruned = prune(params, keep(magnitude(params, [0]), [0.4])[:, 0])
    >>> int((pruned.w_o.norm(dim=-1) == 0).sum())
    40
    """
    _check_mask(kept, params)
    return params._replace(w_o=params.w_o * kept[..., None])


class Outputs(NamedTuple):
    """Of every member under every mask."""

    output: Float[Tensor, "E B R"]


def evaluate_pruned(
    params: Params,
    patterns: Patterns,
    seeds: Sequence[int],
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    kept: Bool[Tensor, "E R m"],
    n_prompts: int = 10_000,
    change: Callable[[Prompts, int], Any] | None = None,
    hidden: Callable[[Params, Patterns, Any], Tensor] = lambda *given: forward(*given).hidden,
) -> pd.DataFrame:
    """Errors of every member under every mask, all on the same prompts of the held-out stream "eval".

    One forward pass serves all masks: pruning a row of W_O removes its neuron from the sum a^T ReLU(...) and changes nothing else.

    Args:
        kept: R masks for every member.
        n_prompts: per member, rounded up to whole blocks.
        change: what to make of a block of prompts, given its number; it keeps their ``target``.
        hidden: (params, patterns, prompts) -> neurons after the ReLU, (E, B, m); by default those of the model.

    Returns:
        One row per member and mask: member, mask, seed, n_prompts, n_errors (F = 0 counts half), n_lossy,
        largest_output, error, hinge, margin (mean of z F).

    Raises:
        ConfigError: for no prompts, tasks of unknown patterns, and anything that is not one entry per seed.
        icl_lib.softmax.evaluation.NonFinite: if outputs are NaN or infinite.
    """
    require(kept.dim() == 3, "kept", tuple(kept.shape), "of shape (E, R, m)")
    _check_mask(kept[:, 0], params)
    weights = (params.a[:, None] * kept).mT  # (E, m, R)

    def masked(params: Params, patterns: Patterns, given: Any) -> Outputs:
        return Outputs(hidden(params, patterns, given) @ weights)

    def metrics(act: Outputs, given: Any) -> dict[str, Tensor]:
        return judged(act, given._replace(target=given.target[..., None]))

    found = evaluate_params(
        params, patterns, seeds, tasks, [prompts] * len(seeds), n_prompts, forward=masked,
        metrics=metrics, change=change, group=None,
    )  # fmt: skip
    return found.astype({"largest_output": "float32"})
