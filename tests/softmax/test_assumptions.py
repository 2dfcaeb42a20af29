"""Correlated patterns, flipped labels, and the law for the margin, against what is known in closed form."""

import itertools

import numpy as np
import pytest
import torch

from icl_lib.rng import HELD_OUT
from icl_lib.softmax.assumptions import (
    Assumptions,
    coefficient_sum,
    correlated,
    evaluate_under,
    flipped,
    mixing,
    train_under,
    vote_error,
)
from icl_lib.softmax.descent import Ensemble, stacked_patterns
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.floors import exact_counts
from icl_lib.softmax.mechanism import label_to_feature
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError
from studies.Q1 import CLAUSES, conclusions, holds, margin_law

EXACT = PromptConfig(0.8, 20, reading="exact")


def configs(n: int = 2, **changes: object) -> list[TrainConfig]:
    return [TrainConfig(uniform_cover(6, 3, s), seed=s, **{"n_steps": 20, **changes}) for s in range(n)]  # type: ignore[arg-type]


@pytest.mark.parametrize("c", [0.0, 0.1, 0.5, 0.9])
def test_correlated_patterns_have_the_gram_matrix_and_the_coefficient_sum(c: float) -> None:
    plain = stacked_patterns(configs())
    new = correlated(plain, [c, 0.0])
    gram = new.relevant[0] @ new.relevant[0].T / 4
    assert torch.allclose(gram, (1 - c) * torch.eye(6) + c, atol=1e-5)
    assert torch.equal(new.relevant[1], plain.relevant[1])
    coefficients = new.relevant[0] @ plain.relevant[0].T / 4  # of the new patterns in the old, orthogonal ones
    assert torch.allclose(coefficients.sum(1), torch.full((6,), coefficient_sum(6, c)), atol=1e-5)
    assert torch.equal(new.irrelevant, plain.irrelevant) and torch.equal(new.label, plain.label)
    assert torch.allclose(mixing(6, c), mixing(6, c).T)


def test_without_a_change_it_is_part_one() -> None:
    runs = configs()
    same, new = train(runs), train_under(runs, [Assumptions()] * 2)
    assert all(torch.equal(a, b) for a, b in zip(same.params, new.params, strict=True))
    assert torch.equal(same.losses, new.losses)
    tasks = [all_tasks(6)] * 2
    a, b = (
        evaluate(same, tasks, EXACT, 2000),
        evaluate_under(new, new.patterns, [Assumptions()] * 2, tasks, EXACT, 2000),
    )
    for name in ("n_errors", "n_lossy", "hinge", "margin", "attention"):
        assert np.allclose(a[name], b[name], rtol=1e-6)


def test_a_member_is_its_solo_run_and_frozen_attention_stays() -> None:
    runs, assumed = configs(), [Assumptions(0.3, 2.0, 0.2), Assumptions(0.0, 0.5, 0.3)]
    both, solo = train_under(runs, assumed), train_under(runs[1:], assumed[1:])
    assert torch.allclose(both.params.w_o[1], solo.params.w_o[0], atol=1e-6)
    assert both.configs[0].prompts.kappa_max == 2.0
    frozen = train_under(configs(train_attention=False), assumed).params
    assert torch.equal(frozen.w_q[0].diagonal()[:30], torch.full((30,), 0.2)) and not torch.equal(
        frozen.w_o, both.params.w_o
    )


def test_labels_are_flipped_at_the_rate_of_the_member_and_by_separate_streams() -> None:
    table = task_table([all_tasks(6)] * 2)
    drawn = sample_prompts([EXACT] * 2, table, [0, 1], (6, 24), 2000, "eval")
    rates = torch.tensor([0.0, 0.3])
    noisy = flipped(drawn, rates, [0, 1], "check", 0)
    changed = (noisy.label != drawn.label).float().mean((1, 2))
    assert changed[0] == 0 and abs(float(changed[1]) - 0.3) < 4 * (0.21 / 40_000) ** 0.5
    assert torch.equal(noisy.target, drawn.target) and torch.equal(noisy.parts, drawn.parts)
    other = flipped(drawn, rates, [0, 1], "train flips", 0)
    assert not torch.equal(other.label[1], noisy.label[1])
    assert {"eval", "check"} <= HELD_OUT and not {"train", "train flips"} & HELD_OUT
    assert flipped(drawn, torch.zeros(2), [0, 1], "check", 0) is drawn


