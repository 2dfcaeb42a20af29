"""Training of the one-layer learner: ensemble steps on given prompts against four alternatives, and whole runs with their sampling.

Sizes are the book's first claim, one at a time times 1/8 to 8: 10 models, 128 prompts a step, 100 neurons, 20 contexts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks import bound, module
from benchmarks.case import Case, Size, counted, distance, relative, sizes
from benchmarks.stacked import Run, jax_run, stack, vmap_run
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import select
from icl_lib.softmax.model import ModelConfig, Params, backward, hinge
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import PromptConfig, Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import CHUNK, TrainConfig, initial_state, train_steps

MEMBERS, BATCH, WIDTH, CONTEXT = 10, 128, 100, 20
AXES = [*sizes("models", MEMBERS), *sizes("batch", BATCH), *sizes("m", WIDTH, even=True), *sizes("l", CONTEXT, least=2)]
TOLERANCE = 1e-3  # of losses, and of how far W_Q, W_K and W_V moved in the steps that are timed, relative to that
UNIT = "s per step"


def configs_of(size: Size | None = None) -> list[TrainConfig]:
    """The setting of the book's first claim, one seed per member, with one size changed."""
    at = {"models": MEMBERS, "batch": BATCH, "m": WIDTH, "l": CONTEXT}
    at |= {size.axis: int(size.value)} if size else {}
    one = TrainConfig(
        tasks=uniform_cover(6, 3, 0),
        batch_size=at["batch"],
        model=ModelConfig(m=at["m"]),
        prompts=PromptConfig(n_context=at["l"]),
    )
    return [replace(one, tasks=uniform_cover(6, 3, seed), seed=seed) for seed in range(at["models"])]


def draw(configs: Sequence[TrainConfig], n_prompts: int) -> Prompts:
    """Training prompts of an ensemble."""
    rules, seeds, tasks = [c.prompts for c in configs], [c.seed for c in configs], [c.tasks for c in configs]
    p = configs[0].patterns
    return sample_prompts(rules, task_table(tasks), seeds, (p.n_idr, p.n_idi), n_prompts, "train")


class Given:
    """Prompts of some steps, as codes and as dense tokens, and the learner that all variants start from."""

    def __init__(self, configs: list[TrainConfig], n_steps: int) -> None:
        self.configs, self.step_size, size = configs, configs[0].step_size, configs[0].batch_size
        self.params, self.patterns = initial_state(configs).params, stacked_patterns(configs)
        pool = draw(configs, n_steps * size)
        self.codes = [Prompts(*(part[:, i * size : (i + 1) * size] for part in pool)) for i in range(n_steps)]
        self.dense = [
            [module.dense(member(codes, e), self.patterns_of(e)) for e in range(len(configs))] for codes in self.codes
        ]

    def patterns_of(self, e: int) -> Patterns:
        return self.patterns._replace(basis=self.patterns.basis[e])

    def solo(self, e: int) -> Run:
        frame = self.patterns._replace(basis=self.patterns.basis[e : e + 1])
        return our_run(select(self.params, [e]), frame, [member(codes, e) for codes in self.codes], self.step_size)

    def runs(self) -> dict[str, Run]:
        """Every variant: n_steps steps from the same weights on the same prompts."""
        solo = [self.solo(e) for e in range(len(self.configs))]
        stacked = [stack(members) for members in self.dense]
        return {
            "ours": our_run(self.params, self.patterns, self.codes, self.step_size),
            "ours, solo": lambda: joined([run() for run in solo]),
            "torch.nn": module_run(self.params, list(zip(*self.dense, strict=True)), self.step_size),
            "torch.func vmap": vmap_run(self.params, stacked, self.step_size),
            "JAX jit + vmap": jax_run(self.params, stacked, self.step_size),
        }


def member(codes: Prompts, e: int) -> Prompts:
    return Prompts(*(part[e : e + 1] for part in codes))


