"""Softmax along the last axis and its gradient, for short rows too.

torch takes 16 floats of a row at a time, and shorter rows number by number: with 15 contexts that costs seven times as
much as with 16. Most of the book's prompts are that short, so there the steps are taken one after the other.
"""

import torch
from jaxtyping import Float
from torch import Tensor

SHORT = 16  # rows from this length on are left to torch


def softmax(scores: Float[Tensor, "*rows l"]) -> Float[Tensor, "*rows l"]:
    """Attention from scores: exp(s_i) / sum_j exp(s_j) in each row, as ``scores.softmax(-1)``.

    >>> softmax(torch.tensor([[0.0, 0.0], [1000.0, -torch.inf]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    if scores.shape[-1] >= SHORT:
        return scores.softmax(-1)
    weights = (scores - scores.amax(-1, keepdim=True)).exp_()
    return weights / weights.sum(-1, keepdim=True)


def softmax_gradient(d: Float[Tensor, "*rows l"], attention: Float[Tensor, "*rows l"]) -> Float[Tensor, "*rows l"]:
    """Gradient in the scores, given that in the attention: p_i (d_i - sum_j p_j d_j)."""
    if d.shape[-1] >= SHORT:
        return torch._softmax_backward_data(d, attention, -1, d.dtype)
    weighted = d * attention
    return weighted.addcmul_(attention, weighted.sum(-1, keepdim=True), value=-1)
