"""Pruned networks: from which fraction on pruning costs, and what noise on labels and inputs, which the data model does not have, does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts
from icl_lib.softmax.pruning import Scores, evaluate_pruned
from icl_lib.softmax.tasks import Tasks
from icl_lib.validate import require, require_number


@dataclass(frozen=True)
class Noise:
    """How prompts are disturbed.

    Attributes:
        label: probability with which the label of a context is flipped (the query's target is not).
        input: length of the noise on an input, relative to beta: sigma with E||noise||^2 = (sigma beta)^2.
    """

    label: float = 0.0
    input: float = 0.0

    def __post_init__(self) -> None:
        require_number("label", self.label, 0, 1)
        require_number("input", self.input, 0)


def disturb(
    prompts: Prompts, patterns: Patterns, noise: Noise, seeds: Sequence[int], step: int
) -> Float[Tensor, "E B d l_plus_1"]:
    """Dense tokens of the prompts with the noise of stream (seed, "noise", step) on them.

    >>> from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
    >>> from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
    >>> patterns = stack_patterns([draw_patterns(PatternConfig(), seed=0)])
    >>> rules, tasks = [PromptConfig()], task_table([((0, 1),)])
    >>> prompts = sample_prompts(rules, tasks, [0], patterns.counts, 5, "eval")
    >>> disturb(prompts, patterns, Noise(label=0.1, input=0.5), seeds=[0], step=0).shape
    torch.Size([1, 5, 60, 21])
    """
    gens = [generator(seed, "noise", step) for seed in seeds]
    flips = torch.stack([torch.rand(prompts.label.shape[1:], generator=g) < noise.label for g in gens])
    tokens = prompts._replace(label=torch.where(flips, -prompts.label, prompts.label)).dense(patterns)
    beta = patterns.relevant.norm(dim=-1).mean(-1)  # of each member
    size = (noise.input * beta / patterns.d_x**0.5)[:, None, None, None]
    shape = (tokens.shape[1], patterns.d_x, tokens.shape[-1])
    tokens[:, :, : patterns.d_x] += size * torch.stack([torch.randn(shape, generator=g) for g in gens])
    return tokens


def hidden_dense(params: Params, tokens: Float[Tensor, "E B d l_plus_1"]) -> Float[Tensor, "E B m"]:
    """Neurons of the one-layer model on any tokens, the query last: the formula without the shortcut through patterns."""
    contexts, query = tokens[..., :-1], tokens[..., -1]
    asked = query @ (params.w_q.mT @ params.w_k)  # (E, B, d): rows (W_K^T W_Q p_query)^T
    attention = (asked[:, :, None] @ contexts)[:, :, 0].softmax(-1)
    pooled = (contexts @ attention[..., None])[..., 0]
    return (pooled @ (params.w_o @ params.w_v).mT).relu()


class Disturbed(NamedTuple):
    """Prompts as dense tokens with noise on them."""

    tokens: Float[Tensor, "E B d l_plus_1"]
    target: Float[Tensor, "E B"]


def evaluate_disturbed(
    params: Params,
    patterns: Patterns,
    seeds: Sequence[int],
    tasks: Sequence[Tasks],
    prompts: PromptConfig,
    kept: Bool[Tensor, "E R m"],
    n_prompts: int = 10_000,
    noise: Noise | None = None,
) -> pd.DataFrame:
    """``evaluate_pruned`` on prompts with noise on them, which is slower: they are written out as dense tokens."""
    arguments = (params, patterns, seeds, tasks, prompts, kept, n_prompts)
    if noise is None:
        return evaluate_pruned(*arguments)

    def change(drawn: Prompts, step: int) -> Disturbed:
        return Disturbed(disturb(drawn, patterns, noise, seeds, step), drawn.target)

    return evaluate_pruned(*arguments, change, lambda params, _, given: hidden_dense(params, given.tokens))


def random_order(params: Params, seeds: Sequence[int], number: int) -> Scores:
    """Order of the stream (seed, "prune", number); number 0 is ``pruning.random``."""
    return torch.stack([torch.rand(params.a.shape[1], generator=generator(s, "prune", number)) for s in seeds])


def onset(rates: Sequence[float], loss: Sequence[float], level: float) -> float:
    """The smallest rate at which the loss exceeds ``level``, linear between the rates; NaN where it never does.

    >>> round(onset([0.0, 0.1, 0.2], [0.0, 0.0, 1.0], level=0.5), 9)
    0.15
    """
    x, y = np.asarray(rates, float), np.asarray(loss, float)
    require(len(x) == len(y) and bool((np.diff(x) > 0).all()), "rates", x.tolist(), "ascending, one for every loss")
    above = np.flatnonzero(y > level)
    if not len(above):
        return float("nan")
    i = int(above[0])
    return float(x[i] if i == 0 else x[i - 1] + (level - y[i - 1]) / (y[i] - y[i - 1]) * (x[i] - x[i - 1]))


def log_ratios(ours: "pd.Series[float]", published: "pd.Series[float]") -> "pd.Series[float]":
    """log(ours / published) of positive errors at the rates, the indices, that both have; empty where they share none.

    >>> log_ratios(pd.Series({0.0: 1.0, 0.1: 2.0}), pd.Series({0.1: 2.0, 0.2: 3.0})).to_dict()
    {0.1: 0.0}
    """
    require(bool((ours > 0).all()) and bool((published > 0).all()), "ours", ours.tolist(), "above 0, as the published")
    shared = ours.index.intersection(published.index)
    return pd.Series(np.log(ours[shared] / published[shared]))
