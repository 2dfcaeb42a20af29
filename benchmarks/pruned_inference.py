"""Inference with neurons taken out, masked, or all there: ``python -m benchmarks.pruned_inference`` writes the table beside this file.

Calls of the library's forward pass on ``BLOCK`` prompts. All forms of a network take turns, round by round, in one process on
one thread; times are processor times, and what counts is the ratio to the whole network within a round. The weights are
the initial ones: the time of a dense product does not depend on the numbers in it.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from book.terminal import command
from icl_lib.paths import write_atomic
from icl_lib.softmax import gpt, model
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import BLOCK
from icl_lib.softmax.gpt import GPTConfig, init_gpt
from icl_lib.softmax.model import ModelConfig, init_params
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.pruning import keep, magnitude, prune
from icl_lib.softmax.tasks import all_tasks
from icl_lib.softmax.training import TrainConfig
from studies.Q3 import gpt_magnitude, keep_in_layers, prune_gpt, take, take_gpt

FILE = Path(__file__).with_suffix(".csv")
ROUNDS = int(os.environ.get("BENCH_REPETITIONS", "31"))
RATES = (0.5, 0.75, 0.9, 0.95)
CALLS = {"one layer, width 100": 20, "one layer, width 1000": 10, "one layer, width 10000": 2, "GPT-2": 1}  # in a row
Calls = dict[tuple[str, float], Callable[[], object]]

PATTERNS = stacked_patterns([TrainConfig(tasks=all_tasks(6))])
PROMPTS = sample_prompts([PromptConfig()], task_table([all_tasks(6)]), [0], PATTERNS.counts, BLOCK, "check")


def forms(forward: Callable, whole: Any, kept: Callable[[float], Tensor], take: Callable, mask: Callable) -> Calls:
    """Calls of a network in all its forms, by form and rate; masked at the last rate only: masks save no time at any."""

    def call(params: Any) -> Callable[[], object]:
        return lambda: forward(params, PATTERNS, PROMPTS)

    smaller = {("taken out", rate): call(take(whole, kept(rate))) for rate in RATES}
    return {("whole", 0.0): call(whole), **smaller, ("masked", RATES[-1]): call(mask(whole, kept(RATES[-1])))}


def one_layer(width: int) -> Calls:
    """The one-layer model of this width."""
    whole = init_params(ModelConfig(m=width), PatternConfig(), 0)
    return forms(model.forward, whole, lambda rate: keep(magnitude(whole, [0]), [rate])[:, 0], take, prune)


def gpt2() -> Calls:
    """The GPT-2."""
    whole = init_gpt(GPTConfig(), PatternConfig(), 0)
    return forms(gpt.forward, whole, lambda rate: keep_in_layers(gpt_magnitude(whole), rate), take_gpt, prune_gpt)


def timed(network: str, calls: Calls, rounds: int) -> pd.DataFrame:
    """Seconds of a call of every form in every round, and over those of the whole network in the same round."""
    rows, cases, n = [], list(calls), CALLS[network]
    for i in range(rounds + 1):  # the first round warms up
        seconds = {}
        for case in cases:
            calls[case]()  # after another form, the cache is not this one's
            start = time.process_time()
            for _ in range(n):
                calls[case]()
            seconds[case] = (time.process_time() - start) / n
        cases = cases[1:] + cases[:1]  # nobody is always first
        whole = seconds["whole", 0.0]
        rows += [(network, *case, i, s, s / whole) for case, s in seconds.items()] if i else []
    return pd.DataFrame(rows, columns=["network", "form", "rate", "round", "seconds", "ratio"])


def main() -> None:
    torch.set_num_threads(1)
    networks = {name: one_layer(int(name.split()[-1])) if "width" in name else gpt2() for name in CALLS}
    table = pd.concat([timed(name, calls, ROUNDS) for name, calls in networks.items()])
    print(table.groupby(["network", "form", "rate"], sort=False)[["seconds", "ratio"]].median().to_string())
    write_atomic(FILE, table.to_csv(index=False, float_format="%.4g").encode())


if __name__ == "__main__":
    command(main)()
