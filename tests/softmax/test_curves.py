"""Measuring while training: numbers of steps, against a loss that is followed step by step."""

import math

import pandas as pd
import pytest
import torch

from icl_lib.softmax.curves import CHECK, learning_curve, shortest_from_which, steps_to_reach
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.model import Params, forward, hinge
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import CHUNK, TrainConfig, initial_state, train, train_steps

CONFIGS = [TrainConfig(uniform_cover(6, 3, s), seed=s, batch_size=16, step_size=20.0, n_steps=44) for s in range(2)]
TASKS, RULE = [c.tasks for c in CONFIGS], PromptConfig(n_context=10)


def first_step(losses: torch.Tensor, threshold: float) -> float:
    """By the stated rule: in the first chunk that ends at or below the threshold, the first step that does."""
    if losses[0] <= threshold:
        return 0
    for start in range(1, len(losses), CHUNK):
        low = losses[start : start + CHUNK] <= threshold
        if low[-1]:
            return start + int(low.int().argmax())
    return math.nan


def test_steps_to_reach_a_loss() -> None:
    """Against the loss after every step: 0 at the start, NaN for never, and steps in several chunks and at their ends."""
    patterns, followed = stacked_patterns(CONFIGS), []
    check = sample_prompts([RULE] * 2, task_table(TASKS), [0, 1], patterns.counts, CHECK, "check")

    def follow(params: Params) -> None:
        followed.append(hinge(forward(params, patterns, check), check).mean(1))

    start = initial_state(CONFIGS)
    follow(start.params)
    train_steps(CONFIGS, start, 44, on_step=follow)
    losses = torch.stack(followed, dim=1)  # (E, 45)
    thresholds = [2.0, *(losses[0, [3, 8, 9, 20, 44]] + 1e-6).tolist(), 1e-9]
    found = steps_to_reach(CONFIGS, TASKS, RULE, thresholds)
    expected = [first_step(losses[seed], threshold) for threshold in thresholds for seed in (0, 1)]
    assert found["steps"].tolist() == pytest.approx(expected, nan_ok=True)
    assert found["seed"].tolist() == [0, 1] * 7 and len(set(expected[::2])) >= 6
    assert expected[:2] == [0, 0] and math.isnan(expected[-1])


def test_a_learning_curve_is_the_evaluation_at_each_step() -> None:
    configs = [CONFIGS[0]]
    table = learning_curve(configs, TASKS[:1], RULE, every=20, n_prompts=2_000)
    assert table["step"].tolist() == [0, 20, 40, 44]
    last = evaluate(train(configs), TASKS[:1], RULE, 2_000)
    pd.testing.assert_frame_equal(table.iloc[[-1]].drop(columns="step").reset_index(drop=True), last)


@pytest.mark.parametrize(
    ("errors", "length"),
    [
        ([0.3, 0.04, 0.06, 0.01], 40),
        ([0.04, 0.06, 0.05, 0.01], 20),
        ([0.05, 0.01, 0.0, 0.0], 5),
        ([0, 0, 0, 0.1], None),
    ],
)
def test_the_length_from_which_an_error_stays_low(errors: list[float], length: int | None) -> None:
    table = pd.DataFrame({"n_context": [5, 10, 20, 40], "error": errors}).sample(frac=1, random_state=0)
    found = shortest_from_which(table, "n_context", "error", threshold=0.05)
    assert found == length or (length is None and math.isnan(found))
