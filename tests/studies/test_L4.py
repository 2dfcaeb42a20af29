"""New patterns have the sum, norm and span that they are said to have; the law agrees with Q1's and with the scores that it rests on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.mechanism import score_gap
from icl_lib.softmax.model import ModelConfig
from icl_lib.softmax.patterns import PatternConfig, draw_patterns, stack_patterns
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError
from studies import Q1
from studies.L4 import (
    equal_parts,
    evaluate_on,
    feasible,
    irrelevant_among_relevant,
    margin_law,
    mass_law,
    mixtures,
    with_relevant,
)

PATTERNS = PatternConfig(n_idr=6, n_idi=4, d_x=16, d_y=3)
SEEDS = [0, 3]
TRAINED = stack_patterns([draw_patterns(PATTERNS, seed) for seed in SEEDS])
ENSEMBLE = train(
    [
        TrainConfig(
            tasks=uniform_cover(6, 2, 0),
            patterns=PATTERNS,
            model=ModelConfig(m=10, a_scale=0.1),
            batch_size=16,
            n_steps=20,
            seed=seed,
        )
        for seed in SEEDS
    ]
)


def coefficients(new, row, n_frames):
    return new.relevant[row] @ TRAINED.relevant[row // n_frames].T / 4


@pytest.mark.parametrize(("s1", "r"), [(1.0, 0.58), (-0.5, 0.45), (1.4, 1.5)])
def test_mixtures_have_the_sum_and_the_norm(s1: float, r: float) -> None:
    new = mixtures(TRAINED, SEEDS, s1, r, 2)
    for row in range(4):
        c = coefficients(new, row, 2)
        torch.testing.assert_close(c.sum(1), torch.full((2,), s1), atol=1e-5, rtol=0)
        torch.testing.assert_close(c @ c.T, r**2 * torch.eye(2), atol=1e-5, rtol=0)
    assert feasible(s1, r) and not feasible(1.0, 0.57)
    with pytest.raises(ConfigError, match="s1="):
        mixtures(TRAINED, SEEDS, 1.0, 0.57, 1)


def test_equal_parts_are_disjoint_means() -> None:
    new = equal_parts(TRAINED, SEEDS, 3, 2)
    for row in range(4):
        c = coefficients(new, row, 2)
        assert torch.allclose(c.sum(0), torch.full((6,), 1 / 3), atol=1e-5)  # each trained pattern in one of the two
        assert torch.allclose(c.sort(1).values, torch.tensor([0, 0, 0, 1 / 3, 1 / 3, 1 / 3]), atol=1e-5)
    assert not torch.allclose(coefficients(new, 0, 2), coefficients(new, 1, 2), atol=1e-2)
    with pytest.raises(ConfigError, match="n_parts=4"):
        equal_parts(TRAINED, SEEDS, 4, 1)


def test_irrelevant_patterns_among_the_relevant() -> None:
    new = irrelevant_among_relevant(TRAINED, SEEDS, 1.0, 2)
    assert new.counts == (3, 3)
    for row in range(4):
        both = torch.cat([new.relevant[row], new.irrelevant[row]])
        torch.testing.assert_close(both @ both.T, 4 * torch.eye(6), atol=2e-5, rtol=0)
        inside = (new.irrelevant[row] @ TRAINED.relevant[row // 2].T).square().sum() / 16
        assert inside == pytest.approx(3.0, abs=1e-4)
        assert torch.equal(new.basis[row, -1], TRAINED.basis[row // 2, -1])


def test_the_gap_goes_with_the_square_of_the_norm_and_not_with_the_sum() -> None:
    """What the law of the mass rests on, for scores that are alike over patterns."""
    eye = torch.nn.functional.pad(torch.eye(16), (0, 3, 0, 3))
    mean = TRAINED.basis[0, :6].mean(0)
    key = (eye + 0.3 * torch.outer(mean, mean)).expand(2, -1, -1)
    one = TRAINED._replace(basis=TRAINED.basis[:1].expand(2, -1, -1))
    params = SimpleNamespace(w_q=eye.expand(2, -1, -1), w_k=key)
    trained = score_gap(params, one)
    for s1 in (-0.5, 0.7):
        new = mixtures(one, SEEDS, s1, 0.6, 1)
        torch.testing.assert_close(score_gap(params, new), 0.36 * trained, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("s1", [0.0, 0.5, 1.0, 1.4, 5.0])
def test_the_law_is_that_of_q1(s1: float) -> None:
    f_in, rho, mass, mass_in = (np.array(x) for x in ([1.2, 1.4], [3.0, 1.1], [0.6, 0.3], [0.95, 0.9]))
    for counts in ((8, 8, 20), (10, 10, 20)):
        mine = margin_law(f_in, rho, s1, mass, mass_in, counts)
        np.testing.assert_allclose(mine, Q1.margin_law(f_in, rho, s1, counts, mass, mass_in), rtol=1e-12)


def test_the_law_at_its_ends() -> None:
    f_in, rho = np.array([1.2]), np.array([2.0])
    np.testing.assert_allclose(margin_law(f_in, rho, 1.0, 0.9, 0.9), f_in)
    assert margin_law(f_in, rho, -2.5) == 0  # no neuron fires
    np.testing.assert_allclose(margin_law(f_in, rho, -0.5), f_in * 1.5 / 3)
    gap = np.array([3.0])
    assert mass_law(gap, 1e-6, 10, 20) == pytest.approx(0.5) and mass_law(gap, 1.0, 20, 20) == 1
    with pytest.raises(ConfigError, match="counts="):
        margin_law(f_in, rho, 1.0, counts=(0, 1, 2))


def test_evaluation_on_the_trained_patterns_is_that_in_domain() -> None:
    rule = PromptConfig(n_context=4)
    mine = evaluate_on(ENSEMBLE, with_relevant(TRAINED, TRAINED.relevant), rule, 2_000)
    assert mine["seed"].tolist() == SEEDS and mine["n_prompts"].tolist() == [2_000, 2_000]
    known = evaluate(ENSEMBLE, [all_tasks(6)] * 2, rule, 2_000)
    assert mine["margin"].iloc[0] == pytest.approx(known["margin"].iloc[0])  # seed 0: the same stream of prompts
