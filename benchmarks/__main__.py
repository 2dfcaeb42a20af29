"""Run all benchmarks and write results.csv and results.json beside this file.

All cases take turns, repetition by repetition, in one process on one thread. Times are the
thread's processor time, which other programs on the machine disturb less than the clock on the wall.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks import bound, gpt2, module
from benchmarks.results import COLUMNS, FILE, bounds, evaluation_rate, load, ratio, values
from icl_lib.paths import write_atomic, write_json
from icl_lib.provenance import versions
from icl_lib.softmax.deep import DeepConfig, initial_params, train_deep
from icl_lib.softmax.evaluate import BLOCK, evaluate, evaluate_params, select
from icl_lib.softmax.gpt import GPTConfig, init_gpt
from icl_lib.softmax.model import Params, backward
from icl_lib.softmax.patterns import Patterns
from icl_lib.softmax.prompts import Prompts, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.train import CHUNK, TrainConfig, initial_state, stacked_patterns, train, train_steps

REPETITIONS = int(os.environ.get("BENCH_REPETITIONS", "21"))
STEPS = 2 * CHUNK
DEEP_STEPS = 2
GPT_STEPS, GPT_RUNS = 400, 3  # of whole training runs, and how many of them
SETTLED = 200  # steps after which most prompts of the GPT lie beyond the margin
STEP = "µs per model and step"
PROMPT = "µs per prompt"


class Case(NamedTuple):
    """Something to time: a call that does ``work`` units of what is measured."""

    benchmark: str
    variant: str
    setting: str
    unit: str
    work: float
    call: Callable[[], object]


def configs_of(members: int, batch: int = 128) -> list[TrainConfig]:
    """The setting of the book's first claim, one seed per member."""
    return [TrainConfig(tasks=uniform_cover(6, 3, seed), seed=seed, batch_size=batch) for seed in range(members)]


def setting(members: int, batch: int = 128) -> str:
    return f"members={members} batch={batch}"


def draw(configs: list[TrainConfig], patterns: Patterns, n_prompts: int) -> Prompts:
    rules, seeds, tasks = (
        [c.prompts for c in configs],
        [c.seed for c in configs],
        task_table([c.tasks for c in configs]),
    )
    return sample_prompts(rules, tasks, seeds, patterns.counts, n_prompts, "train")


def ensemble(benchmark: str, members: int, batch: int = 128) -> Case:
    """Training of one ensemble, sampling included."""
    configs = configs_of(members, batch)
    state, patterns = initial_state(configs), stacked_patterns(configs)
    work = members * STEPS
    return Case(
        benchmark, "ensemble", setting(members, batch), STEP, work, lambda: train_steps(configs, state, STEPS, patterns)
    )


def on_given_prompts(members: int) -> Callable[[], None]:
    """``CHUNK`` training steps of one ensemble without the sampling."""
    configs = configs_of(members)
    state, patterns = initial_state(configs), stacked_patterns(configs)
    pool = draw(configs, patterns, CHUNK * 128)
    given = [Prompts(*(part[:, i * 128 : (i + 1) * 128] for part in pool)) for i in range(CHUNK)]

    def steps() -> None:
        params = Params(*(weight.clone() for weight in state.params))
        for prompts in given:
            _, grad = backward(params, patterns, prompts)
            for weight, slope in zip(params, grad, strict=True):
                weight.add_(slope, alpha=-configs[0].step_size)

    return steps


def training() -> list[Case]:
    """Ten models: as one ensemble, as ten solo runs, as ten runs of the module baseline."""
    configs, at = configs_of(10), setting(10)
    solo = [(initial_state([c]), stacked_patterns([c])) for c in configs]
    learners = [module.ModuleLearner(state.params) for state, _ in solo]
    given = [[batch for batch, _ in zip(module.batches(c), range(CHUNK), strict=False)] for c in configs]
    ours, ours_alone = on_given_prompts(10), [on_given_prompts(1)] * 10

    def solo_runs() -> None:
        for config, (state, patterns) in zip(configs, solo, strict=True):
            train_steps([config], state, CHUNK, patterns)

    def module_runs(prompts: list) -> None:
        for learner, config, batches in zip(learners, configs, prompts, strict=True):
            module.train_module(learner, batches, config.step_size, CHUNK)

    work = 10 * CHUNK
    return [
        ensemble("training", 10),
        Case("training", "solo runs", at, STEP, work, solo_runs),
        Case("training", "modules", at, STEP, work, lambda: module_runs([module.batches(c) for c in configs])),
        Case("training, prompts given", "ensemble", at, STEP, work, ours),
        Case("training, prompts given", "solo runs", at, STEP, work, lambda: [run() for run in ours_alone]),
        Case("training, prompts given", "modules", at, STEP, work, lambda: module_runs(given)),
    ]


