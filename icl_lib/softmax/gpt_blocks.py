"""The blocks of ``gpt.py`` for one member, forward and backward: plain matrix products on (prompts x tokens, width).

Each step of the forward pass returns its result and what its backward pass needs. That one adds the gradients of the maps to
``g`` and returns the gradient in its input. Sizes: n prompts, T tokens, width w, h heads.

Why by hand: autograd over all members at once takes some twenty lines and gives the same gradients to 9e-8, but was 1.6 to
2.1 times as fast as `transformers` where this was 1.8 to 3.7 times (the same holds for ``stack.py``).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from icl_lib.softmax.network import Tape, softmax, softmax_gradient

EPS = 1e-5  # of LayerNorm
# GPT-2's GELU, u (1 + tanh(sqrt(2/pi) (u + .044715 u^3))) / 2, is u sigmoid(C1 u + C3 u^3), which takes half the time.
C1 = 2 * math.sqrt(2 / math.pi)
C3 = 0.044715 * C1

Saved = tuple[Tensor, ...]


class Maps(NamedTuple):
    """The maps that act on tokens, without LayerNorm's gains and biases, and scores already scaled.

    With leading dimensions E and, up to ``down_bias``, layers; of one member: without E, and a tuple of layers.
    """

    qkv: Tensor  # (w, 3 w)
    qkv_bias: Tensor
    out: Tensor  # (w, w)
    out_bias: Tensor
    up: Tensor  # (w, 4 w)
    up_bias: Tensor
    down: Tensor  # (4 w, w)
    down_bias: Tensor
    ask: Tensor  # (w, h w)  last layer: W_Q W_K^T of each head
    ask_bias: Tensor
    answer: Tensor  # (h w, w)  last layer: W_V W_O of each head
    answer_bias: Tensor
    table: Tensor  # (P + 1, w)  what each pattern and q are read in as
    position: Tensor  # (max_context + 1, w)
    read_out: Tensor  # (w,)
    read_out_bias: Tensor  # ()

    @property
    def heads(self) -> int:
        """Attention heads of a layer."""
        return self.ask.shape[-1] // self.ask.shape[-2]

    def of_member(self, e: int) -> "Maps":
        """Views of one member's maps, layers apart: taking them out again and again would cost more than some products."""
        return Maps(*(part[e].unbind() if i < 8 else part[e] for i, part in enumerate(self)))  # type: ignore[arg-type]


