"""Training of the one-layer learner: ensemble steps on given prompts against six alternatives, and whole runs with their sampling.

Sizes are the book's first claim, one at a time times 1/8 to 8: 10 models, 128 prompts a step, 100 neurons, 20 contexts. What a step
costs at the least, in arithmetic and random numbers, is counted below; ``machine`` times both, and the exponentials.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks import learners
from benchmarks.case import Case, Size, along, beside, distance, relative, sizes
from benchmarks.learners import Dense, Run, jax_run, scan_run, stack, vmap_run
from icl_lib.softmax import fused
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


def member(codes: Prompts, e: int) -> Prompts:
    return Prompts(*(part[e : e + 1] for part in codes))


class Given:
    """Prompts of some steps, as codes and as dense tokens, and the learner that all variants start from."""

    def __init__(self, configs: list[TrainConfig], n_steps: int) -> None:
        self.configs, self.step_size, size = configs, configs[0].step_size, configs[0].batch_size
        self.members, self.n_steps = range(len(configs)), n_steps
        self.params, self.patterns = initial_state(configs).params, stacked_patterns(configs)
        self.pool = draw(configs, n_steps * size)
        self.codes = [Prompts(*(part[:, i * size : (i + 1) * size] for part in self.pool)) for i in range(n_steps)]
        frames = [self.patterns._replace(basis=basis) for basis in self.patterns.basis]
        self.dense = [[learners.dense(member(codes, e), frames[e]) for e in self.members] for codes in self.codes]

    def ours(self, members: Sequence[int]) -> Run:
        """What ``train_steps`` does with the prompts of some members."""
        some = list(members)
        frame = self.patterns._replace(basis=self.patterns.basis[some])
        configs, params = [self.configs[e] for e in some], select(self.params, some)
        codes = Prompts(*(part[some] for part in self.pool))

        def run() -> tuple[Tensor, Tensor]:
            learner = fused.Learner(configs, params, frame)
            losses = learner.advance(codes, 0, self.n_steps)
            return losses, learner.weights().w_qkv - params.w_qkv

        return run

    def runs(self) -> dict[str, Run]:
        """Every variant: n_steps steps from the same weights on the same prompts."""
        solo = [self.ours([e]) for e in self.members]
        stacked = [stack(members) for members in self.dense]
        return {
            "ours": self.ours(self.members),
            "ours, solo": lambda: joined([run() for run in solo]),
            "torch, gradient written out": written_run(self.params, self.patterns, self.codes, self.step_size),
            "torch.nn": module_run(self.params, list(zip(*self.dense, strict=True)), self.step_size),
            "torch.func vmap": vmap_run(self.params, stacked, self.step_size),
            "JAX jit + vmap": jax_run(self.params, stacked, self.step_size),
            "JAX, coded prompts, scan": scan_run(self.params, self.patterns, self.codes, self.step_size),
        }


def joined(found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    losses, weights = zip(*found, strict=True)
    return torch.cat(losses), torch.cat(weights)


def written_run(params: Params, patterns: Patterns, batches: Sequence[Prompts], step_size: float) -> Run:
    """The library's pass for GPUs and other precision, in torch."""

    def run() -> tuple[Tensor, Tensor]:
        now, losses = Params(*(weight.clone() for weight in params)), []
        for prompts in batches:
            act, grad = backward(now, patterns, prompts)
            losses.append(hinge(act, prompts).mean(1))
            for weight, gradient in zip(now[:2], grad[:2], strict=True):
                weight.add_(gradient, alpha=-step_size)
        return torch.stack(losses, 1), now.w_qkv - params.w_qkv

    return run


def module_run(params: Params, batches: Sequence[Sequence[Dense]], step_size: float) -> Run:
    """One seed after the other; the modules are made once and get their first weights back."""
    alone = [select(params, [e]) for e in range(len(batches))]
    made = [learners.ModuleLearner(one) for one in alone]

    def one_run(learner: learners.ModuleLearner, one: Params, given: Sequence[Dense]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            learner.attention.in_proj_weight.copy_(one.w_qkv[0])
            learner.neurons.weight.copy_(one.w_o[0])
        losses = learners.train_module(learner, given, step_size, len(given))
        return losses[None], learner.attention.in_proj_weight.detach()[None] - one.w_qkv

    return lambda: joined([one_run(*args) for args in zip(made, alone, batches, strict=True)])


def difference(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """Of what a run returns, the worse."""
    return max(distance(ours[0], theirs[0]), relative(ours[1], theirs[1]))


def steps_at_once(size: Size) -> int:
    """How many steps are timed in one call, the start included."""
    return max(1, min(CHUNK, round(CHUNK / size.factor / 2)))


def steps_on_given_prompts(size: Size) -> list[Case]:
    """All variants at one size."""
    n_steps, configs = steps_at_once(size), configs_of(size)
    runs = Given(configs, n_steps).runs()
    flop = len(configs) * flops(configs[0])
    ours = Case("training step", "ours", size, UNIT, runs.pop("ours"), n_steps, flop=flop)
    return beside(ours, runs, TOLERANCE, difference)


def whole(size: Size) -> list[Case]:
    """Training with its sampling, ``CHUNK`` steps; the alternatives at the published size."""
    configs = configs_of(size)
    state, patterns = initial_state(configs), stacked_patterns(configs)
    ours = lambda: train_steps(configs, state, CHUNK, patterns).losses  # noqa: E731
    case = Case("training run", "ours", size, UNIT, ours, CHUNK)
    if size.factor != 1:
        return [case]
    solo = [([c], initial_state([c]), stacked_patterns([c])) for c in configs]
    made = [learners.ModuleLearner(start.params) for _, start, _ in solo]

    def solo_runs() -> Tensor:
        return torch.cat([train_steps(c, start, CHUNK, frame).losses for c, start, frame in solo])

    def module_runs() -> Tensor:
        pairs = zip(made, configs, strict=True)
        return torch.stack([learners.train_module(net, learners.batches(c), c.step_size, CHUNK) for net, c in pairs])

    return beside(case, {"ours, solo": solo_runs, "torch.nn": module_runs}, 1e-4)


def cases() -> list[Case]:
    return along(AXES, steps_on_given_prompts) + along([size for size in AXES if size.axis == "models"], whole)


def products(config: TrainConfig) -> list[tuple[int, int, int]]:
    """The matrix products of one model's compiled step, as (rows, inner, columns), while every prompt has a gradient; see ``softmax.fused``."""
    b, m = config.batch_size, config.model.m
    d, r = config.patterns.d_x + config.patterns.d_y, config.patterns.n_idr + config.patterns.n_idi + 1
    return [(r, d, r), (r, d, m), (b, r, m), (b, m, r), (r, b, m), (d, r, r), (d, r, r), (d, m, r), (d, r, m)]


def flops(config: TrainConfig) -> int:
    """Arithmetic of the matrix products of one model and step."""
    return sum(2 * i * j * k for i, j, k in products(config))


def evaluation_flops(config: TrainConfig) -> int:
    """Arithmetic of the matrix products of ``model.forward`` that grow with the number of prompts, per prompt."""
    m, r = config.model.m, config.patterns.n_idr + config.patterns.n_idi + 1
    return 2 * (r * r + r * m + m)


def draws(config: TrainConfig) -> int:
    """64-bit random numbers of one model and step."""
    return config.batch_size * (2 * config.prompts.n_context + 3) // 2
