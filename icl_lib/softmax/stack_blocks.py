"""The layers of ``stack.py`` for one member, forward and backward: plain matrix products on (prompts x tokens, d).

Each layer returns its result and what the backward pass needs, which adds the gradients of the maps to those in ``g``.
In the first layer tokens are coefficients of the patterns and q, half as many numbers as d, and its maps act on these.
Sizes: n prompts, T tokens (the query last), l = T - 1 contexts, r numbers a token (P + 1 or d), m neurons.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from icl_lib.softmax.attention import softmax, softmax_gradient

Saved = tuple[Tensor, ...]


class Layer(NamedTuple):
    """The maps of one layer; they act from the right."""

    ask: Tensor  # (r, r)  W_Q^T W_K
    value: Tensor  # (r, d)  W_V^T; of the last layer nothing needs it
    neuron: Tensor  # (r, m)  W_V^T W_O^T
    back: Tensor  # (m, d)  U^T; not in the last layer
    token: Tensor  # (r, d)  what a token's numbers stand for: the basis in the first layer, 1 in the others


def _attend(asked: Tensor, contexts: Tensor) -> tuple[Tensor, Tensor]:
    attention = softmax(asked @ contexts.mT)
    return attention, attention @ contexts


def _attend_back(d_pooled: Tensor, attention: Tensor, contexts: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients in the scores (n, i, l) and in what is asked (n, i, r), from that in the pooled contexts."""
    d_scores = softmax_gradient(d_pooled @ contexts.mT, attention)
    return d_scores, d_scores @ contexts


def _hidden(f: Layer, h: Tensor, first: bool) -> tuple[Tensor, Saved]:
    """A layer that moves every token: h (n, T, r) -> (n, T, d)."""
    n, t, r = h.shape
    asked = (h.view(n * t, r) @ f.ask).view(n, t, r)
    attention, pooled = _attend(asked, h[:, :-1])
    flat = pooled.view(n * t, r)
    neurons = (flat @ f.neuron).relu_()
    moved = h.reshape(n * t, r) @ f.token if first else h.reshape(n * t, r)
    moved = torch.addmm(moved, flat, f.value).addmm_(neurons, f.back)
    return moved.view(n, t, -1), (h, asked, attention, pooled, neurons.view(n, t, -1))


def _hidden_back(f: Layer, g: Layer, saved: Saved, dh: Tensor, first: bool) -> Tensor:
    h, asked, attention, pooled, neurons = saved
    n, t, r = h.shape
    flat, fired, dh = pooled.view(n * t, r), neurons.view(n * t, -1), dh.view(n * t, -1)
    g.back.addmm_(fired.T, dh)
    d_fired = torch.ops.aten.threshold_backward(dh @ f.back.T, fired, 0)
    g.value.addmm_(flat.T, dh)
    g.neuron.addmm_(flat.T, d_fired)
    d_pooled = (dh @ f.value.T).addmm_(d_fired, f.neuron.T).view(n, t, r)
    d_scores, d_asked = _attend_back(d_pooled, attention, h[:, :-1])
    g.ask.addmm_(h.view(n * t, r).T, d_asked.view(n * t, r))
    if first:  # what comes in is given
        return dh
    out = torch.addmm(dh, d_asked.view(n * t, r), f.ask.T).view(n, t, r)
    out[:, :-1] += torch.cat([d_scores, attention], 1).mT @ torch.cat([asked, d_pooled], 1)
    return out


def _last(f: Layer, h: Tensor) -> tuple[Tensor, Saved]:
    """The last layer, of which only the query's neurons are needed: (n, m)."""
    asked = (h[:, -1] @ f.ask)[:, None]
    attention, pooled = _attend(asked, h[:, :-1])
    neurons = (pooled[:, 0] @ f.neuron).relu_()
    return neurons, (h, asked, attention, pooled, neurons[:, None])


def _last_back(f: Layer, g: Layer, saved: Saved, d_neurons: Tensor) -> Tensor:
    h, asked, attention, pooled, neurons = saved
    d_fired = torch.ops.aten.threshold_backward(d_neurons, neurons[:, 0], 0)
    g.neuron.addmm_(pooled[:, 0].T, d_fired)
    d_pooled = (d_fired @ f.neuron.T)[:, None]
    d_scores, d_asked = _attend_back(d_pooled, attention, h[:, :-1])
    g.ask.addmm_(h[:, -1].T, d_asked[:, 0])
    of_contexts = torch.cat([d_scores, attention], 1).mT @ torch.cat([asked, d_pooled], 1)
    return torch.cat([of_contexts, (d_asked[:, 0] @ f.ask.T)[:, None]], 1)


def forward_pass(layers: list[Layer], codes: Tensor) -> tuple[Tensor, Tensor, list[Saved]]:
    """The query's attention (n, L, 1, l) and neurons (n, L, m), and the tape for the backward pass, from codes (n, T, P + 1)."""
    h, tape = codes, []
    for s, f in enumerate(layers):
        h, saved = _hidden(f, h, s == 0) if s < len(layers) - 1 else _last(f, h)
        tape.append(saved)
    return (
        torch.stack([saved[2][:, -1:] for saved in tape], 1),
        torch.stack([saved[4][:, -1] for saved in tape], 1),
        tape,
    )


def backward_pass(layers: list[Layer], gradients: list[Layer], tape: list[Saved], d_output: Tensor, a: Tensor) -> None:
    """Add the gradient of sum(d_output * F) to the gradients. Prompts without one (beyond the hinge's margin) are left out."""
    rows = d_output.nonzero()[:, 0]
    if len(rows) == 0:
        return
    if len(rows) < len(d_output):
        tape, d_output = [tuple(part[rows] for part in saved) for saved in tape], d_output[rows]
    dh = _last_back(layers[-1], gradients[-1], tape[-1], d_output[:, None] * a)
    for s in reversed(range(len(layers) - 1)):
        dh = _hidden_back(layers[s], gradients[s], tape[s], dh, s == 0)
