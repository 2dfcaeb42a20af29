"""A small GPT-2 for Paper L's prompts: the kind of network behind its out-of-domain figures (3 layers, 2 heads).

Tokens are the columns (x; y) of the prompt matrix, the query last with a zero label. A linear map reads them in, learned
position embeddings are added, and a scalar is read out at the query. Blocks, initialisation and constants are GPT-2's
(Radford et al. 2019; tests compare with the ``transformers`` package).

Exact algebra on the weights, once a step, makes it fast (``_fold``): LayerNorm's gains and biases go into the maps after them,
tokens stay codes of patterns as in ``model.py``, and in the last layer, where only the query is needed, keys and values are
never computed. Autograd goes through these folds; the passes through the tokens are written out in ``gpt_blocks.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.gpt_blocks import Maps, backward_pass, forward_pass
from icl_lib.softmax.network import Network, in_slices, through_maps
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require, require_integer


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of the network.

    Attributes:
        depth: number of blocks.
        heads: attention heads of a block.
        width: of the residual stream, a multiple of ``heads``; the neurons of a block are four times as many.
        max_context: most contexts that a prompt can have, since every position has its own embedding.
    """

    depth: int = 3
    heads: int = 2
    width: int = 64
    max_context: int = 20

    def __post_init__(self) -> None:
        for name in ("depth", "heads", "width", "max_context"):
            require_integer(name, getattr(self, name), 1)
        require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads = {self.heads}")


class GPTParams(NamedTuple):
    """Weights of an ensemble; L layers, h heads, w = h w_h, d = d_x + d_y. Maps act from the right, as in GPT-2's code.

    The norms hold gain and bias. There is no bias beside the position embeddings, and none of the output.
    """

    read_in: Float[Tensor, "E d w"]
    position: Float[Tensor, "E C w"]
    norm_1: Float[Tensor, "E L 2 w"]
    qkv: Float[Tensor, "E L w 3 h w_h"]
    qkv_bias: Float[Tensor, "E L 3 h w_h"]
    out: Float[Tensor, "E L h w_h w"]
    out_bias: Float[Tensor, "E L w"]
    norm_2: Float[Tensor, "E L 2 w"]
    up: Float[Tensor, "E L w w4"]
    up_bias: Float[Tensor, "E L w4"]
    down: Float[Tensor, "E L w4 w"]
    down_bias: Float[Tensor, "E L w"]
    norm_out: Float[Tensor, "E 2 w"]
    read_out: Float[Tensor, "E w"]

    def queries_and_keys(self) -> list[Tensor]:
        """Views of the maps to queries and keys."""
        return [self.qkv[:, :, :, :2], self.qkv_bias[:, :, :2]]


class GPTActivations(NamedTuple):
    """Output; the query's attention on the contexts, mean over layers and heads; that of every head, itself included."""

    output: Float[Tensor, "E B"]
    attention: Float[Tensor, "E B l"]
    by_layer: Float[Tensor, "E B L h l_plus_1"]


