"""Paper L's learner in several layers: single-head attention and a ReLU layer, stacked with residual connections.

Layer s, for every token i, attends to the context tokens j:
v_i = sum_j W_V h_j softmax_j((W_K h_j)^T W_Q h_i). Hidden layers move every token,
h_i <- h_i + v_i + U ReLU(W_O v_i), and the last one reads out F = a^T ReLU(W_O v_query). The paper does not spell out its
three-layer network. The map U back to the tokens and both residual terms are ours; without v_i as one of them, only the
last layer's attention concentrates. With one layer this is the network of ``model.py``.

The passes are plain matrix products on (prompts x tokens, d) of one member; the backward pass adds the gradients of the
maps to those in ``g``. In the first layer tokens are coefficients of the patterns and q, half as many numbers as d, and its
maps act on these. Sizes: n prompts, T tokens (the query last), l = T - 1 contexts, r numbers a token (P + 1 or d), m neurons.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.network import Network, Tape, in_slices, softmax, softmax_gradient, through_maps
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require_integer

Saved = tuple[Tensor, ...]


@dataclass(frozen=True)
class StackConfig:
    """Depth, neurons a layer, and the initialisation of ``ModelConfig``; the Gaussian U has the same xi as W_O."""

    depth: int = 3
    m: int = 100
    delta: float = 0.2
    xi: float = 0.1
    a_scale: float = 0.01

    def __post_init__(self) -> None:
        require_integer("depth", self.depth, 1)
        ModelConfig(self.m, self.delta, self.xi, self.a_scale)  # refuses what it refuses


class StackParams(NamedTuple):
    """Weights of an ensemble, d = d_x + d_y; W_Q, W_K and W_V of a layer in this order. ``a`` is not trained."""

    qkv: Float[Tensor, "E L 3 d d"]
    w_o: Float[Tensor, "E L m d"]
    u: Float[Tensor, "E L_minus_1 d m"]
    a: Float[Tensor, "E m"]

    def queries_and_keys(self) -> list[Tensor]:
        """Views of what decides the attention."""
        return [self.qkv[:, :, :2]]


class StackActivations(NamedTuple):
    """Output; the query's attention, mean over layers and of each; its neurons after the ReLU."""

    output: Float[Tensor, "E B"]
    attention: Float[Tensor, "E B l"]
    by_layer: Float[Tensor, "E B L 1 l"]
    neurons: Float[Tensor, "E B L m"]


def init_stack(config: StackConfig, patterns: PatternConfig, seed: int) -> StackParams:
    """Initial weights of one member (E = 1), from the stream (seed, "init stack")."""
    gen, d = generator(seed, "init stack"), patterns.d_x + patterns.d_y
    on_inputs = torch.zeros(d)
    on_inputs[: patterns.d_x] = float(config.delta)
    qkv = torch.stack([on_inputs.diag(), on_inputs.diag(), float(config.delta) * torch.eye(d)])
    w_o = float(config.xi) * torch.randn(1, config.depth, config.m, d, generator=gen)
    u = float(config.xi) * torch.randn(1, config.depth - 1, d, config.m, generator=gen)
    positive = torch.randperm(config.m, generator=gen) < config.m // 2
    a = torch.where(positive, float(config.a_scale), -float(config.a_scale))[None]
    return StackParams(qkv.expand(1, config.depth, 3, d, d).clone(), w_o, u, a)


class Layer(NamedTuple):
    """The maps of one layer; they act from the right."""

    ask: Tensor  # (r, r)  W_Q^T W_K
    value: Tensor  # (r, d)  W_V^T; of the last layer nothing needs it
    neuron: Tensor  # (r, m)  W_V^T W_O^T
    back: Tensor  # (m, d)  U^T; in the last layer a, (m, 1)
    token: Tensor  # (r, d)  what a token's numbers stand for: the basis in the first layer, 1 in the others


def _asking(h: Tensor, last: bool) -> Tensor:
    """The tokens that a layer moves, one a row: all, and in the last layer the query's."""
    return h[:, -1] if last else h.reshape(-1, h.shape[-1])


def _layer(f: Layer, h: Tensor, first: bool, last: bool) -> tuple[Tensor, Saved]:
    """Tokens h (n, T, r) moved to (n, T, d); of the last layer the query's neurons, (n, m)."""
    n, _, r = h.shape
    moved = _asking(h, last)
    asked = (moved @ f.ask).view(n, -1, r)
    attention = softmax(asked @ h[:, :-1].mT)
    pooled = attention @ h[:, :-1]
    flat = pooled.view(-1, r)
    neurons = (flat @ f.neuron).relu_()
    saved = (h, asked, attention, pooled, neurons.view(n, -1, neurons.shape[-1]))
    if last:
        return neurons, saved
    moved = torch.addmm(moved @ f.token if first else moved, flat, f.value).addmm_(neurons, f.back)
    return moved.view(n, -1, moved.shape[-1]), saved


