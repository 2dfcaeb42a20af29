"""Paper L's learner in several layers: single-head attention and a ReLU layer, stacked with residual connections.

Layer s, for every token i, attends to the context tokens j:
v_i = sum_j W_V h_j softmax_j((W_K h_j)^T W_Q h_i). Hidden layers move every token,
h_i <- h_i + v_i + U ReLU(W_O v_i), and the last one reads out F = a^T ReLU(W_O v_query). The paper does not
spell out its three-layer network. The map U back to the tokens and both residual terms are our choice;
without v_i as one of them, only the last layer's attention concentrates. With one layer this is
the network of ``model.py``.
"""

from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.network import Network
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import Prompts, codes_of
from icl_lib.softmax.stack_blocks import Layer, backward_pass, forward_pass
from icl_lib.validate import require_integer

SLICE = 128  # prompts of a member that pass together, which bounds memory


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


def _fold(p: StackParams, patterns: Patterns) -> list[Layer]:
    """The maps of an ensemble, layer by layer, as they act on tokens."""
    layers, depth = [], p.w_o.shape[1]
    for s in range(depth):
        w_q, w_k, w_v = p.qkv[:, s].unbind(1)
        one = torch.eye(w_v.shape[-1], dtype=w_v.dtype, device=w_v.device)
        token = patterns.basis if s == 0 else one.expand_as(w_v)
        # (W_K h_j)^T W_Q h_i as h_j^T (W_K^T W_Q h_i), and W_V after the sum: less to do, and the same
        ask, value = (token @ w_q.mT) @ (w_k @ token.mT), token @ w_v.mT
        of_tokens = p.u[:, s].mT if s < depth - 1 else p.w_o[:, s, :, :0]
        layers.append(Layer(ask, value, value @ p.w_o[:, s].mT, of_tokens, token))
    return layers


def _run(
    params: StackParams, layers: list[Layer], prompts: Prompts, gradients: list[Layer] | None, d_output: Tensor | None
) -> StackActivations:
    """Member by member, slice by slice; with ``gradients``, also the backward pass."""
    (members, n), l, (_, depth, m, _) = prompts.target.shape, prompts.label.shape[-1], params.w_o.shape
    output, weights = torch.empty_like(prompts.target), prompts.target.new_empty(members, n, depth, 1, l)
    neurons = prompts.target.new_empty(members, n, depth, m)
    for e in range(members):
        f = [Layer(*(part[e] for part in layer)) for layer in layers]
        g = gradients and [Layer(*(part[e] for part in layer)) for layer in gradients]
        for i in range(0, n, SLICE):
            some, now = Prompts(*(part[e, i : i + SLICE] for part in prompts)), (e, slice(i, i + SLICE))
            weights[now], neurons[now], tape = forward_pass(f, codes_of(some, layers[0].token.shape[1]))
            output[now] = out = neurons[now][:, -1] @ params.a[e]
            if g:
                of_hinge = -some.target * (some.target * out < 1) / n
                backward_pass(f, g, tape, of_hinge if d_output is None else d_output[now], params.a[e])
    return StackActivations(output, weights.mean((2, 3)), weights, neurons)


@torch.no_grad()
def forward(params: StackParams, patterns: Patterns, prompts: Prompts) -> StackActivations:
    """The network's output for each prompt, with what led to it."""
    return _run(params, _fold(params, patterns), prompts, None, None)


def backward(
    params: StackParams, patterns: Patterns, prompts: Prompts, d_output: Float[Tensor, "E B"] | None = None
) -> tuple[StackActivations, StackParams]:
    """Forward pass and the gradient of sum(d_output * F) in every weight (zero for ``a``).

    Args:
        d_output: (E, B); by default the gradient of the mean hinge loss, -z 1[z F < 1] / B. A prompt
            whose entry is 0 costs no backward pass.
    """
    leaves = StackParams(*(weight.detach().requires_grad_() for weight in params))
    with torch.enable_grad():
        layers = _fold(leaves, patterns)
    with torch.no_grad():
        plain = [Layer(*(part.detach() for part in layer)) for layer in layers]
        gradients = [Layer(*map(torch.zeros_like, layer)) for layer in plain]
        act = _run(params, plain, prompts, gradients, d_output)
    pairs = zip(chain(*layers), chain(*gradients), strict=True)
    maps, of_maps = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)  # tokens are given
    grads = torch.autograd.grad(maps, leaves, of_maps, allow_unused=True, materialize_grads=True)
    return act, StackParams(*grads)


STACK = Network(StackParams, init_stack, forward, backward)
