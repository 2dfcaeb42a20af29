"""Pruning evaluation: all rates from one forward pass, against standard modules for every rate and seed.

The published size is 14 rates; one model and 2 000 prompts keep it short. Modules are pruned as one does it, by zeroing
rows of W_O, and see the same prompts with their tokens written out (once for all rates).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import bound, module
from benchmarks.attention import held_out, trained
from benchmarks.case import Case, Size, distance, sizes
from benchmarks.training import configs_of
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import BLOCK, select
from icl_lib.softmax.model import Params
from icl_lib.softmax.patterns import Patterns, draw_patterns
from icl_lib.softmax.pruning import evaluate_pruned, keep, magnitude, prune
from icl_lib.softmax.training import TrainConfig

MODELS, RATES = 1, 14
AXES = sizes("rates", RATES)
UNIT = "s per evaluation at all rates"


@torch.no_grad()
def by_modules(params: Params, kept: Tensor, configs: Sequence[TrainConfig], frames: Sequence[Patterns]) -> Tensor:
    """Error, hinge loss and margin (E, R, 3)."""
    found = torch.zeros(*kept.shape[:2], 3, dtype=torch.float64)
    for e, (config, frame) in enumerate(zip(configs, frames, strict=True)):
        prompts, _ = held_out(config, frame, BLOCK, 0)
        one = select(params, [e])
        for r in range(kept.shape[1]):
            learner = module.ModuleLearner(prune(one, kept[e : e + 1, r]))
            margin = prompts.target * learner(prompts)
            wrong = 1 - (margin > 0).double() - 0.5 * (margin == 0)
            found[e, r] = torch.stack([m.mean(dtype=torch.float64) for m in (wrong, (1 - margin).relu(), margin)])
    return found


def at(size: Size) -> list[Case]:
    """Both variants at one number of rates."""
    configs, n_rates = configs_of(Size("models", MODELS, 1)), int(size.value)
    params, patterns, seeds = trained(configs), stacked_patterns(configs), [c.seed for c in configs]
    frames = [draw_patterns(c.patterns, c.seed) for c in configs]
    kept = keep(magnitude(params, seeds), [0.9 * i / max(1, n_rates - 1) for i in range(n_rates)])
    tasks, rule = [c.tasks for c in configs], configs[0].prompts

    def ours() -> Tensor:
        table = evaluate_pruned(params, patterns, seeds, tasks, rule, kept, BLOCK)
        return torch.tensor(table[["error", "hinge", "margin"]].to_numpy()).view(MODELS, n_rates, 3)

    def theirs() -> Tensor:
        return by_modules(params, kept, configs, frames)

    flop = MODELS * BLOCK * (bound.evaluation_flops(configs[0]) + 2 * configs[0].model.m * n_rates)
    return [
        Case("pruning evaluation", "ours", size, UNIT, ours, flop=flop),
        Case("pruning evaluation", "torch.nn", size, UNIT, theirs, 1, lambda: distance(ours(), theirs()), 1e-3),
    ]


def cases() -> list[Case]:
    return [case for size in AXES for case in at(size)]
