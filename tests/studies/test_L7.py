"""Disturbed prompts: no noise changes nothing, and noise has the stated size."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.softmax.model import ModelConfig, forward
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.pruning import random
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError
from studies.L7 import Noise, disturb, evaluate_disturbed, hidden_dense, log_ratios, onset, random_order

CONFIG = TrainConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=9, d_y=3),
    model=ModelConfig(m=10, a_scale=0.1),
    batch_size=16,
    n_steps=40,
)
ENSEMBLE = train([dataclasses.replace(CONFIG, seed=seed) for seed in (1, 5)])
PROMPTS = sample_prompts([PromptConfig(n_context=6)] * 2, task_table([all_tasks(4)] * 2), [1, 5], (4, 3), 400, "check")


def test_dense_forward_equals_the_model_on_clean_prompts() -> None:
    fast = forward(ENSEMBLE.params, ENSEMBLE.patterns, PROMPTS).hidden
    dense = hidden_dense(ENSEMBLE.params, disturb(PROMPTS, ENSEMBLE.patterns, Noise(), [1, 5], 0))
    torch.testing.assert_close(dense, fast, rtol=1e-4, atol=1e-5)


def test_size_of_the_noise() -> None:
    clean = PROMPTS.dense(ENSEMBLE.patterns)
    noisy = disturb(PROMPTS, ENSEMBLE.patterns, Noise(input=0.5), [1, 5], 0) - clean
    assert noisy[:, :, 9:].abs().max() == 0, "labels are untouched"
    assert noisy[:, :, :9].square().sum(2).mean().item() == pytest.approx((0.5 * 2.0) ** 2, rel=0.03)
    flipped = disturb(PROMPTS, ENSEMBLE.patterns, Noise(label=0.3), [1, 5], 0) - clean
    changed = (flipped.abs().sum(2) > 1e-6).float()
    assert changed[..., -1].sum() == 0, "the query has no label to flip"
    assert changed[..., :-1].mean().item() == pytest.approx(0.3, abs=0.03)


def test_members_draw_their_own_noise_and_steps_differ() -> None:
    both = disturb(PROMPTS, ENSEMBLE.patterns, Noise(0.2, 0.3), [1, 5], 0)
    one = type(PROMPTS)(*(part[1:] for part in PROMPTS))
    frame = ENSEMBLE.patterns._replace(basis=ENSEMBLE.patterns.basis[1:])
    assert torch.equal(both[1:], disturb(one, frame, Noise(0.2, 0.3), [5], 0))
    assert not torch.equal(both, disturb(PROMPTS, ENSEMBLE.patterns, Noise(0.2, 0.3), [1, 5], 1))


def test_noise_is_relative_to_the_beta_of_each_member() -> None:
    basis = ENSEMBLE.patterns.basis * torch.tensor([1.0, 5.0])[:, None, None]
    frame = ENSEMBLE.patterns._replace(basis=basis)
    noisy = disturb(PROMPTS, frame, Noise(input=0.5), [1, 5], 0) - PROMPTS.dense(frame)
    size = noisy[:, :, :9].square().sum(2).mean((1, 2))
    torch.testing.assert_close(size, (0.5 * 2.0 * torch.tensor([1.0, 5.0])) ** 2, rtol=0.05, atol=0)


def test_labels_that_are_always_flipped_turn_the_answer_around() -> None:
    kept = torch.ones(2, 1, 10, dtype=torch.bool)
    rule, tasks = PromptConfig(n_context=6, reading="exact"), [all_tasks(4)] * 2
    arguments = (ENSEMBLE.params, ENSEMBLE.patterns, [1, 5], tasks, rule, kept, 2_000)
    clean, flipped = (evaluate_disturbed(*arguments, noise=noise) for noise in (None, Noise(label=1.0)))
    np.testing.assert_allclose(clean["error"] + flipped["error"], 1, atol=0.15)  # F(-y) is nearly -F(y)
    assert (evaluate_disturbed(*arguments, noise=Noise())["n_errors"] - clean["n_errors"]).abs().max() <= 1


def test_bad_noise_is_refused() -> None:
    with pytest.raises(ConfigError, match="label=1.5"):
        Noise(label=1.5)
    with pytest.raises(ConfigError, match="input=-1"):
        Noise(input=-1)


def test_onset_of_the_law_is_where_the_law_reaches_the_level() -> None:
    """hinge = (1 - F (1 - R))_+ reaches e at R = 1 - (1 - e) / F, between grid points, too."""
    rates = np.linspace(0, 1, 41)
    for margin in (1.0, 1.25, 3.0):
        loss = np.maximum(0, 1 - margin * (1 - rates))
        assert onset(rates, loss, 0.02) == pytest.approx(1 - 0.98 / margin, abs=0.025)
    assert onset([0, 1], [0.3, 1], 0.02) == 0, "a loss that is there from the start"
    assert np.isnan(onset([0, 1], [0, 0.01], 0.02))
    with pytest.raises(ConfigError, match="rates"):
        onset([1, 0], [0, 1], 0.02)


def test_orders_differ_and_the_first_is_that_of_random_pruning() -> None:
    first, second = (random_order(ENSEMBLE.params, [1, 5], number) for number in (0, 1))
    assert torch.equal(first, random(ENSEMBLE.params, [1, 5]))
    assert not torch.equal(first, second) and not torch.equal(first[0], first[1])


def test_log_ratios_are_of_shared_rates_and_change_sign_with_the_order() -> None:
    ours, published = pd.Series({0.0: 0.01, 0.2: 0.02, 0.6: 0.5}), pd.Series({0.0: 0.02, 0.1: 0.03, 0.2: 0.02})
    assert log_ratios(ours, published).round(9).to_dict() == {0.0: round(-np.log(2), 9), 0.2: 0.0}
    np.testing.assert_allclose(log_ratios(published, ours), -log_ratios(ours, published))
    assert log_ratios(ours, pd.Series({0.9: 1.0})).empty
    with pytest.raises(ConfigError, match="ours"):
        log_ratios(pd.Series({0.0: 0.0}), published)