def sampling() -> list[Case]:
    """Prompts alone: codes for ensembles, dense tokens for the module baseline."""
    cases = []
    for members in (1, 10):
        configs = configs_of(members)
        patterns = stacked_patterns(configs)
        n = CHUNK * 128

        def codes(configs: list[TrainConfig] = configs, patterns: Patterns = patterns, n: int = n) -> Prompts:
            return draw(configs, patterns, n)

        cases.append(Case("sampling", "codes", setting(members), PROMPT, members * n, codes))

    def tokens() -> None:
        for _, _ in zip(module.batches(configs_of(1)[0]), range(CHUNK), strict=False):
            pass

    return [*cases, Case("sampling", "dense tokens", setting(1), PROMPT, CHUNK * 128, tokens)]


def evaluation() -> list[Case]:
    """Measuring error, hinge loss and attention on fresh prompts."""
    cases = []
    for members in (1, 10):
        configs = configs_of(members)
        params, patterns = initial_state(configs).params, stacked_patterns(configs)
        tasks, rules = [c.tasks for c in configs], [c.prompts for c in configs]

        def call(
            params: Params = params, patterns: Patterns = patterns, tasks: list = tasks, rules: list = rules
        ) -> pd.DataFrame:
            return evaluate_params(params, patterns, range(len(rules)), tasks, rules, BLOCK)

        cases.append(Case("evaluation", "ensemble", setting(members), PROMPT, members * BLOCK, call))
    return cases


def trained_evaluation() -> Case:
    """The same of a trained ensemble: ten blocks of prompts each, on the tasks that it was trained on."""
    trained, n = train(configs_of(10)), 10 * BLOCK
    tasks, rule = [c.tasks for c in trained.configs], trained.configs[0].prompts
    return Case("evaluation", "trained", setting(10), PROMPT, 10 * n, lambda: evaluate(trained, tasks, rule, n))


def gpt_training() -> list[Case]:
    """Training of a GPT with 20 contexts: ensembles, and one seed at a time with transformers' GPT2Model.

    At first every prompt has a gradient; after ``SETTLED`` steps few have, and ours leaves out the others.
    """
    configs = [
        DeepConfig(tasks=uniform_cover(6, 3, seed), seed=seed, min_context=20, n_steps=DEEP_STEPS) for seed in range(10)
    ]

    def theirs(learner: gpt2.GPT2Learner, config: DeepConfig) -> object:
        return gpt2.train_gpt2(learner, gpt2.batches(config), config.step_size, DEEP_STEPS)

    start = initial_params(configs)
    settled = train_deep([replace(c, n_steps=SETTLED) for c in configs]).params
    cases = []
    for benchmark, params in (("GPT training, first steps", start), ("GPT training, settled", settled)):
        alone = select(params, [0])
        learner = gpt2.GPT2Learner(alone)
        calls: dict[tuple[str, int], Callable[[], object]] = {
            ("ensemble", 10): partial(train_deep, configs, start=params),
            ("ensemble", 1): partial(train_deep, configs[:1], start=alone),
            ("transformers", 1): partial(theirs, learner, configs[0]),
        }
        for (variant, members), call in calls.items():
            cases.append(Case(benchmark, variant, setting(members), STEP, members * DEEP_STEPS, call))
    return cases


def gpt_runs() -> list[tuple]:
    """Whole training runs of a GPT as in the chapters (400 steps, lengths of 2 to 20): times, and the loss at the end."""
    configs = [DeepConfig(tasks=all_tasks(6), seed=seed, n_steps=GPT_STEPS) for seed in range(3)]
    sizes = GPTConfig()
    benchmark, rows = "GPT training, whole run", []
    for repetition in range(GPT_RUNS):
        start = time.thread_time()
        ours = train_deep(configs).losses[0]
        seconds = time.thread_time() - start
        rows.append((benchmark, "ensemble", setting(3), 1e6 * seconds / 3 / GPT_STEPS, STEP, repetition))
        learner = gpt2.GPT2Learner(init_gpt(sizes, configs[0].patterns, configs[0].seed))
        start = time.thread_time()
        theirs = gpt2.train_gpt2(learner, gpt2.batches(configs[0]), configs[0].step_size, GPT_STEPS)
        seconds = time.thread_time() - start
        rows.append((benchmark, "transformers", setting(1), 1e6 * seconds / GPT_STEPS, STEP, repetition))
    last = {"ensemble": float(ours[-50:].mean()), "transformers": float(theirs[-50:].mean())}
    return rows + [(benchmark, f"loss, {name}", setting(1), value, "hinge loss", 0) for name, value in last.items()]


