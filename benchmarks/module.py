"""The baseline: the same learner built from ``torch.nn`` layers, trained one seed at a time by autograd."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns, draw_patterns
from icl_lib.softmax.prompts import Prompts, sample_prompts, task_table
from icl_lib.softmax.training import CHUNK, TrainConfig


class Dense(NamedTuple):
    """Prompts with their tokens written out."""

    context: Tensor  # (B, l, d)
    query: Tensor  # (B, d)
    target: Tensor  # (B,)


class ModuleLearner(nn.Module):
    """Paper L's learner with the weights of one member, attending from the query only."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        m, d = params.w_o.shape[1:]
        self.attention = nn.MultiheadAttention(d, 1, bias=False, batch_first=True)
        self.neurons = nn.Linear(d, m, bias=False)
        self.output = nn.Linear(m, 1, bias=False).requires_grad_(False)
        self.attention.out_proj.requires_grad_(False)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(params.w_qkv[0])
            self.attention.out_proj.weight.copy_(torch.eye(d))
            self.neurons.weight.copy_(params.w_o[0])
            self.output.weight.copy_(params.a)

    def forward(self, prompts: Dense) -> Tensor:
        query = prompts.query[:, None] * prompts.query.shape[-1] ** 0.5  # the layer divides scores by sqrt(d)
        pooled, _ = self.attention(query, prompts.context, prompts.context, need_weights=False)
        return self.output(self.neurons(pooled[:, 0]).relu())[:, 0]


def dense(codes: Prompts, patterns: Patterns) -> Dense:
    """Tokens of the prompts of one member, by looking up whole rows."""
    basis = patterns.basis
    relevant, irrelevant = codes.parts[0].unbind(1)
    context = basis.index_select(0, irrelevant.flatten()).mul_(codes.kappa[0].flatten()[:, None])
    context += basis.index_select(0, relevant.flatten())
    context[:, patterns.d_x :] = codes.label[0].flatten()[:, None] * patterns.label
    relevant, irrelevant = codes.query_parts[0].unbind(1)
    query = basis[relevant] + codes.query_kappa[0][:, None] * basis[irrelevant]
    return Dense(context.view(*codes.label.shape[1:], -1), query, codes.target[0])


def batches(config: TrainConfig) -> Iterator[Dense]:
    """The training batches of a config: the same prompts as the library's, drawn by the same fast sampler."""
    patterns, tasks, chunk = draw_patterns(config.patterns, config.seed), task_table([config.tasks]), 0
    n_prompts = CHUNK * config.batch_size
    while True:
        pool = sample_prompts([config.prompts], tasks, [config.seed], patterns.counts, n_prompts, "train", chunk)
        for i in range(CHUNK):
            rows = slice(i * config.batch_size, (i + 1) * config.batch_size)
            yield dense(Prompts(*(part[:, rows] for part in pool)), patterns)
        chunk += 1


def take_steps(
    learner: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator[Dense] | Sequence[Dense], n: int
) -> Tensor:
    """n steps on the hinge loss, one batch each, by autograd; returns the losses."""
    losses = []
    for prompts, _ in zip(batches, range(n), strict=False):
        loss = (1 - prompts.target * learner(prompts)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def train_module(
    learner: ModuleLearner, batches: Iterator[Dense] | Sequence[Dense], step_size: float, n: int
) -> Tensor:
    """n steps of SGD on the hinge loss; returns the losses."""
    optimizer = torch.optim.SGD([p for p in learner.parameters() if p.requires_grad], lr=step_size)
    return take_steps(learner, optimizer, batches, n)