def joined(found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    losses, weights = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(weights)


def our_run(params: Params, patterns: Patterns, batches: Sequence[Prompts], step_size: float) -> Run:
    """What ``train_steps`` does with a batch."""

    def run() -> tuple[Tensor, Tensor]:
        now, losses = Params(*(weight.clone() for weight in params)), []
        for prompts in batches:
            act, grad = backward(now, patterns, prompts)
            losses.append(hinge(act, prompts).mean(1))
            for weight, gradient in zip(now[:2], grad[:2], strict=True):
                weight.add_(gradient, alpha=-step_size)
        return torch.stack(losses, 1), now.w_qkv - params.w_qkv

    return run


def module_run(params: Params, batches: Sequence[Sequence[module.Dense]], step_size: float) -> Run:
    """One seed after the other; the modules are made once and get their first weights back."""
    alone = [select(params, [e]) for e in range(len(batches))]
    learners = [module.ModuleLearner(one) for one in alone]

    def one_run(learner: module.ModuleLearner, one: Params, given: Sequence[module.Dense]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            learner.attention.in_proj_weight.copy_(one.w_qkv[0])
            learner.neurons.weight.copy_(one.w_o[0])
        losses = module.train_module(learner, given, step_size, len(given))
        return losses[None], learner.attention.in_proj_weight.detach()[None] - one.w_qkv

    return lambda: joined([one_run(*args) for args in zip(learners, alone, batches, strict=True)])


def difference(ours: Run, theirs: Run) -> Callable[[], float]:
    def differs() -> float:
        (losses, moved), (their_losses, their_moved) = ours(), theirs()
        return max(distance(losses, their_losses), relative(moved, their_moved))

    return differs


def steps_on_given_prompts(size: Size) -> list[Case]:
    """All variants at one size."""
    n_steps = max(1, min(CHUNK, round(CHUNK / size.factor / 2)))
    configs = configs_of(size)
    given = Given(configs, n_steps)
    runs = given.runs()
    flop, traffic = len(configs) * bound.flops(configs[0]), len(configs) * sum(bound.traffic(configs[0]).values())
    cases = []
    for variant, run in runs.items():
        differs = None if variant == "ours" else difference(runs["ours"], run)
        case = Case("training step", variant, size, UNIT, run, n_steps, differs, TOLERANCE)
        cases.append(case._replace(flop=flop, traffic=traffic) if variant == "ours" else case)
    return cases


def whole(size: Size) -> list[Case]:
    """Training with its sampling, ``CHUNK`` steps; the alternatives at the published size."""
    configs = configs_of(size)
    state, patterns = initial_state(configs), stacked_patterns(configs)
    ours = lambda: train_steps(configs, state, CHUNK, patterns)  # noqa: E731
    cases = [Case("training run", "ours", size, UNIT, ours, CHUNK, flop=counted(ours) / CHUNK)]
    if size.factor != 1:
        return cases
    solo = [([c], initial_state([c]), stacked_patterns([c])) for c in configs]
    learners = [module.ModuleLearner(start.params) for _, start, _ in solo]

    def solo_runs() -> Tensor:
        return torch.cat([train_steps(c, start, CHUNK, frame).losses for c, start, frame in solo])

    def module_runs() -> Tensor:
        taken = [
            module.train_module(learner, module.batches(c), c.step_size, CHUNK)
            for learner, c in zip(learners, configs, strict=True)
        ]
        return torch.stack(taken)

    expected = ours().losses
    return [
        *cases,
        Case("training run", "ours, solo", size, UNIT, solo_runs, CHUNK, lambda: distance(expected, solo_runs()), 1e-4),
        Case(
            "training run", "torch.nn", size, UNIT, module_runs, CHUNK, lambda: distance(expected, module_runs()), 1e-4
        ),
    ]


def cases() -> list[Case]:
    found = [case for size in AXES for case in steps_on_given_prompts(size)]
    return found + [case for size in AXES if size.axis == "models" for case in whole(size)]
