"""Numbers of steps to reach a loss, against a loss that is followed step by step; exact recovery of the two laws."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.softmax.curves import CHECK, steps_to_reach
from icl_lib.softmax.descent import stacked_patterns
from icl_lib.softmax.model import Params, forward, hinge
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import CHUNK, TrainConfig, initial_state, train_steps
from icl_lib.validate import ConfigError
from studies.L2 import compare_scaling

CONFIGS = [TrainConfig(uniform_cover(6, 3, s), seed=s, batch_size=16, step_size=20.0, n_steps=44) for s in range(2)]
X = np.array([0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0])
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


def curves(truth: np.ndarray, n: int = 10, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """n seeds of one curve: a factor of its own each, and log-normal noise per point."""
    rng = np.random.default_rng(seed)
    return truth * np.linspace(0.8, 1.2, n)[:, None] * np.exp(noise * rng.standard_normal((n, len(truth))))


@pytest.mark.parametrize(("a", "b"), [(30.0, 20.0), (30.0, 0.0), (30.0, -25.0), (-2.0, 30.0)])
def test_compare_scaling_recovers_a_over_x_plus_b(a: float, b: float) -> None:
    fits, difference = compare_scaling(X, curves(a / X + b))
    size = np.linspace(0.8, 1.2, 10)
    assert list(fits.columns) == ["seed", "C", "p", "rms_power", "A", "B", "rms_reciprocal"]
    assert np.allclose(fits["A"], a * size, rtol=1e-6)
    assert np.allclose(fits["B"], b * size, rtol=1e-6, atol=1e-5)
    assert np.all(fits["rms_reciprocal"] < 1e-7)
    assert difference.n == 10
    assert difference.low > 0 if b else abs(difference.estimate) < 1e-7  # at B = 0 both laws hold


def test_compare_scaling_recovers_a_power_law() -> None:
    values = pd.DataFrame(curves(7 * X ** (-2 / 3), n=4), index=[11, 12, 13, 14])
    fits, difference = compare_scaling(X, values)
    assert list(fits["seed"]) == [11, 12, 13, 14]
    assert np.allclose(fits["p"], -2 / 3)
    assert np.allclose(fits["C"], 7 * np.linspace(0.8, 1.2, 4))
    assert np.all(fits["rms_power"] < 1e-12) and np.all(fits["rms_reciprocal"] > 0.01)
    assert difference.high < 0


def test_compare_scaling_finds_the_least_squares_minimum() -> None:
    """The reciprocal fit against a grid around it, on data that follow neither law."""
    row = curves(5 * X**-0.8 + 1, noise=0.2, seed=9)[:2]
    best = compare_scaling(X, row).fits.iloc[0]
    grid = np.stack(np.meshgrid(*[v * np.linspace(0.8, 1.2, 41) for v in (best.A, best.B)]), -1).reshape(-1, 2)
    rms = np.sqrt((np.log((grid[:, :1] / X + grid[:, 1:]) / row[0]) ** 2).mean(1))
    assert best.rms_reciprocal <= rms.min() + 1e-12


def test_a_law_is_not_fitted_to_two_points() -> None:
    with pytest.raises(ConfigError, match="x=.*at least 3 different"):
        compare_scaling([1, 2], np.ones((2, 2)))
