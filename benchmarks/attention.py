"""Evaluation: error, hinge loss and attention mass on fresh prompts, against standard modules one seed at a time.

Drawing the prompts is part of it. Modules see the same prompts with their tokens written out. The published size is that of the
attention chapter, 10 models and 4 000 prompts each. To keep this short, the number of models is varied at 1 000 prompts each, that of prompts
with 2 models.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import bound, module
from benchmarks.case import Case, Size, distance, sizes
from benchmarks.training import MEMBERS, configs_of
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import BLOCK, evaluate_params
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns, draw_patterns
from icl_lib.softmax.prompts import sample_prompts, task_table
from icl_lib.softmax.training import TrainConfig, initial_state, train_steps

PROMPTS, TRAINED = 4_000, 100  # prompts of a model; steps after which it is evaluated
FEW_PROMPTS, FEW_MODELS = 1_000, 2  # of the other axis
AXES = [*sizes("models", MEMBERS), *sizes("prompts", PROMPTS)]
COLUMNS = ["error", "hinge", "attention", "margin"]
UNIT = "s per evaluation of all models"


class AttendingLearner(module.ModuleLearner):
    """The same modules, with the attention weights returned."""

    def attend(self, prompts: module.Dense) -> tuple[Tensor, Tensor]:
        query = prompts.query[:, None] * prompts.query.shape[-1] ** 0.5
        pooled, weights = self.attention(query, prompts.context, prompts.context, need_weights=True)
        return self.output(self.neurons(pooled[:, 0]).relu())[:, 0], weights[:, 0]


def held_out(config: TrainConfig, frame: Patterns, block: int, step: int) -> tuple[module.Dense, Tensor]:
    """Dense prompts of the stream "eval", and which contexts carry the query's pattern."""
    table = task_table([config.tasks])
    codes = sample_prompts([config.prompts], table, [config.seed], frame.counts, block, "eval", step)
    return module.dense(codes, frame), codes.same_pattern()[0]


@torch.no_grad()
def by_modules(
    learners: Sequence[AttendingLearner], configs: Sequence[TrainConfig], frames: Sequence[Patterns], n: int, block: int
) -> Tensor:
    """The four means of every seed, as ``evaluate_params`` has them."""
    found = []
    for learner, config, frame in zip(learners, configs, frames, strict=True):
        sums = torch.zeros(4, dtype=torch.float64)
        for step in range(-(-n // block)):
            prompts, same = held_out(config, frame, block, step)
            output, attention = learner.attend(prompts)
            margin = prompts.target * output
            wrong = 1 - (margin > 0).double() - 0.5 * (margin == 0)
            measured = (wrong, (1 - margin).relu(), (attention * same).sum(1), margin)
            sums += torch.stack([m.sum(dtype=torch.float64) for m in measured])
        found.append(sums / (block * -(-n // block)))
    return torch.stack(found)


def trained(configs: list[TrainConfig]) -> Params:
    return train_steps(configs, initial_state(configs), TRAINED).params


def at(size: Size) -> list[Case]:
    """Both variants at one size."""
    configs = configs_of(size if size.axis == "models" else Size("models", FEW_MODELS, 1))
    n = int(size.value) if size.axis == "prompts" else FEW_PROMPTS
    block, params, patterns = min(n, BLOCK), trained(configs), stacked_patterns(configs)
    frames = [draw_patterns(c.patterns, c.seed) for c in configs]
    learners = [AttendingLearner(Params(*(w[e : e + 1] for w in params))) for e in range(len(configs))]
    tasks, rules, seeds = ([getattr(c, name) for c in configs] for name in ("tasks", "prompts", "seed"))

    def ours() -> Tensor:
        table = evaluate_params(params, patterns, seeds, tasks, rules, n, block=block)
        return torch.tensor(table[COLUMNS].to_numpy())

    def theirs() -> Tensor:
        return by_modules(learners, configs, frames, n, block)

    flop = len(configs) * n * bound.evaluation_flops(configs[0])
    return [
        Case("attention evaluation", "ours", size, UNIT, ours, flop=flop),
        Case("attention evaluation", "torch.nn", size, UNIT, theirs, 1, lambda: distance(ours(), theirs()), 1e-3),
    ]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
