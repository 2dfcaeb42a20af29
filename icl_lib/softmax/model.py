"""Paper L's learner: one softmax-attention head and a ReLU layer (Li et al. 2024, learner).

F(Psi; P) = a^T ReLU(W_O sum_i W_V p_i softmax_i((W_K p_i)^T W_Q p_query))

Every token lies in the span of the patterns and q. With C the matrix of these P + 1 vectors, the model needs two small
tables per member: G = C_x W_Q^T W_K C^T (scores between pairs of patterns) and H = W_O W_V C^T (what each pattern sends to
each neuron). Prompts then enter as codes: scores are looked up in G, attention weights are added up per pattern. This is
the formula above exactly (tests compare it with a loop over dense tokens).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from icl_lib.rng import generator
from icl_lib.softmax.network import hinge_gradient, softmax
from icl_lib.softmax.patterns import PatternConfig, Patterns
from icl_lib.softmax.prompts import Prompts
from icl_lib.validate import require, require_integer, require_memory, require_number


@dataclass(frozen=True)
class ModelConfig:
    """Width and initialisation.

    Attributes:
        m: number of neurons, even (half of the output weights a are positive).
        delta: W_V = delta I; W_Q and W_K are delta on the first d_x diagonal entries. The paper has delta <= 0.2.
        xi: standard deviation of the Gaussian W_O. The paper's text has 1/sqrt(m); the default .02 is ours,
            chosen after looking (post hoc), since it shows feature learning as the published magnitudes do.
        a_scale: the output weights are +-a_scale.
    """

    m: int = 100
    delta: float = 0.2
    xi: float = 0.02
    a_scale: float = 0.01

    def __post_init__(self) -> None:
        require_integer("m", self.m, 2)
        require(self.m % 2 == 0, "m", self.m, "even, so that half of the output weights are positive")
        for field in ("delta", "xi", "a_scale"):
            require_number(field, getattr(self, field), 1e-9, 1e6)


class Params(NamedTuple):
    """Weights of an ensemble; d = d_x + d_y. W_Q, W_K and W_V lie stacked, since one product then serves all three.

    The output weights ``a`` stay fixed in training.
    """

    w_qkv: Float[Tensor, "E three_d d"]
    w_o: Float[Tensor, "E m d"]
    a: Float[Tensor, "E m"]

    @property
    def w_q(self) -> Float[Tensor, "E d d"]:
        """W_Q, a view."""
        return self.w_qkv.chunk(3, dim=1)[0]

    @property
    def w_k(self) -> Float[Tensor, "E d d"]:
        """W_K, a view."""
        return self.w_qkv.chunk(3, dim=1)[1]

    @property
    def w_v(self) -> Float[Tensor, "E d d"]:
        """W_V, a view."""
        return self.w_qkv.chunk(3, dim=1)[2]


class Activations(NamedTuple):
    """What a forward pass computed: attention, pooled token in pattern coordinates, neurons after the ReLU, output."""

    attention: Float[Tensor, "E B l"]
    pooled: Float[Tensor, "E B P_plus_1"]
    hidden: Float[Tensor, "E B m"]
    output: Float[Tensor, "E B"]


def init_params(model: ModelConfig, patterns: PatternConfig, seed: int) -> Params:
    """Initial weights of one member (ensemble dimension 1), from the stream (seed, "init")."""
    gen = generator(seed, "init")
    d = patterns.d_x + patterns.d_y
    require_memory("m", model.m, 8.0 * model.m * d)  # drawn, and times xi
    on_inputs = torch.zeros(d)
    on_inputs[: patterns.d_x] = float(model.delta)
    w_o = float(model.xi) * torch.randn(1, model.m, d, generator=gen)
    positive = torch.randperm(model.m, generator=gen) < model.m // 2
    a = torch.where(positive, float(model.a_scale), -float(model.a_scale))[None]
    w_qkv = torch.cat([on_inputs.diag(), on_inputs.diag(), float(model.delta) * torch.eye(d)])[None]
    return Params(w_qkv, w_o, a)


class _Tables(NamedTuple):
    """Products of the weights with the basis C that forward and backward share."""

    query: Tensor  # (E, d, P + 1)  W_Q C^T
    key: Tensor  # (E, d, P + 1)  W_K C^T
    value: Tensor  # (E, d, P + 1)  W_V C^T
    neuron: Tensor  # (E, m, P + 1)  H = W_O W_V C^T
    asked: Tensor  # (E, B, P + 1)  each query in the basis; the last column, its label, is 0


def _tables(params: Params, patterns: Patterns, prompts: Prompts) -> _Tables:
    query, key, value = (params.w_qkv @ patterns.basis.mT).chunk(3, dim=1)
    asked = params.a.new_zeros(*prompts.target.shape, patterns.basis.shape[-2])
    sizes = torch.stack([torch.ones_like(prompts.query_kappa), prompts.query_kappa], dim=-1)
    asked.scatter_(2, prompts.query_parts, sizes)
    return _Tables(query, key, value, params.w_o @ value, asked)


def _gather(by_pattern: Float[Tensor, "E B P_plus_1"], prompts: Prompts) -> Float[Tensor, "E B l"]:
    """Value of each context token, given the value of each pattern and of q."""
    relevant, irrelevant = prompts.parts.unbind(2)
    of_token = by_pattern.gather(2, relevant).addcmul_(prompts.kappa, by_pattern.gather(2, irrelevant))
    return of_token.addcmul_(prompts.label, by_pattern[..., -1:])


def _scatter(of_token: Float[Tensor, "E B l"], prompts: Prompts, n_rows: int) -> Float[Tensor, "E B P_plus_1"]:
    """Sum over the context tokens per pattern and q: the transpose of ``_gather``."""
    relevant, irrelevant = prompts.parts.unbind(2)
    by_pattern = of_token.new_zeros(*of_token.shape[:-1], n_rows)
    by_pattern.scatter_add_(2, relevant, of_token)
    by_pattern.scatter_add_(2, irrelevant, of_token * prompts.kappa)
    torch.sum(of_token * prompts.label, -1, out=by_pattern[..., -1])
    return by_pattern


def _forward(params: Params, tables: _Tables, prompts: Prompts) -> Activations:
    scores = _gather(tables.asked @ (tables.query.mT @ tables.key), prompts)
    attention = softmax(scores)
    pooled = _scatter(attention, prompts, tables.asked.shape[-1])
    hidden = (pooled @ tables.neuron.mT).relu_()
    output = (params.a[:, None] @ hidden.mT)[:, 0]
    return Activations(attention, pooled, hidden, output)


def forward(params: Params, patterns: Patterns, prompts: Prompts) -> Activations:
    """The model's output for each prompt, with what led to it.

    >>> from icl_lib.softmax.patterns import draw_patterns, stack_patterns
    >>> from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
    >>> patterns = stack_patterns([draw_patterns(PatternConfig(), seed=0)])
    >>> rules, tasks = [PromptConfig()], task_table([((0, 1),)])
    >>> prompts = sample_prompts(rules, tasks, [0], patterns.counts, 50, "eval")
    >>> act = forward(init_params(ModelConfig(), PatternConfig(), seed=0), patterns, prompts)
    >>> act.output.shape
    torch.Size([1, 50])
    >>> torch.allclose(act.attention.sum(-1), torch.ones(1, 50))
    True
    """
    return _forward(params, _tables(params, patterns, prompts), prompts)


def backward(
    params: Params, patterns: Patterns, prompts: Prompts, d_output: Float[Tensor, "E B"] | None = None
) -> tuple[Activations, Params]:
    """Forward pass and the gradient of sum(d_output * F) in every weight, written out by hand.

    Args:
        d_output: (E, B); by default the gradient of the mean hinge loss, -z 1[z F < 1] / B.

    Returns:
        Activations and gradients; that of ``a`` is zero, since ``a`` is not trained.
    """
    tables = _tables(params, patterns, prompts)
    act = _forward(params, tables, prompts)
    if d_output is None:
        d_output = hinge_gradient(act.output, prompts.target, act.output.shape[1])
    active = (act.hidden > 0).to(act.hidden)  # 1 where a neuron fires, else 0
    d_neuron = params.a[..., None] * (active.mT @ (act.pooled * d_output[..., None]))  # (E, m, P + 1)
    d_pooled = (active @ (params.a[..., None] * tables.neuron)).mul_(d_output[..., None])
    d_attention = _gather(d_pooled, prompts)
    mean = torch.linalg.vecdot(act.attention, d_attention)[..., None]
    d_scores = d_attention.sub_(mean).mul_(act.attention)
    d_by_pattern = _scatter(d_scores, prompts, tables.asked.shape[-1])
    d_g = tables.asked.mT @ d_by_pattern  # (E, P + 1, P + 1); its last row is 0
    d_tables = [tables.key @ d_g.mT, tables.query @ d_g, params.w_o.mT @ d_neuron]
    d_w_qkv = torch.cat(d_tables, dim=1) @ patterns.basis
    return act, Params(d_w_qkv, d_neuron @ tables.value.mT, torch.zeros_like(params.a))


def hinge(act: Activations, prompts: Prompts) -> Float[Tensor, "E B *R"]:
    """max(0, 1 - z F), the training loss of the paper."""
    return (1 - prompts.target * act.output).relu()


def wrong(act: Activations, prompts: Prompts) -> Float[Tensor, "E B *R"]:
    """1 where sign F differs from z (or F is not a number), 1/2 where F = 0: the error that the figures show."""
    margin = prompts.target * act.output
    return 1 - (margin > 0).to(margin.dtype) - 0.5 * (margin == 0)