def all_cases() -> list[Case]:
    sizes = [ensemble("ensemble size", members) for members in (1, 2, 5, 10, 20, 40)]
    sizes += [ensemble("batch size", members, batch) for members in (1, 10) for batch in (32, 64, 128, 256, 512)]
    rates = bound.machine(configs_of(1)[0]).items()
    machine = [Case("machine", variant, "", unit, work, call) for (variant, unit), (call, work) in rates]
    return [*training(), *sampling(), *evaluation(), trained_evaluation(), *gpt_training(), *sizes, *machine]


def counts() -> list[tuple]:
    """What a step needs, counted (not measured)."""
    config, at = configs_of(1)[0], setting(10)
    rows: list[tuple[str, float, str]] = [("flop", bound.flops(config), "flop per model and step")]
    rows += [(f"bytes, {name}", n, "byte per model and step") for name, n in bound.traffic(config).items()]
    rows.append(("random numbers", bound.draws(config), "per model and step"))
    rows.append(("flop, evaluation", bound.evaluation_flops(config), "flop per prompt"))
    return [("count", variant, at, value, unit, 0) for variant, value, unit in rows]


def measure(case: Case) -> float:
    """Time per unit of work in µs, or for the machine work per second."""
    start = time.thread_time()
    case.call()
    seconds = time.thread_time() - start
    return case.work / seconds if case.benchmark == "machine" else 1e6 * seconds / case.work


def processor() -> dict[str, object]:
    """What kind of processor this is; nothing that names the computer."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return {
        "model": found.get("model name", platform.processor()),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
    }


def report(table: pd.DataFrame) -> str:
    """The main results in words."""
    lines = []
    for benchmark in ("training", "training, prompts given"):
        ours = values(table, benchmark, "ensemble")
        lines.append(f"{benchmark}: {ours.min():.0f} {STEP} in an ensemble of 10")
        for variant in ("solo runs", "modules"):
            r = ratio(values(table, benchmark, variant), ours)
            lines.append(
                "  {0}: {of_minima:.2f} x as long (median {median:.2f}, quartiles {low:.2f} to {high:.2f})".format(
                    variant, **r
                )
            )
    for benchmark in ("GPT training, first steps", "GPT training, settled"):
        theirs = values(table, benchmark, "transformers", members=1)
        for members in (1, 10):
            r = ratio(theirs, values(table, benchmark, "ensemble", members))
            words = "{0}, transformers: {of_minima:.2f} x as long (median {median:.2f}) as ours in an ensemble of {1}"
            lines.append(words.format(benchmark, members, **r))
    runs = [values(table, "GPT training, whole run", name, n) for name, n in (("transformers", 1), ("ensemble", 3))]
    lines.append(
        "GPT training, whole run, transformers: {of_minima:.2f} x as long (median {median:.2f})".format(**ratio(*runs))
    )
    rate = evaluation_rate(table)
    words = (
        "evaluation of a trained ensemble: {prompts:.0f} prompts a second, {share:.1%} of the rate of large products"
    )
    lines.append(words.format(**rate))
    lines.append(bounds(table).round(3).to_string())
    fastest = table[table["repetition"] >= 0].groupby(["benchmark", "variant", "setting", "unit"], sort=False)["value"]
    return "\n".join([*lines, fastest.agg(["min", "median"]).round(3).to_string()])


def main() -> None:
    torch.set_num_threads(1)
    rows: list[tuple] = counts()
    cases = all_cases()
    for case in cases:
        case.call()
    for repetition in tqdm(range(REPETITIONS), disable=None):
        rows += [(*case[:3], float(f"{measure(case):.5g}"), case.unit, repetition) for case in cases]
    rows += [(*row[:3], float(f"{row[3]:.5g}"), *row[4:]) for row in gpt_runs()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    write_atomic(FILE, table.to_csv(index=False).encode())
    about = {"processor": processor(), "versions": versions(), "threads": 1, "repetitions": REPETITIONS}
    write_json(FILE.with_suffix(".json"), about)
    print(report(load()))


if __name__ == "__main__":
    main()
