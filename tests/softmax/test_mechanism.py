"""Mechanism measures against sampling, constructed weights and the training that they look at."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from icl_lib.softmax.curves import snapshots
from icl_lib.softmax.evaluation import evaluate_params
from icl_lib.softmax.mechanism import (
    activity,
    growth,
    is_small,
    label_to_feature,
    mass_of_gap,
    neurons,
    score_gap,
)
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, initial_state, train

PATTERNS = PatternConfig(n_idr=4, n_idi=3, d_x=9, d_y=3)
CONFIG = TrainConfig(
    tasks=uniform_cover(4, 1, 0), patterns=PATTERNS, model=ModelConfig(m=10), batch_size=16, n_steps=25
)
CONFIGS = [dataclasses.replace(CONFIG, seed=seed) for seed in (0, 3)]


def test_growth_against_sampled_inputs() -> None:
    """Random matrices and 200 000 sampled inputs; every mean square within 2 %."""
    patterns = stack_patterns([draw_patterns(PATTERNS, 4)])
    gen = torch.Generator().manual_seed(0)
    params = Params(torch.randn(1, 36, 12, generator=gen), torch.randn(1, 5, 12, generator=gen), torch.ones(1, 5))
    n = 200_000
    j, k = torch.randint(4, (n,), generator=gen), torch.randint(3, (n,), generator=gen)
    kappa = 0.7 * (2 * torch.rand(n, 1, generator=gen) - 1)
    basis = patterns.basis[0]
    inputs = basis[j] + kappa * basis[4 + k]
    unit = basis[:4] / basis[:4].norm(dim=1, keepdim=True)
    found = growth(params, patterns, 0.7).set_index("matrix")
    for name, weight in (("W_Q", params.w_q[0]), ("W_K", params.w_k[0])):
        image = inputs @ weight.T
        along = (image @ unit.T).square()
        own = along.gather(1, j[:, None])[:, 0]
        other = (along.sum(1) - own) / 3
        off = image.square().sum(1) - along.sum(1)
        sampled = [x.mean().sqrt().item() for x in (image.square().sum(1), own, other, off)]
        np.testing.assert_allclose(found.loc[name, ["norm", "own", "other", "off"]].astype(float), sampled, rtol=0.01)


def test_growth_at_the_start_is_known() -> None:
    """W_Q = delta on the inputs: own component delta beta, norm delta beta sqrt(1 + K^2/3), nothing along others."""
    start = initial_state(CONFIGS).params
    found = growth(start, snapshots(CONFIGS, 25).patterns, 0.5)
    np.testing.assert_allclose(found["own"], 0.2 * 2.0, rtol=1e-5)
    np.testing.assert_allclose(found["norm"], 0.4 * np.sqrt(1 + 0.25 / 3), rtol=1e-5)
    np.testing.assert_allclose(found["other"], 0, atol=1e-3)


def test_snapshots_are_the_training_run() -> None:
    taken = snapshots(CONFIGS, 8)
    assert list(taken.params) == [0, 8, 16, 24, 25] and taken.seeds == [0, 3]
    full = train(CONFIGS)
    for mine, theirs in zip(taken.params[25], full.params, strict=True):
        assert torch.equal(mine, theirs)
    at_eight = train([dataclasses.replace(c, n_steps=8) for c in CONFIGS]).params
    assert torch.equal(taken.params[8].w_o, at_eight.w_o), "a snapshot must not change while training goes on"


def test_neurons_of_known_weights() -> None:
    """W_V = 1; one row along (mu_bar, q), one along (-mu_bar, -2 q), one orthogonal to mu_bar."""
    patterns = stack_patterns([draw_patterns(PATTERNS, 1)])
    mu_bar, q, nu = patterns.relevant[0].mean(0), patterns.label[0], patterns.irrelevant[0, 0]
    rows = torch.stack([torch.cat([mu_bar, q]), torch.cat([-mu_bar, -2 * q]), torch.cat([nu, q])])[None]
    params = Params(torch.eye(12).repeat(3, 1)[None], rows, torch.tensor([[0.1, -0.1, 0.1]]))
    start = params._replace(w_o=rows / torch.tensor([1.5, 3.0, 1.0])[:, None])
    table = neurons(params, patterns, start)
    np.testing.assert_allclose(table["feature_angle"], [0, np.pi, np.pi / 2], atol=2e-3)
    np.testing.assert_allclose(table["label_angle"], [0, np.pi, 0], atol=2e-3)
    np.testing.assert_allclose(table["label"], [1, 2, 1], rtol=1e-5)
    np.testing.assert_allclose(table["feature"], [mu_bar.norm(), mu_bar.norm(), 2.0], rtol=1e-5)
    assert table["sign"].tolist() == [1, -1, 1]
    assert is_small(table).tolist() == [True, False, True] and not is_small(table, 1.2).iloc[0]
    assert neurons(params, patterns)["start_row"].isna().all()


def test_activity_of_neurons_that_read_the_label() -> None:
    """Rows +q and -q, on prompts where every context speaks for the query's label: each fires on its own side only."""
    patterns = stack_patterns([draw_patterns(PATTERNS, 2)])
    q = torch.cat([torch.zeros(9), patterns.label[0]])
    rows = torch.stack([q, q, -q, -q])[None]
    attend = 30 * torch.eye(12)  # attention on the query's own pattern alone
    w_qkv = torch.cat([attend, attend, torch.eye(12)])[None]
    params = Params(w_qkv, rows, torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
    rule = PromptConfig(alpha=1.0, n_context=6, kappa_max=0.0, reading="exact")
    found = activity(params, patterns, [2], [all_tasks(4)], rule)
    assert found[0].tolist() == [1, 0, 0, 1]


def test_score_gap_and_label_to_feature_of_known_weights() -> None:
    """W_Q = W_K = c on the inputs scores c^2 beta^2 on equal patterns and 0 on others; rho by hand."""
    patterns = stack_patterns([draw_patterns(PATTERNS, seed) for seed in (1, 2)])
    mu_bar, q = patterns.relevant.mean(1), patterns.label
    rows = torch.stack([torch.cat([mu_bar, 3 * q], 1), torch.cat([2 * mu_bar, -q], 1)], dim=1)  # (E, 2, d)
    start = initial_state([dataclasses.replace(CONFIG, seed=s) for s in (1, 2)]).params
    params = start._replace(w_o=rows, a=torch.tensor([[0.1, -0.1]] * 2))
    torch.testing.assert_close(score_gap(params, patterns), torch.full((2,), 0.04 * 4), rtol=1e-4, atol=1e-5)
    both = torch.ones(2, 2, dtype=torch.bool)
    # mu_bar^T mu_j = beta^2 / M1 = 1: features 1 and 2, labels 3 and 1 on their own side
    torch.testing.assert_close(label_to_feature(params, patterns, both), torch.full((2,), 4 / 3), rtol=1e-4, atol=1e-5)
    one = torch.tensor([[True, False]] * 2)
    torch.testing.assert_close(label_to_feature(params, patterns, one), torch.full((2,), 3.0), rtol=1e-4, atol=1e-5)


def test_all_attention_is_on_contexts_that_are_all_of_one_pattern() -> None:
    """One context was a division by zero."""
    assert mass_of_gap(torch.tensor([0.0, 2.0]), n_same=1, n_context=1).tolist() == [1.0, 1.0]


def test_mass_of_a_gap_is_the_models_attention_at_the_start() -> None:
    """W_Q = W_K = delta gives equal gaps, so without irrelevant parts the formula is exact."""
    patterns = stack_patterns([draw_patterns(PATTERNS, seed) for seed in (0, 3)])
    start = initial_state(CONFIGS).params
    rule = PromptConfig(alpha=0.8, n_context=10, kappa_max=0.0, reading="exact")
    found = evaluate_params(start, patterns, [0, 3], [all_tasks(4)] * 2, [rule] * 2, 2_000)["attention"]
    expected = mass_of_gap(score_gap(start, patterns), 4, 10)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    assert expected[0].item() == pytest.approx(4 * math.exp(0.16) / (4 * math.exp(0.16) + 6), rel=1e-4)
