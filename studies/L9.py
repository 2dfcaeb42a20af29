"""What each layer of a deep network does: attention on same-pattern contexts, and a layer's weights as a model's."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch

from icl_lib.softmax.deep import DeepConfig, network, train_deep, untrained
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.evaluation import BLOCK
from icl_lib.softmax.model import Params
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


def mass_history(
    configs: Sequence[DeepConfig], tasks: Sequence[Tasks], prompts: PromptConfig, every: int
) -> tuple[pd.DataFrame, Ensemble]:
    """Train, measuring ``layer_masses`` at step 0, every so many steps and the last (column step); and the trained ensemble."""
    start = untrained(configs)
    found = [layer_masses(start, tasks, prompts).assign(step=0)]

    def measure(step: int, params: Any) -> None:
        if step % every == 0 or step == configs[0].n_steps:
            found.append(layer_masses(start._replace(params=params), tasks, prompts).assign(step=step))

    trained = train_deep(configs, measure)
    return pd.concat(found, ignore_index=True), trained


def layer_params(params: StackParams, layer: int) -> Params:
    """One layer of a stack (from 1) as the weights of a one-layer model, for ``mechanism``."""
    return Params(params.qkv[:, layer - 1].flatten(1, 2), params.w_o[:, layer - 1], params.a)
