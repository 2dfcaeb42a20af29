"""The Transformer of Paper K: an MLP, then one layer of linear attention, with gradients written out.

Features h~ = (h_mu, 1) or h_mu alone, h_mu(x) = sum_i p_i a_i sigma(w_i^T x). A prompt's prediction at x_q is g^T W
h~(x_q) with g = 1/n sum_i y_i h~(x_i) (Kim & Suzuki 2024, setting; the constant feature is ours). The loss is half the
mean square.

Derived by us: over the n contexts of a prompt only u_j = 1/n sum_i y_i sigma(w_j^T x_i) and T_j = 1/n sum_i y_i
sigma'(w_j^T x_i) x_i are needed, for g = a^T p u, and with s = dL/dg the gradient in w_j is p_j (a_j^T s) T_j. Neither
knows the loss, so forward and backward are one pass over the n x N values of sigma: a product, sigma, u, sigma', a
product, block by block in the second-level cache. No array of all tokens times all neurons ever exists.

With softmax attention in its place the prediction is sum_i softmax_i(h~(x_i)^T W h~(x_q)) y_i: not the paper's model,
but an option to see what its linear attention gives up. For small W it is the mean label plus linear attention on
centred labels. Plain autograd, a few prompts at a time: several times the cost of ``step``.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from icl_lib.mean_field.kernels import Activation, activation
from icl_lib.mean_field.measure import Particles, with_one
from icl_lib.mean_field.prompts import Prompts
from icl_lib.validate import require

CACHE = 2**16  # values of sigma in a block; two blocks of float32 take half a megabyte
CHUNK = 16  # prompts whose T exist at a time
SOFTMAX_CHUNK = 2  # prompts at a time under softmax attention


class Transformer(NamedTuple):
    """An ensemble; the shape of W says whether features have the constant (k + 1) or not (k)."""

    mu: Particles
    attention: Float[Tensor, "E K K"]


class Step(NamedTuple):
    """What a batch says.

    Attributes:
        losses: of every prompt.
        a, w: velocities -dL/d(a_i, w_i) / p_i, the scaling of ``flows``.
        attention: -dL/dW.
        b: the mean of h~ h~^T over the queries, an estimate of B~.
    """

    losses: Float[Tensor, "E P"]
    a: Float[Tensor, "E N k"]
    w: Float[Tensor, "E N d"]
    attention: Float[Tensor, "E K K"]
    b: Float[Tensor, "E K K"]


class _Pass:
    """One member in the precision of its prompts."""

    def __init__(self, act: Activation, model: Transformer, e: int, kind: np.dtype) -> None:
        self.act, self.kind = act, kind
        a, w, self.p = (part[e].numpy() for part in model.mu)
        self.inner = np.ascontiguousarray(act.scale * w.T, dtype=kind)  # (d, N)
        self.a, self.weighted = a.astype(kind), (a * self.p[:, None]).astype(kind)
        self.attention = model.attention[e].numpy().astype(kind)
        self.constant = len(self.attention) == a.shape[1] + 1
        self.rows = max(1, CACHE // len(a))
        self.buffers = np.empty((2, self.rows, len(a)), kind)

    def contexts(self, x: ndarray, y: ndarray, slopes: bool) -> tuple[ndarray, ndarray | None]:
        """u (P, N) and T transposed (P, d, N) of prompts x (P, n, d)."""
        (n_prompts, n, d), (v0, v1), (s0, s1) = x.shape, self.act.value, self.act.slope
        xy = x * y[..., None]
        u = np.zeros((n_prompts, len(self.a)), self.kind)
        t = np.zeros((n_prompts, d, len(self.a)), self.kind) if slopes else None
        for prompt in range(n_prompts):
            for i in range(0, n, self.rows):
                rows = slice(i, min(i + self.rows, n))
                z, psi = self.buffers[:, : rows.stop - i]
                np.matmul(x[prompt, rows], self.inner, out=z)
                self.act.fill(z, psi if slopes else None)
                u[prompt] += y[prompt, rows] @ z
                if t is not None:
                    t[prompt] += xy[prompt, rows].T @ psi
        u *= v1 / n
        u += v0 * y.mean(1)[:, None]
        if t is not None:
            t *= s1 / n
            if s0:
                t += s0 * xy.mean(1)[..., None]
        return u, t

    def features(self, values: ndarray, ones: ndarray | float) -> ndarray:
        """h~ out of sigma or u (.., N), and what stands for the constant: 1, or the mean label."""
        h = values @ self.weighted
        if not self.constant:
            return h
        last = np.broadcast_to(np.asarray(ones, self.kind), h.shape[:-1])
        return np.concatenate([h, last[..., None]], axis=-1)

    def queries(self, x: ndarray) -> tuple[ndarray, ndarray]:
        """sigma and sigma' (P q, N)."""
        z = x.reshape(-1, x.shape[-1]) @ self.inner
        psi = np.empty_like(z)
        self.act.fill(z, psi)
        for part, (offset, factor) in ((z, self.act.value), (psi, self.act.slope)):
            part *= factor
            part += offset
        return z, psi


def _arrays(prompts: Prompts, i: int) -> tuple[ndarray, ...]:
    return tuple(part[i : i + CHUNK].numpy() for part in prompts)