def _layer_back(f: Layer, g: Layer, saved: Saved, d: Tensor, first: bool, last: bool) -> Tensor:
    """Gradient in the tokens that came in, given that in what came out; in the first layer tokens are given."""
    h, asked, attention, pooled, neurons = saved
    n, _, r = h.shape
    flat, fired, d = pooled.view(-1, r), neurons.flatten(0, 1), d.view(-1, d.shape[-1])
    if not last:
        g.back.addmm_(fired.T, d)
        g.value.addmm_(flat.T, d)
    d_fired = torch.ops.aten.threshold_backward(d if last else d @ f.back.T, fired, 0)
    g.neuron.addmm_(flat.T, d_fired)
    d_pooled = d_fired @ f.neuron.T if last else (d @ f.value.T).addmm_(d_fired, f.neuron.T)
    d_pooled = d_pooled.view(n, -1, r)
    d_scores = softmax_gradient(d_pooled @ h[:, :-1].mT, attention)
    d_asked = (d_scores @ h[:, :-1]).view(-1, r)
    g.ask.addmm_(_asking(h, last).T, d_asked)
    if first:
        return d
    out = h.new_zeros(h.shape) if last else torch.addmm(d, d_asked, f.ask.T).view(h.shape)
    if last:
        out[:, -1] = d_asked @ f.ask.T
    out[:, :-1] += torch.cat([d_scores, attention], 1).mT @ torch.cat([asked, d_pooled], 1)
    return out


def _forward_pass(layers: list[Layer], codes: Tensor, tape: Tape | None) -> tuple[Tensor, Tensor, Tensor]:
    """Output (n,), the query's attention (n, L, 1, l) and neurons (n, L, m), from codes (n, T, P + 1)."""
    h, tape = codes, Tape() if tape is None else tape
    for s, f in enumerate(layers):
        h, saved = _layer(f, h, s == 0, s == len(layers) - 1)
        tape.append(saved)
    neurons = torch.stack([saved[4][:, -1] for saved in tape], 1)
    return neurons[:, -1] @ layers[-1].back[:, 0], torch.stack([saved[2][:, -1:] for saved in tape], 1), neurons


def _backward_pass(layers: list[Layer], gradients: list[Layer], codes: Tensor, tape: Tape, d_output: Tensor) -> None:
    """Add the gradient of sum(d_output * F) to the gradients. Prompts without one (beyond the hinge's margin) are left out."""
    rows = d_output.nonzero()[:, 0]
    if len(rows) == 0:
        return
    if len(rows) < len(d_output):
        tape, d_output = [tuple(part[rows] for part in saved) for saved in tape], d_output[rows]
    d = d_output[:, None] * layers[-1].back[:, 0]
    for s in reversed(range(len(layers))):
        d = _layer_back(layers[s], gradients[s], tape[s], d, s == 0, s == len(layers) - 1)


def _fold(p: StackParams, patterns: Patterns) -> list[Tensor]:
    """The maps of an ensemble that act on tokens: those of each ``Layer``, one layer after the other."""
    maps, depth = list[Tensor](), p.w_o.shape[1]
    for s in range(depth):
        w_q, w_k, w_v = p.qkv[:, s].unbind(1)
        one = torch.eye(w_v.shape[-1], dtype=w_v.dtype, device=w_v.device)
        token = patterns.basis if s == 0 else one.expand_as(w_v)
        # (W_K h_j)^T W_Q h_i as h_j^T (W_K^T W_Q h_i), and W_V after the sum: less to do, and the same
        ask, value = (token @ w_q.mT) @ (w_k @ token.mT), token @ w_v.mT
        of_tokens = p.u[:, s].mT if s < depth - 1 else p.a[..., None]
        maps += Layer(ask, value, value @ p.w_o[:, s].mT, of_tokens, token)
    return maps


def _run(
    prompts: Prompts, d_output: Tensor | None, maps: Sequence[Tensor], gradients: Sequence[Tensor] = ()
) -> StackActivations:
    """The forward pass; with ``gradients``, also the backward pass."""
    k, members = len(Layer._fields), range(len(maps[0]))
    f, g = (
        [[Layer(*(part[e] for part in of[i : i + k])) for i in range(0, len(of), k)] for e in members if of]
        for of in (maps, gradients)
    )
    output, weights, neurons = in_slices((_forward_pass, _backward_pass), prompts, maps[4].shape[1], f, g, d_output)
    return StackActivations(output, weights.mean((2, 3)), weights, neurons)


@torch.no_grad()
def forward(params: StackParams, patterns: Patterns, prompts: Prompts) -> StackActivations:
    """The network's output for each prompt, with what led to it."""
    return _run(prompts, None, _fold(params, patterns))


def backward(
    params: StackParams, patterns: Patterns, prompts: Prompts, d_output: Float[Tensor, "E B"] | None = None
) -> tuple[StackActivations, StackParams]:
    """Forward pass and the gradient of sum(d_output * F) in every weight (zero for ``a``); ``d_output`` as of ``gpt.backward``."""
    return through_maps(params, partial(_fold, patterns=patterns), partial(_run, prompts, d_output))


STACK = Network(StackParams, init_stack, forward, backward)
