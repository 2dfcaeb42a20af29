"""Pruning in practice (question Q3): other criteria than magnitude, and networks that really become smaller.

A criterion scores every neuron, (E, m) or (E, L, m); the lowest scores go first, as in ``icl_lib.softmax.pruning``. What is kept
is masked there and taken out of the matrices here: the same outputs from smaller products.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax import gpt, model
from icl_lib.softmax.descent import Ensemble, State
from icl_lib.softmax.gpt import GPTParams
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.softmax.pruning import keep
from icl_lib.softmax.training import TrainConfig, initial_state, train
from icl_lib.validate import require


def effect(weight: Float[Tensor, "*layers m d"], gradient: Float[Tensor, "*layers m d"]) -> Float[Tensor, "*layers m"]:
    """|dL/dg| at g = 1 of a factor g on each row of ``weight``, given the gradient of L in ``weight``: |sum_d w_d L'_d|.

    To first order, how far the loss moves when the row goes (Molchanov et al. 2017). A factor on a row of W_O is one on its
    neuron, as ReLU(g u) = g ReLU(u) for g > 0; one on a row of a GPT's map down is one on what its neuron sends out.

    >>> effect(torch.tensor([[3.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, -2.0], [0.0, 5.0]]))
    tensor([1., 0.])
    """
    return (weight * gradient).sum(-1).abs()


def logistic_gradient(output: Float[Tensor, "E B"], prompts: Prompts) -> Float[Tensor, "E B"]:
    """Derivative in F of the mean of log(1 + exp(-z F)), which is not 0 where that of the hinge loss is (z F > 1)."""
    return -prompts.target * torch.sigmoid(-prompts.target * output) / output.shape[1]


def effects(params: Params, patterns: Patterns, prompts: Prompts) -> Float[Tensor, "E m"]:
    """The ``effect`` of every neuron on the mean logistic loss over these prompts."""
    d_output = logistic_gradient(model.forward(params, patterns, prompts).output, prompts)
    return effect(params.w_o, model.backward(params, patterns, prompts, d_output)[1].w_o)


def balanced(scores: Float[Tensor, "E m"], params: Params) -> Float[Tensor, "E m"]:
    """Scores under which both signs of a lose equally many neurons, each its lowest first: ranks within a sign."""
    ranks = torch.zeros_like(scores)
    for side in (params.a > 0, params.a <= 0):
        order = torch.where(side, scores, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
        ranks = torch.where(side, order.to(scores), ranks)
    return ranks


def _rows(kept: Bool[Tensor, "*layers m"]) -> Tensor:
    """Numbers of the kept neurons, in their order."""
    counts = kept.sum(-1).flatten().tolist()
    require(len(set(counts)) == 1, "kept", counts, "equally many in every member and layer")
    return kept.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[..., : counts[0]]


def take(params: Params, kept: Bool[Tensor, "E m"], scale: float = 1.0) -> Params:
    """The kept neurons alone: W_O and a with fewer rows, a times ``scale``.

    Raises:
        ConfigError: if members keep different numbers of neurons.
    """
    rows = _rows(kept)
    w_o = params.w_o.gather(1, rows[..., None].expand(-1, -1, params.w_o.shape[-1]))
    return Params(params.w_qkv, w_o, params.a.gather(1, rows) * scale)


def train_kept(configs: Sequence[TrainConfig], kept: Bool[Tensor, "E m"], scale: float = 1.0) -> Ensemble:
    """Prune before training: take the kept neurons of the initial weights and train them alone, on the configs' prompts."""
    small = take(initial_state(configs).params, kept, scale)
    return train(configs, State(0, small, torch.zeros(len(configs), 0)))


def gpt_magnitude(params: GPTParams) -> Float[Tensor, "E L m"]:
    """Length of the weights into a hidden neuron times that of the weights out of it."""
    return params.up.norm(dim=-2) * params.down.norm(dim=-1)


def gpt_effects(params: GPTParams, patterns: Patterns, prompts: Prompts) -> Float[Tensor, "E L m"]:
    """``effects`` of a GPT's hidden neurons."""
    d_output = logistic_gradient(gpt.forward(params, patterns, prompts).output, prompts)
    return effect(params.down, gpt.backward(params, patterns, prompts, d_output)[1].down)


def gpt_random(params: GPTParams, seeds: Sequence[int]) -> Float[Tensor, "E L m"]:
    """In an order that the seed alone decides."""
    shape = params.up.shape[1], params.up.shape[3]
    return torch.stack([torch.rand(shape, generator=generator(s, "prune")) for s in seeds])


def keep_in_layers(scores: Float[Tensor, "E L m"], rate: float) -> Bool[Tensor, "E L m"]:
    """Which neurons are left when this fraction of every layer goes, the lowest scores first."""
    return keep(scores.flatten(0, 1), [rate])[:, 0].view_as(scores)


def prune_gpt(params: GPTParams, kept: Bool[Tensor, "E L m"]) -> GPTParams:
    """The weights with what the other neurons send out set to 0."""
    return params._replace(down=params.down * kept[..., None])


def take_gpt(params: GPTParams, kept: Bool[Tensor, "E L m"]) -> GPTParams:
    """The kept neurons alone: smaller maps up and down, in every layer as many.

    Raises:
        ConfigError: if members or layers keep different numbers of neurons.
    """
    rows, w = _rows(kept), params.up.shape[2]
    up = params.up.gather(3, rows[:, :, None].expand(-1, -1, w, -1))
    down = params.down.gather(2, rows[..., None].expand(-1, -1, -1, w))
    return params._replace(up=up, up_bias=params.up_bias.gather(2, rows), down=down)
