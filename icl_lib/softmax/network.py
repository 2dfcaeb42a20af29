"""What the networks share: how one is given to training, softmax over short rows, and the passes of those with several layers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.softmax.prompts import Prompts, codes_of
from icl_lib.twin import twinned

SHORT = 16  # rows from this length on are left to torch's softmax
SLICE = 128  # prompts that pass together through several layers, which bounds memory; 16 to 64 are slower
Tape = list[tuple[Tensor, ...]]  # what a backward pass needs of the forward pass, step by step


class Network(NamedTuple):
    """The functions of a network.

    Attributes:
        params: the named tuple of its weights, (E, ...) each.
        init: (its config, PatternConfig, seed) -> initial weights of one member, E = 1.
        forward: (params, patterns, prompts) -> activations, with ``output`` (E, B) and ``attention`` (E, B, l).
        backward: (params, patterns, prompts) -> activations and the gradient of the mean hinge loss in every weight.
    """

    params: type
    init: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., tuple[Any, Any]]


def initialised(init: Callable[..., Any], configs: Sequence[Any]) -> Any:
    """Initial weights of an ensemble, (E, ...) each; configs of one network, alike in sizes."""
    members = [init(c.model, c.patterns, c.seed) for c in configs]
    twins = [[twinned(weight, c.seed) for weight in params] for params, c in zip(members, configs, strict=True)]
    return type(members[0])(*(torch.cat(parts) for parts in zip(*twins, strict=True)))


def softmax(scores: Float[Tensor, "*rows l"]) -> Float[Tensor, "*rows l"]:
    """Attention from scores: exp(s_i) / sum_j exp(s_j) in each row, as ``scores.softmax(-1)``.

    torch takes 16 floats of a row at a time, and shorter rows number by number: with 15 contexts that costs seven times
    as much as with 16. Most of the book's prompts are that short, so there the steps are taken one after the other.

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


def hinge_gradient(output: Float[Tensor, "*e B"], target: Float[Tensor, "*e B"], n: int) -> Float[Tensor, "*e B"]:
    """Gradient of the mean hinge loss over n prompts in their outputs, -z 1[z F < 1] / n."""
    return -(target * (target * output < 1)) / n


def in_slices(
    passes: tuple[Callable[..., tuple[Tensor, ...]], Callable[..., None]],
    prompts: Prompts,
    n_rows: int,
    maps: Sequence[Any],
    gradients: Sequence[Any] = (),
    d_output: Float[Tensor, "E B"] | None = None,
) -> list[Tensor]:
    """Pass prompts through several layers, member by member and ``SLICE`` prompts at a time.

    Args:
        passes: forward (maps, codes (n, T, P + 1), tape) -> output (n,) and others (n, ...); and backward (maps, gradients in
            them to be added to, codes, tape, gradient in the output).
        n_rows: patterns and q, P + 1.
        maps, gradients: of each member; without gradients there is no tape and no backward pass.
        d_output: gradient in the output; by default that of the mean hinge loss.

    Returns:
        What the forward pass returned, (E, B, ...) each.
    """
    (members, n), found = prompts.target.shape, []
    for e, i in ((e, i) for e in range(members) for i in range(0, n, SLICE)):
        some, tape = Prompts(*(part[e, i : i + SLICE] for part in prompts)), Tape()
        codes = codes_of(some, n_rows)
        found.append(passes[0](maps[e], codes, tape if gradients else None))
        if gradients:
            d = hinge_gradient(found[-1][0], some.target, n) if d_output is None else d_output[e, i : i + SLICE]
            passes[1](maps[e], gradients[e], codes, tape, d)
    return [torch.cat(parts).unflatten(0, (members, n)) for parts in zip(*found, strict=True)]


def through_maps(params: Any, fold: Callable[[Any], Sequence[Tensor]], run: Callable[..., Any]) -> tuple[Any, Any]:
    """Activations and the gradient in the weights, where only a few maps made of the weights act on tokens.

    Args:
        fold: weights -> maps; autograd goes back through it.
        run: (maps, gradients in them to be added to) -> activations; the passes through tokens, written out.
    """
    leaves = type(params)(*(weight.detach().requires_grad_() for weight in params))
    with torch.enable_grad():
        maps = fold(leaves)
    with torch.no_grad():
        gradients = [torch.zeros_like(part) for part in maps]
        act = run([part.detach() for part in maps], gradients)
    outputs, of_outputs = zip(
        *(pair for pair in zip(maps, gradients, strict=True) if pair[0].requires_grad), strict=True
    )
    found = torch.autograd.grad(outputs, leaves, of_outputs, allow_unused=True, materialize_grads=True)
    return act, type(params)(*found)