def _linear_step(act: Activation, model: Transformer, e: int, prompts: Prompts) -> tuple[Tensor, ...]:
    """Losses and velocities of member e."""
    kind = prompts.x.numpy().dtype
    one, k, count = _Pass(act, model, e, kind), model.mu.a.shape[2], prompts.y_query.numel()
    d_a, d_w = np.zeros_like(one.a), np.zeros_like(one.inner)
    d_attention, b = np.zeros_like(one.attention), np.zeros_like(one.attention)
    losses = []
    for i in range(0, len(prompts.y), CHUNK):
        x, y, x_query, y_query = _arrays(prompts, i)
        u, t = one.contexts(x, y, slopes=True)
        assert t is not None
        s, psi = one.queries(x_query)
        g, h = one.features(u, y.mean(1)), one.features(s, 1.0).reshape(*y_query.shape, -1)
        asked = g @ one.attention
        error = (h @ asked[..., None])[..., 0] - y_query
        losses.append(np.square(error).mean(1) / 2)
        pulled = (error[:, None] @ h)[:, 0] / count  # sum over queries of dL/dprediction times h
        d_attention += g.T @ pulled
        b += np.tensordot(h, h, ((0, 1), (0, 1))) / count
        d_g = (pulled @ one.attention.T)[:, :k]
        d_h = (error[..., None] * (asked / count)[:, None]).reshape(len(s), -1)[:, :k]
        d_a += u.T @ d_g + s.T @ d_h
        d_w += np.einsum("pj,pdj->dj", d_g @ one.a.T, t)
        psi *= d_h @ one.a.T
        d_w += x_query.reshape(len(s), -1).T @ psi
    found = (np.concatenate(losses), -d_a, -d_w.T, -d_attention, b)
    return tuple(torch.from_numpy(np.ascontiguousarray(part)).to(model.mu.a.dtype) for part in found)


def _linear_predictions(act: Activation, model: Transformer, e: int, prompts: Prompts) -> Tensor:
    one, parts = _Pass(act, model, e, prompts.x.numpy().dtype), []
    for i in range(0, len(prompts.y), CHUNK):
        x, y, x_query, y_query = _arrays(prompts, i)
        g = one.features(one.contexts(x, y, slopes=False)[0], y.mean(1))
        h = one.features(one.queries(x_query)[0], 1.0).reshape(*y_query.shape, -1)
        parts.append((h @ (g @ one.attention)[..., None])[..., 0])
    return torch.from_numpy(np.concatenate(parts))


def _softmax_chunks(
    act: Activation, parts: Sequence[Tensor], constant: bool, prompts: Prompts
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Predictions (P, q), features of the queries and targets, for a (masses included), w and W of one member."""
    weighted, w, attention = parts

    def features(x: Tensor) -> Tensor:
        h = act.function(x @ w.mT) @ weighted
        return with_one(h) if constant else h

    for x, y, x_query, y_query in zip(*(part.split(SOFTMAX_CHUNK) for part in prompts), strict=True):
        h_query = features(x_query)
        scores = features(x) @ attention @ h_query.mT  # (P, n, q)
        yield (scores.softmax(1).mT @ y[..., None])[..., 0], h_query, y_query


def _parts(model: Transformer, e: int, dtype: torch.dtype) -> tuple[list[Tensor], bool]:
    weighted = model.mu.weighted[e]
    constant = model.attention.shape[1] == weighted.shape[1] + 1
    return [part.to(dtype) for part in (weighted, model.mu.w[e], model.attention[e])], constant


def _softmax_predictions(act: Activation, model: Transformer, e: int, prompts: Prompts) -> Tensor:
    with torch.no_grad():
        chunks = _softmax_chunks(act, *_parts(model, e, prompts.x.dtype), prompts)
        return torch.cat([predicted for predicted, _, _ in chunks])


def _softmax_step(act: Activation, model: Transformer, e: int, prompts: Prompts) -> tuple[Tensor, ...]:
    fixed, constant = _parts(model, e, prompts.x.dtype)
    parts = [part.clone().requires_grad_() for part in fixed]
    losses, b, count = [], torch.zeros_like(fixed[2]), prompts.y_query.numel()
    with torch.enable_grad():
        for predicted, h, target in _softmax_chunks(act, parts, constant, prompts):
            error = (predicted - target).square()
            (error.sum() / (2 * count)).backward()
            losses.append(error.detach().mean(1) / 2)
            flat = h.detach().flatten(0, 1)
            b += flat.T @ flat / count
    d_a, d_w, d_attention = (-part.grad for part in parts if part.grad is not None)
    found = (torch.cat(losses), d_a, d_w.double() / model.mu.p[e][:, None], d_attention, b)
    return tuple(part.to(model.mu.a.dtype) for part in found)


def step(act: str, model: Transformer, prompts: Sequence[Prompts], softmax: bool = False) -> Step:
    """Losses and velocities on a batch of prompts for each member, in the precision of the prompts.

    Cost of linear attention: 4 n N d operations and n N values of sigma per prompt; queries cost about the same each as
    contexts.
    """
    _check_batches(model, prompts)
    of_member = _softmax_step if softmax else _linear_step
    found = [of_member(activation(act), model, e, one) for e, one in enumerate(prompts)]
    return Step(*(torch.stack(parts) for parts in zip(*found, strict=True)))


def predictions(
    act: str, model: Transformer, prompts: Sequence[Prompts], softmax: bool = False
) -> list[Float[Tensor, "P q"]]:
    """What each member predicts on its batch, in the precision of the prompts."""
    _check_batches(model, prompts)
    of_member = _softmax_predictions if softmax else _linear_predictions
    return [of_member(activation(act), model, e, one) for e, one in enumerate(prompts)]


def _check_batches(model: Transformer, prompts: Sequence[Prompts]) -> None:
    """Refuse anything but one batch per member with inputs of its dimension."""
    require(len(prompts) == len(model.mu.p), "prompts", len(prompts), f"one batch per member, {len(model.mu.p)}")
    d = model.mu.w.shape[2]
    for one in prompts:
        require(one.x.shape[2] == d, "prompts", tuple(one.x.shape), f"inputs of dimension d = {d}")