@pytest.mark.parametrize(("n", "p"), [(1, 0.2), (2, 0.3), (5, 0.1), (8, 0.3), (3, 0.5)])
def test_vote_error_by_enumeration(n: int, p: float) -> None:
    total = 0.0
    for wrong in itertools.product([0, 1], repeat=n):
        chance = np.prod([p if w else 1 - p for w in wrong])
        total += chance * (1.0 if sum(wrong) > n / 2 else 0.5 if sum(wrong) == n / 2 else 0.0)
    assert vote_error(n, p) == pytest.approx(total)


def ideal(scores: float) -> Ensemble:
    """Two neurons that are the copies of the derivation, and attention that looks only at relevant patterns."""
    config = TrainConfig(all_tasks(6), patterns=PatternConfig(beta=1.0), model=ModelConfig(m=2))
    patterns = stacked_patterns([config])
    on_relevant = torch.zeros(60, 60)
    on_relevant[:30, :30] = patterns.relevant[0].T @ patterns.relevant[0]
    feature, label = patterns.basis[0, :6].sum(0), patterns.basis[0, -1]
    w_o = torch.stack([feature + 3 * label, feature - 3 * label])[None]
    qkv = torch.cat([scores * on_relevant, on_relevant, torch.eye(60)])[None]
    return Ensemble((config,), patterns, Params(qkv, w_o, torch.tensor([[0.3, -0.3]])), torch.empty(1, 0))


@pytest.mark.parametrize("c", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("scores", "noise"), [(0.0, 0.0), (1.0, 0.0), (3.0, 0.0), (40.0, 0.0), (400.0, 0.3)])
def test_the_law_is_exact_for_ideal_neurons(scores: float, c: float, noise: float) -> None:
    """At alpha' = 1 all contexts carry one of two patterns; with flips the other ones have no weight here, as the law takes their mean."""
    rule, models, tasks = PromptConfig(1.0, 10, 0.5, "exact"), ideal(scores), [all_tasks(6)]
    counts = (*exact_counts(1.0, 10), 10)
    first = evaluate_under(models, models.patterns, [Assumptions()], tasks, rule, 2000)
    patterns = correlated(models.patterns, [c])
    then = evaluate_under(models, patterns, [Assumptions(c, 0.5, noise)], tasks, rule, 20_000)
    rho = label_to_feature(models.params, models.patterns, torch.ones(1, 2, dtype=torch.bool)).numpy()
    assert rho == pytest.approx(3.0, abs=1e-4)
    if scores == 0:  # even attention: votes cancel, and the law has 0 over 0
        assert abs(float(then["margin"][0])) < 1e-5
        return
    law = margin_law(
        first["margin"].to_numpy(), rho, coefficient_sum(6, c), counts,
        then["attention"].to_numpy(), first["attention"].to_numpy(), noise,
    )  # fmt: skip
    assert then["margin"][0] == pytest.approx(law[0], rel=0.02 if noise else 1e-3)


def test_bad_values_are_refused() -> None:
    for bad in ({"correlation": 1.0}, {"correlation": -0.1}, {"kappa_max": -1}, {"label_noise": 0.6}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            Assumptions(**bad)
    with pytest.raises(ConfigError, match="assumed"):
        train_under(configs(), [Assumptions()])
    with pytest.raises(ConfigError, match="n_steps=0"):
        train_under(configs(n_steps=0), [Assumptions()] * 2)
    with pytest.raises(ConfigError, match="counts"):
        margin_law(np.ones(1), np.ones(1), 1.0, (20, 0, 20))


def test_conclusions_hold_after_training_and_not_before() -> None:
    runs, assumed = configs(3, n_steps=300), [Assumptions()] * 3
    tasks = [all_tasks(6)] * 3
    after, before = (
        conclusions(
            train_under([r.__class__(**{**r.__dict__, "n_steps": n}) for r in runs], assumed),
            assumed,
            tasks,
            EXACT,
            2000,
        )
        for n in (300, 1)
    )
    assert all(holds(after[name], name) for name in CLAUSES)
    failing = {name for name in CLAUSES if not holds(before[name], name)}
    assert {"excess", "hinge", "attention", "feature_angle", "small"} <= failing