def init_gpt(config: GPTConfig, patterns: PatternConfig, seed: int) -> GPTParams:
    """Initial weights of one member (E = 1), from the stream (seed, "init gpt").

    As GPT-2: N(0, .02^2), over sqrt(2 depth) for the two maps of a block that write to the residual stream; biases 0.

    >>> init_gpt(GPTConfig(depth=1, heads=1, width=8), PatternConfig(), seed=0).qkv.shape
    torch.Size([1, 1, 8, 3, 1, 8])
    """
    gen, w, h, depth = generator(seed, "init gpt"), config.width, config.heads, config.depth

    def normal(*shape: int, std: float = 0.02) -> Tensor:
        return std * torch.randn(1, *shape, generator=gen)

    residual, norm = 0.02 / math.sqrt(2 * depth), torch.eye(2)[0, :, None].repeat(1, depth + 1, 1, w)  # gain 1, bias 0
    return GPTParams(
        normal(patterns.d_x + patterns.d_y, w), normal(config.max_context + 1, w),
        norm[:, 1:], normal(depth, w, 3, h, w // h), torch.zeros(1, depth, 3, h, w // h),
        normal(depth, h, w // h, w, std=residual), torch.zeros(1, depth, w),
        norm[:, 1:], normal(depth, w, 4 * w), torch.zeros(1, depth, 4 * w),
        normal(depth, 4 * w, w, std=residual), torch.zeros(1, depth, w), norm[:, 0], normal(w),
    )  # fmt: skip


def _fold(p: GPTParams, patterns: Patterns) -> Maps:
    """The maps of an ensemble that act on tokens."""
    scale = torch.tensor([p.qkv.shape[-1] ** -0.5, 1, 1], dtype=p.qkv.dtype).to(p.qkv.device)[:, None, None]
    gain, shift = p.norm_1.unbind(2)
    qkv_bias = (p.qkv_bias + torch.einsum("elw,elwxhv->elxhv", shift, p.qkv)) * scale
    qkv = p.qkv * gain[..., None, None, None] * scale
    w_q, w_k, w_v = qkv[:, -1].unbind(2)  # (E, w, h, w_h)
    # A key's bias adds the same to all scores of a query, and attention weights add up to 1.
    ask = torch.einsum("ewhv,euhv->ewhu", w_q, w_k).flatten(2)
    ask_bias = torch.einsum("ehv,euhv->ehu", qkv_bias[:, -1, 0], w_k).flatten(1)
    answer = torch.einsum("ewhv,ehvu->ehwu", w_v, p.out[:, -1]).flatten(1, 2)
    answer_bias = p.out_bias[:, -1] + torch.einsum("ehv,ehvu->eu", qkv_bias[:, -1, 2], p.out[:, -1])
    gain, shift = p.norm_2.unbind(2)
    up, up_bias = gain[..., None] * p.up, p.up_bias + torch.einsum("elw,elwv->elv", shift, p.up)
    gain, shift = p.norm_out.unbind(1)
    return Maps(
        qkv.flatten(3), qkv_bias.flatten(2), p.out.flatten(2, 3), p.out_bias, up, up_bias, p.down, p.down_bias,
        ask, ask_bias, answer, answer_bias,
        patterns.basis @ p.read_in, p.position, gain * p.read_out, (shift * p.read_out).sum(1),
    )  # fmt: skip


def _run(
    params: GPTParams,
    prompts: Prompts,
    d_output: Tensor | None,
    maps: Sequence[Tensor],
    gradients: Sequence[Tensor] = (),
) -> GPTActivations:
    """The forward pass; with ``gradients``, also the backward pass."""
    l, longest, members = prompts.label.shape[-1], params.position.shape[1] - 1, range(len(params.position))
    require(l <= longest, "n_context", l, f"at most the network's max_context = {longest}")
    f, g = ([Maps(*of).of_member(e) for e in members if of] for of in (maps, gradients))
    n_rows = Maps(*maps).table.shape[1]
    output, weights = in_slices((forward_pass, backward_pass), prompts, n_rows, f, g, d_output)
    return GPTActivations(output, weights.mean((2, 3))[..., :-1], weights)


@torch.no_grad()
def forward(params: GPTParams, patterns: Patterns, prompts: Prompts) -> GPTActivations:
    """The network's output for each prompt, and where the query attended.

    Raises:
        ConfigError: if the prompts are longer than ``max_context``.
    """
    return _run(params, prompts, None, _fold(params, patterns))


def backward(
    params: GPTParams, patterns: Patterns, prompts: Prompts, d_output: Float[Tensor, "E B"] | None = None
) -> tuple[GPTActivations, GPTParams]:
    """Forward pass and the gradient of sum(d_output * F) in every weight.

    Args:
        d_output: (E, B); by default the gradient of the mean hinge loss, -z 1[z F < 1] / B. A prompt
            whose entry is 0 costs no backward pass, and late in training most are beyond the margin.
    """
    return through_maps(params, partial(_fold, patterns=patterns), partial(_run, params, prompts, d_output))


GPT = Network(GPTParams, init_gpt, forward, backward)
