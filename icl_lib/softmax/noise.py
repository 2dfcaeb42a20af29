"""Noise that the papers' data model does not have: flipped context labels, and Gaussian noise on every input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require_number


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


class Dense(NamedTuple):
    """What a forward pass on dense tokens computed, named as in ``model.Activations``."""

    attention: Float[Tensor, "E B l"]
    hidden: Float[Tensor, "E B m"]
    output: Float[Tensor, "E B"]


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


def forward_dense(params: Params, tokens: Float[Tensor, "E B d l_plus_1"]) -> Dense:
    """The one-layer model on any tokens, the query last: the paper's formula without the shortcut through patterns."""
    contexts, query = tokens[..., :-1], tokens[..., -1]
    asked = query @ (params.w_q.mT @ params.w_k)  # (E, B, d): rows (W_K^T W_Q p_query)^T
    attention = (asked[:, :, None] @ contexts)[:, :, 0].softmax(-1)
    pooled = (contexts @ attention[..., None])[..., 0]
    hidden = (pooled @ (params.w_o @ params.w_v).mT).relu()
    return Dense(attention, hidden, (hidden @ params.a[..., None])[..., 0])
