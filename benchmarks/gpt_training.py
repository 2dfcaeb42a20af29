"""Training of a GPT-2 with 20 contexts by Adam: ours against ``transformers``, one seed at a time.

At first every prompt has a gradient; after ``SETTLED`` steps few have, and ours leaves out the others. Whole runs are
400 steps with lengths of 2 to 20, as in the chapters.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from benchmarks import gpt2
from benchmarks.case import Case, Size, counted, distance, sizes
from icl_lib.softmax.deep import DeepConfig, initial_params, train_deep
from icl_lib.softmax.evaluation import select
from icl_lib.softmax.gpt import GPTParams
from icl_lib.softmax.tasks import all_tasks, uniform_cover

STEPS, SETTLED, WHOLE = 2, 200, 400  # steps of a call; steps after which the training has settled; of a whole run
BATCH, MEMBERS = 128, 10
ONE = Size("batch", BATCH, 1)
UNIT = "s per step of one model"
TOLERANCE = 1e-3  # of the losses


def configs_of(members: int, batch: int = BATCH) -> list[DeepConfig]:
    return [
        DeepConfig(tasks=uniform_cover(6, 3, seed), seed=seed, min_context=20, n_steps=STEPS, batch_size=batch)
        for seed in range(members)
    ]


def theirs(config: DeepConfig, start: GPTParams) -> Callable[[], Tensor]:
    """Losses of transformers' GPT2Model, made anew each time: the weights move."""

    def run() -> Tensor:
        learner = gpt2.GPT2Learner(start)
        return gpt2.train_gpt2(learner, gpt2.batches(config), config.step_size, config.n_steps)

    return run


def continued(config: DeepConfig, start: GPTParams) -> Callable[[], object]:
    """The same to be timed: made once, trained on and on."""
    learner = gpt2.GPT2Learner(start)
    return lambda: gpt2.train_gpt2(learner, gpt2.batches(config), config.step_size, config.n_steps)


def against(benchmark: str, size: Size, start: GPTParams) -> list[Case]:
    """One model and one seed of ``transformers`` at one batch size."""
    (config,) = configs_of(1, int(size.value))

    def ours() -> Tensor:
        return train_deep([config], start=start).losses[0]

    differs = lambda: distance(ours(), theirs(config, start)())  # noqa: E731
    flop = counted(lambda: train_deep([config], start=start)) / STEPS
    return [
        Case(benchmark, "ours", size, UNIT, ours, STEPS, flop=flop),
        Case(benchmark, "transformers", size, UNIT, continued(config, start), STEPS, differs, TOLERANCE),
    ]


def of_ensemble(benchmark: str, start: GPTParams) -> Case:
    """Ten models at the published size."""
    configs = configs_of(len(start.read_in))
    call = lambda: train_deep(configs, start=start)  # noqa: E731
    return Case(benchmark, "ours, 10 models", ONE, UNIT, call, STEPS * len(configs))


def whole_runs() -> list[Case]:
    """400 steps: the losses at the end, where rounding has led to another solution, are compared on the page."""
    config = DeepConfig(tasks=all_tasks(6), n_steps=WHOLE)
    start = initial_params([config])
    return [
        Case("GPT-2, whole run", "ours", ONE, UNIT, lambda: train_deep([config], start=start), WHOLE),
        Case("GPT-2, whole run", "transformers", ONE, UNIT, theirs(config, start), WHOLE),
    ]


def at_end(case: Case) -> float:
    """Run it; the mean hinge loss over its last 50 steps."""
    found: Any = case.call()
    losses = found if isinstance(found, Tensor) else found.losses[0]
    return float(losses[-50:].mean())


def cases() -> list[Case]:
    first = initial_params(configs_of(MEMBERS))
    settled = train_deep([replace(c, n_steps=SETTLED) for c in configs_of(1)]).params
    found = [case for size in sizes("batch", BATCH) for case in against("GPT-2, first steps", size, select(first, [0]))]
    found += [of_ensemble("GPT-2, first steps", first)]
    found += against("GPT-2, settled", ONE, settled)
    return found
