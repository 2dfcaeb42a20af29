"""Softmax attention in place of linear: the prediction at x_q is sum_i softmax_i(h~(x_i)^T W h~(x_q)) y_i.

Not the paper's model; an option to see what its linear attention gives up. For small W it is the mean label plus linear
attention on centred labels. Plain autograd, a few prompts at a time: several times the cost of ``transformer.step``.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.mean_field.activations import activation, differentiable
from icl_lib.mean_field.features import with_one
from icl_lib.mean_field.regression import Prompts
from icl_lib.mean_field.transformer import Step, Transformer, check_batches

CHUNK = 2  # prompts at a time


def _features(act: str, weighted: Tensor, w: Tensor, x: Tensor, constant: bool) -> Tensor:
    h = differentiable(activation(act).function, weighted, w, x)
    return with_one(h) if constant else h


def _one(act: str, parts: tuple[Tensor, ...], constant: bool, p: Prompts) -> tuple[Tensor, Tensor]:
    """Predictions (P, q) and features of the queries, for a (masses included), w and W of one member."""
    weighted, w, attention = parts
    h_query = _features(act, weighted, w, p.x_query, constant)
    scores = _features(act, weighted, w, p.x, constant) @ attention @ h_query.mT  # (P, n, q)
    return (scores.softmax(1).mT @ p.y[..., None])[..., 0], h_query


def _chunks(p: Prompts) -> list[Prompts]:
    return [Prompts(*parts) for parts in zip(*(part.split(CHUNK) for part in p), strict=True)]


def _parts(model: Transformer, e: int, dtype: torch.dtype) -> tuple[tuple[Tensor, ...], bool]:
    weighted = model.mu.weighted[e]
    constant = model.attention.shape[1] == weighted.shape[1] + 1
    return tuple(part.to(dtype) for part in (weighted, model.mu.w[e], model.attention[e])), constant


def softmax_predictions(act: str, model: Transformer, prompts: Sequence[Prompts]) -> list[Float[Tensor, "P q"]]:
    """One batch per member; in the precision of the prompts."""
    check_batches(model, prompts)
    found = []
    with torch.no_grad():
        for e, batch in enumerate(prompts):
            parts, constant = _parts(model, e, batch.x.dtype)
            found.append(torch.cat([_one(act, parts, constant, chunk)[0] for chunk in _chunks(batch)]))
    return found


def softmax_step(act: str, model: Transformer, prompts: Sequence[Prompts]) -> Step:
    """As ``transformer.step``: losses, and velocities in the same scaling."""
    check_batches(model, prompts)
    members = []
    for e, batch in enumerate(prompts):
        fixed, constant = _parts(model, e, batch.x.dtype)
        parts = tuple(part.clone().requires_grad_() for part in fixed)
        losses, b, count = [], torch.zeros_like(fixed[2]), batch.y_query.numel()
        with torch.enable_grad():
            for chunk in _chunks(batch):
                predicted, h = _one(act, parts, constant, chunk)
                error = (predicted - chunk.y_query).square()
                (error.sum() / (2 * count)).backward()
                losses.append(error.detach().mean(1) / 2)
                flat = h.detach().flatten(0, 1)
                b += flat.T @ flat / count
        grads = [part.grad for part in parts]
        assert grads[0] is not None and grads[1] is not None and grads[2] is not None
        found = (torch.cat(losses), -grads[0], -grads[1].double() / model.mu.p[e][:, None], -grads[2], b)
        members.append([part.to(model.mu.a.dtype) for part in found])
    return Step(*(torch.stack(parts) for parts in zip(*members, strict=True)))
