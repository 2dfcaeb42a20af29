"""Paper L's learner in several layers: single-head attention and a ReLU layer, stacked with residual connections.

Layer s, for every token i, attends to the context tokens j:
v_i = sum_j W_V h_j softmax_j((W_K h_j)^T W_Q h_i). Hidden layers move every token,
h_i <- h_i + v_i + U ReLU(W_O v_i), and the last one reads out F = a^T ReLU(W_O v_query). The paper does not
spell out its three-layer network. The map U back to the tokens and both residual terms are our choice;
without v_i as one of them, only the last layer's attention concentrates. With one layer this is
the network of ``model.py``.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require, require_integer, require_number

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
        require_integer("m", self.m, 2)
        require(self.m % 2 == 0, "m", self.m, "even, so that half of the output weights are positive")
        for name in ("delta", "xi", "a_scale"):
            require_number(name, getattr(self, name), low=1e-9, allowed="a finite number above 0")


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
    on_inputs[: patterns.d_x] = config.delta
    qkv = torch.stack([on_inputs.diag(), on_inputs.diag(), config.delta * torch.eye(d)])
    w_o = config.xi * torch.randn(1, config.depth, config.m, d, generator=gen)
    u = config.xi * torch.randn(1, config.depth - 1, d, config.m, generator=gen)
    positive = torch.randperm(config.m, generator=gen) < config.m // 2
    a = torch.where(positive, config.a_scale, -config.a_scale)[None]
    return StackParams(qkv.expand(1, config.depth, 3, d, d).clone(), w_o, u, a)


def _through(params: StackParams, patterns: Patterns, prompts: Prompts) -> StackActivations:
    h = prompts.dense(patterns).mT  # (E, B, T, d)
    e, b, _, d = h.shape
    by_layer, neurons, depth = [], [], params.w_o.shape[1]
    for s in range(depth):
        w_q, w_k, w_v = params.qkv[:, s].unbind(1)
        asking = h if s < depth - 1 else h[:, :, -1:]  # of the last layer only the query is needed
        # (W_K h_j)^T W_Q h_i as h_j^T (W_K^T W_Q h_i), and W_V after the sum: less to do, and the same
        asked = (asking.reshape(e, -1, d) @ (w_q.mT @ w_k)).view(asking.shape)
        attention = (asked @ h[:, :, :-1].mT).softmax(-1)  # (E, B, T or 1, l)
        v = (attention @ h[:, :, :-1]).view(e, -1, d) @ w_v.mT  # (E, B T or B, d)
        hidden = (v @ params.w_o[:, s].mT).relu()
        by_layer.append(attention[:, :, -1:])
        neurons.append(hidden.view(e, b, -1, hidden.shape[-1])[:, :, -1])
        if s < depth - 1:
            h = h + (v + hidden @ params.u[:, s].mT).view(h.shape)
    output = (neurons[-1] @ params.a[..., None])[..., 0]
    weights = torch.stack(by_layer, 2)
    return StackActivations(output, weights.mean((2, 3)), weights, torch.stack(neurons, 2))


def forward(params: StackParams, patterns: Patterns, prompts: Prompts) -> StackActivations:
    """The network's output for each prompt, with what led to it."""
    starts = range(0, prompts.target.shape[1], SLICE)
    parts = [_through(params, patterns, Prompts(*(x[:, i : i + SLICE] for x in prompts))) for i in starts]
    return StackActivations(*(torch.cat(part, 1) for part in zip(*parts, strict=True)))


def backward(
    params: StackParams, patterns: Patterns, prompts: Prompts, d_output: Float[Tensor, "E B"] | None = None
) -> tuple[StackActivations, StackParams]:
    """Forward pass and, by autograd, the gradient of sum(d_output * F) in every weight (zero for ``a``).

    Args:
        d_output: (E, B); by default the gradient of the mean hinge loss, -z 1[z F < 1] / B.
    """
    qkv, w_o, u = trained = [weight.detach().requires_grad_() for weight in params[:3]]
    with torch.enable_grad():
        act = forward(StackParams(qkv, w_o, u, params.a), patterns, prompts)
    if d_output is None:
        d_output = -(prompts.target * (prompts.target * act.output < 1)) / act.output.shape[1]
    of_qkv, of_w_o, of_u = torch.autograd.grad(act.output, trained, d_output, allow_unused=True, materialize_grads=True)
    return StackActivations(*(part.detach() for part in act)), StackParams(
        of_qkv, of_w_o, of_u, torch.zeros_like(params.a)
    )
