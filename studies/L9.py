"""What each layer of a deep network does: attention on same-pattern contexts, and how its neurons turn and grow.

The paper's figures of three layers colour the neurons of each by the sign of a_i, so every layer has its own fixed a. Here
such a stack is one of ``stack.py`` with U = q a^T, which is not trained: a layer writes its one number, a^T ReLU(W_O v), into
the label part of the token. The paper does not spell this out; it is our reading.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch

from icl_lib.rng import generator
from icl_lib.softmax.deep import DeepConfig, initial_params, network, train_deep, untrained
from icl_lib.softmax.descent import Ensemble, stacked_patterns
from icl_lib.softmax.evaluation import BLOCK
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.stack import StackParams
from icl_lib.softmax.tasks import Tasks


@torch.no_grad()
def layer_masses(
    ensemble: Ensemble, tasks: Sequence[Tasks], prompts: PromptConfig, n_prompts: int = 2_000
) -> pd.DataFrame:
    """The share of the query's attention on contexts that lies on those with its pattern, layer by layer.

    A GPT's query attends to itself too; that part is left out, so that the shares of a GPT and a stack compare.

    Args:
        tasks: one set per member.
        n_prompts: per member, of the held-out stream "eval", rounded up to whole blocks.

    Returns:
        One row per member, layer and head (both from 1): member, seed, layer, head, mass.
    """
    seeds, table, n_blocks = ensemble.seeds, task_table(tasks), -(-n_prompts // BLOCK)
    rules, total = [prompts] * len(seeds), torch.zeros(())
    for step in range(n_blocks):
        drawn = sample_prompts(rules, table, seeds, ensemble.patterns.counts, BLOCK, "eval", step)
        weights = network(ensemble.configs[0]).forward(ensemble.params, ensemble.patterns, drawn).by_layer
        weights = weights[..., : prompts.n_context]  # (E, B, L, h, l)
        same = drawn.same_pattern()[:, :, None, None]
        total = total + ((weights * same).sum(-1) / weights.sum(-1)).mean(1).double() / n_blocks
    rows = [
        (member, seeds[member], layer + 1, head + 1, mass)
        for member, of_member in enumerate(total.tolist())
        for layer, heads in enumerate(of_member)
        for head, mass in enumerate(heads)
    ]
    return pd.DataFrame(rows, columns=["member", "seed", "layer", "head", "mass"])


def signed_start(configs: Sequence[DeepConfig]) -> StackParams:
    """The first weights of stacks in which every layer has its own fixed a, half of it positive: U = q a^T.

    The signs of the hidden layers come from the stream (seed, "signs"); all else is as in ``init_stack``.
    """
    start, label = initial_params(configs), stacked_patterns(configs).basis[:, -1]  # (E, d), the token (0; q)
    n_hidden, m = start.u.shape[1], start.a.shape[1]
    streams = [generator(c.seed, "signs") for c in configs]
    places = torch.stack([torch.stack([torch.randperm(m, generator=g) for _ in range(n_hidden)]) for g in streams])
    a = torch.where(places < m // 2, 1.0, -1.0) * start.a.abs()[:, None]  # (E, L - 1, m)
    return StackParams(start.qkv, start.w_o, label[:, None, :, None] * a[:, :, None], start.a)


def signed_untrained(configs: Sequence[DeepConfig]) -> Ensemble:
    """As ``untrained``, with an a of its own in every layer."""
    return untrained(configs)._replace(params=signed_start(configs))


def train_signed(configs: Sequence[DeepConfig], on_progress: Callable[[int, Any], object] | None = None) -> Ensemble:
    """``train_deep`` (on the CPU) for stacks in which every layer has its own fixed a: U is put back after each step."""
    start = signed_start(configs)

    def put_back(step: int, params: StackParams) -> None:
        params.u.copy_(start.u)
        if on_progress:
            on_progress(step, params)

    return train_deep(configs, put_back, start, device="cpu")


def mass_history(
    configs: Sequence[DeepConfig], tasks: Sequence[Tasks], prompts: PromptConfig, every: int, signed: bool = False
) -> tuple[pd.DataFrame, Ensemble]:
    """Train, measuring ``layer_masses`` at step 0, every so many steps and the last (column step); and the trained ensemble.

    Args:
        signed: stacks in which every layer has its own fixed a.
    """
    start, train = (signed_untrained(configs), train_signed) if signed else (untrained(configs), train_deep)
    found = [layer_masses(start, tasks, prompts).assign(step=0)]

    def measure(step: int, params: Any) -> None:
        if step % every == 0 or step == configs[0].n_steps:
            found.append(layer_masses(start._replace(params=params), tasks, prompts).assign(step=step))

    trained = train(configs, measure)
    return pd.concat(found, ignore_index=True), trained


def layer_params(params: StackParams, layer: int, patterns: Patterns) -> Params:
    """One layer of a stack (from 1) as the weights of a one-layer model, for ``mechanism``.

    The a of a hidden layer is what its neurons write along q.
    """
    hidden = layer <= params.u.shape[1]
    a = (patterns.basis[:, -1:] @ params.u[:, layer - 1])[:, 0] if hidden else params.a
    return Params(params.qkv[:, layer - 1].flatten(1, 2), params.w_o[:, layer - 1], a)


def neuron_changes(params: Params, start: Params, patterns: Patterns, factor: float = 2.0) -> pd.DataFrame:
    """How the feature parts u of the rows (u; v) of W_O W_V have turned and grown in training, averaged over neurons.

    Returns:
        One row per member: member, turned (mean decrease of the angle to the mean relevant pattern, radians), aside (to the mean
        irrelevant one), grown (share whose length is at least ``factor`` times that at the start), idle (the same for
        their part along the irrelevant patterns).
    """

    def features(p: Params) -> tuple[torch.Tensor, ...]:
        u = (p.w_o @ p.w_v)[..., : patterns.d_x]
        means = (some.mean(1)[:, None] for some in (patterns.relevant, patterns.irrelevant))
        angles = (torch.nn.functional.cosine_similarity(u, mean, dim=-1).clamp(-1, 1).arccos() for mean in means)
        unit = torch.nn.functional.normalize(patterns.irrelevant, dim=-1)
        return *angles, u.norm(dim=-1), (u @ unit.mT).norm(dim=-1)

    before, after = features(start), features(params)
    columns = [(x - y).mean(1) for x, y in zip(before[:2], after[:2], strict=True)]
    columns += [(y >= factor * x).float().mean(1) for x, y in zip(before[2:], after[2:], strict=True)]
    rows = [(i, *values) for i, values in enumerate(torch.stack(columns, 1).tolist())]
    return pd.DataFrame(rows, columns=["member", "turned", "aside", "grown", "idle"])
