"""Evaluation on fresh prompts, which are drawn anew, against standard modules one seed at a time.

The attention chapter's: error, hinge loss and attention mass of 10 models on 4 000 prompts each. To keep this short, the number of models
is varied at 1 000 prompts each, that of prompts with 2 models. The pruning chapter's: all of 14 rates from one forward pass, of one model
on 2 000 prompts; modules are pruned as one does it, by zeroing rows of W_O. Modules see the same prompts with their tokens written out.
"""

import torch
from torch import Tensor

from benchmarks.case import Case, Size, beside, sizes
from benchmarks.learners import Dense, ModuleLearner, dense
from benchmarks.training import MEMBERS, configs_of, evaluation_flops
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import BLOCK, evaluate_params, select
from icl_lib.softmax.patterns import draw_patterns
from icl_lib.softmax.prompts import sample_prompts, task_table
from icl_lib.softmax.pruning import evaluate_pruned, keep, magnitude, prune
from icl_lib.softmax.training import initial_state, train_steps

PROMPTS, TRAINED = 4_000, 100  # prompts of a model; steps after which it is evaluated
FEW_PROMPTS, FEW_MODELS = 1_000, 2  # of the other axis
AXES = [*sizes("models", MEMBERS), *sizes("prompts", PROMPTS)]
RATES = sizes("rates", 14)
COLUMNS = ["error", "hinge", "attention", "margin"]


class Trained:
    """Some models after a few steps, and what evaluations need of them."""

    def __init__(self, n_models: int) -> None:
        self.configs = configs_of(Size("models", n_models, 1))
        self.params = train_steps(self.configs, initial_state(self.configs), TRAINED).params
        self.patterns = stacked_patterns(self.configs)
        self.frames = [draw_patterns(c.patterns, c.seed) for c in self.configs]
        self.tasks, self.rules, self.seeds = (
            [getattr(c, of) for c in self.configs] for of in ("tasks", "prompts", "seed")
        )

    def held_out(self, e: int, block: int, step: int) -> tuple[Dense, Tensor]:
        """Dense prompts of member e from the stream "eval", and which contexts carry the query's pattern."""
        frame, table = self.frames[e], task_table([self.tasks[e]])
        codes = sample_prompts([self.rules[e]], table, [self.seeds[e]], frame.counts, block, "eval", step)
        return dense(codes, frame), codes.same_pattern()[0]


def measured(prompts: Dense, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Errors, hinge losses and margins, one each a prompt."""
    margin = prompts.target * output
    return 1 - (margin > 0).double() - 0.5 * (margin == 0), (1 - margin).relu(), margin


def attention(size: Size) -> list[Case]:
    """Both variants at one size."""
    of = Trained(int(size.value) if size.axis == "models" else FEW_MODELS)
    n = int(size.value) if size.axis == "prompts" else FEW_PROMPTS
    block, learners = min(n, BLOCK), [ModuleLearner(select(of.params, [e])) for e in range(len(of.configs))]

    def ours() -> Tensor:
        table = evaluate_params(of.params, of.patterns, of.seeds, of.tasks, of.rules, n, block=block)
        return torch.tensor(table[COLUMNS].to_numpy())

    @torch.no_grad()
    def theirs() -> Tensor:
        sums = torch.zeros(len(learners), len(COLUMNS), dtype=torch.float64)
        n_blocks = -(-n // block)
        for e, learner in enumerate(learners):
            for step in range(n_blocks):
                prompts, same = of.held_out(e, block, step)
                output, weights = learner.attend(prompts)
                assert weights is not None
                error, hinge, margin = measured(prompts, output)
                found = (error, hinge, (weights[:, 0] * same).sum(1), margin)
                sums[e] += torch.stack([m.sum(dtype=torch.float64) for m in found])
        return sums / (block * n_blocks)

    flop = len(learners) * n * evaluation_flops(of.configs[0])
    case = Case("attention evaluation", "ours", size, "s per evaluation of all models", ours, flop=flop)
    return beside(case, {"torch.nn": theirs}, 1e-3)


def pruning(size: Size) -> list[Case]:
    """Both variants at one number of rates."""
    of, n_rates = Trained(1), int(size.value)
    kept = keep(magnitude(of.params, of.seeds), [0.9 * i / max(1, n_rates - 1) for i in range(n_rates)])

    def ours() -> Tensor:
        table = evaluate_pruned(of.params, of.patterns, of.seeds, of.tasks, of.rules[0], kept, BLOCK)
        return torch.tensor(table[["error", "hinge", "margin"]].to_numpy())

    @torch.no_grad()
    def theirs() -> Tensor:
        prompts, _ = of.held_out(0, BLOCK, 0)
        outputs = [ModuleLearner(prune(of.params, kept[:, r]))(prompts) for r in range(n_rates)]
        means = [[m.mean(dtype=torch.float64) for m in measured(prompts, output)] for output in outputs]
        return torch.tensor(means)

    flop = BLOCK * (evaluation_flops(of.configs[0]) + 2 * of.configs[0].model.m * n_rates)
    case = Case("pruning evaluation", "ours", size, "s per evaluation at all rates", ours, flop=flop)
    return beside(case, {"torch.nn": theirs}, 1e-3)