def _norm(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.native_layer_norm(h, h.shape[-1:], None, None, EPS)


def _norm_back(d: Tensor, h: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    wanted = [True, False, False]  # the gradient in the input; gain and bias are in the maps
    return torch.ops.aten.native_layer_norm_backward(d, h, h.shape[-1:], mean, rstd, None, None, wanted)[0]


def _attend(f: Maps, i: int, h: Tensor, n: int) -> tuple[Tensor, Saved]:
    """Causal attention of all tokens."""
    t, w, heads = len(h) // n, h.shape[1], f.heads
    x, *moments = _norm(h)
    qkv = torch.addmm(f.qkv_bias[i], x, f.qkv[i]).view(n, t, 3, heads, w // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).reshape(3, n * heads, t, w // heads)
    future = h.new_full((t, t), -math.inf).triu(1)
    attention = softmax(torch.baddbmm(future, q, k.mT))  # (n h, T, T)
    pooled = (attention @ v).view(n, heads, t, w // heads).transpose(1, 2).reshape(n * t, w)
    return torch.add(h, f.out_bias[i]).addmm_(pooled, f.out[i]), (h, x, *moments, q, k, v, pooled, attention)


def _attend_back(f: Maps, g: Maps, i: int, saved: Saved, dh: Tensor, n: int) -> Tensor:
    h, x, mean, rstd, q, k, v, pooled, attention = saved
    t, w, heads = len(h) // n, h.shape[1], f.heads
    g.out[i].addmm_(pooled.T, dh)
    g.out_bias[i].add_(dh.sum(0))
    d_pooled = (dh @ f.out[i].T).view(n, t, heads, w // heads).transpose(1, 2).reshape(n * heads, t, w // heads)
    d_scores = softmax_gradient(d_pooled @ v.mT, attention)
    d_qkv = torch.stack([d_scores @ k, d_scores.mT @ q, attention.mT @ d_pooled])
    d_qkv = d_qkv.view(3, n, heads, t, w // heads).permute(1, 3, 0, 2, 4).reshape(n * t, 3 * w)
    g.qkv[i].addmm_(x.T, d_qkv)
    g.qkv_bias[i].add_(d_qkv.sum(0))
    return _norm_back(d_qkv @ f.qkv[i].T, h, mean, rstd).add_(dh)


def _ask(f: Maps, h: Tensor, n: int) -> tuple[Tensor, Saved]:
    """Attention of the query alone, without keys and values; what is returned is the query's, (n, w)."""
    t, w, heads = len(h) // n, h.shape[1], f.heads
    x, *moments = _norm(h)
    tokens = x.view(n, t, w)
    asked = torch.addmm(f.ask_bias, tokens[:, -1], f.ask).view(n, heads, w)
    attention = softmax(asked @ tokens.mT)  # (n, h, T)
    pooled = (attention @ tokens).view(n, heads * w)
    out = (h.view(n, t, w)[:, -1] + f.answer_bias).addmm_(pooled, f.answer)
    return out, (h, x, *moments, asked, pooled, attention)


def _ask_back(f: Maps, g: Maps, saved: Saved, dh: Tensor, n: int) -> Tensor:
    h, x, mean, rstd, asked, pooled, attention = saved
    tokens = x.view(n, -1, x.shape[1])
    g.answer.addmm_(pooled.T, dh)
    g.answer_bias.add_(dh.sum(0))
    d_pooled = (dh @ f.answer.T).view_as(asked)
    d_scores = softmax_gradient(d_pooled @ tokens.mT, attention)
    d_asked = (d_scores @ tokens).view(n, -1)
    g.ask.addmm_(tokens[:, -1].T, d_asked)
    g.ask_bias.add_(d_asked.sum(0))
    dx = torch.cat([d_scores, attention], 1).mT @ torch.cat([asked, d_pooled], 1)  # (n, T, w)
    dx[:, -1].addmm_(d_asked, f.ask.T)
    out = _norm_back(dx.view_as(h), h, mean, rstd)
    out.view_as(tokens)[:, -1] += dh
    return out


def _mlp(f: Maps, i: int, h: Tensor) -> tuple[Tensor, Saved]:
    x, *moments = _norm(h)
    u = torch.addmm(f.up_bias[i], x, f.up[i])
    s = (u * u).mul_(C3).add_(C1).mul_(u).sigmoid_()
    y = u * s
    return torch.add(h, f.down_bias[i]).addmm_(y, f.down[i]), (h, x, *moments, u, s, y)


def _mlp_back(f: Maps, g: Maps, i: int, saved: Saved, dh: Tensor) -> Tensor:
    h, x, mean, rstd, u, s, y = saved
    g.down[i].addmm_(y.T, dh)
    g.down_bias[i].add_(dh.sum(0))
    derivative = (u * u).mul_(3 * C3).add_(C1)
    derivative.addcmul_(derivative, s, value=-1)
    du = (dh @ f.down[i].T).mul_(torch.addcmul(s, y, derivative))  # s + y (1 - s) (C1 + 3 C3 u^2)
    g.up[i].addmm_(x.T, du)
    g.up_bias[i].add_(du.sum(0))
    return _norm_back(du @ f.up[i].T, h, mean, rstd).add_(dh)


def forward_pass(f: Maps, codes: Tensor, tape: Tape | None = None) -> tuple[Tensor, Tensor]:
    """Outputs (n,) and the query's attention (n, L, h, T). What the backward pass needs goes on the tape, if there is one."""
    (n, t, r), depth, by_layer = codes.shape, len(f.up), []
    h = (codes.view(n * t, r) @ f.table).view(n, t, -1).add_(f.position[:t]).view(n * t, -1)
    for i in range(depth):
        h, of_attention = _attend(f, i, h, n) if i < depth - 1 else _ask(f, h, n)
        by_layer.append(of_attention[-1].view(n, f.heads, -1, t)[:, :, -1])
        h, of_mlp = _mlp(f, i, h)
        if tape is not None:
            tape += [of_attention, of_mlp]
    x, *moments = _norm(h)
    if tape is not None:
        tape.append((h, x, *moments))
    return torch.addmv(f.read_out_bias, x, f.read_out), torch.stack(by_layer, 1)


def backward_pass(f: Maps, g: Maps, codes: Tensor, tape: Tape, d_output: Tensor) -> None:
    """Add the gradient of sum(d_output * F) to g. Prompts without one (beyond the hinge's margin) are left out."""
    rows, n = d_output.nonzero()[:, 0], len(codes)
    if len(rows) < n:
        tape = [tuple(part.unflatten(0, (n, -1))[rows].flatten(0, 1) for part in saved) for saved in tape]
        codes, d_output, n = codes[rows], d_output[rows], len(rows)
    if n == 0:
        return
    h, x, *moments = tape.pop()
    g.read_out.addmv_(x.T, d_output)
    g.read_out_bias.add_(d_output.sum())
    dh = _norm_back(d_output[:, None] * f.read_out, h, *moments)
    for i in reversed(range(len(f.up))):
        dh = _mlp_back(f, g, i, tape.pop(), dh)
        saved = tape.pop()
        dh = _attend_back(f, g, i, saved, dh, n) if i < len(f.up) - 1 else _ask_back(f, g, saved, dh, n)
    g.table.addmm_(codes.flatten(0, 1).T, dh)
    g.position[: codes.shape[1]] += dh.view(n, -1, dh.shape[1]).sum(0)
