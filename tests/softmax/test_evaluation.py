"""Measuring: against a loop over held-out prompts, against the vote floor, and until enough errors are made."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

import icl_lib.softmax.evaluation as evaluate_module
from icl_lib.softmax.evaluation import NonFinite, evaluate, evaluate_params
from icl_lib.softmax.floors import vote_floor
from icl_lib.softmax.model import ModelConfig, Params
from icl_lib.softmax.patterns import PatternConfig, Patterns, draw_patterns, out_of_domain, stack_patterns
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.tasks import all_tasks, uniform_cover, unseen
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError

CONFIG = TrainConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    prompts=PromptConfig(n_context=6),
    model=ModelConfig(m=10, a_scale=0.05),
    batch_size=16,
    n_steps=40,
)
CONFIGS = [dataclasses.replace(CONFIG, seed=seed) for seed in (0, 3)]
TEST = PromptConfig(alpha=0.6, n_context=4)
UNSEEN = [unseen(CONFIG.tasks, 4)] * 2


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "BLOCK", 100)


def test_against_a_loop_over_prompts(small_blocks: None) -> None:
    """Error, losses and attention mass of each prompt from the paper's formula, in float64, block after block."""
    ensemble = train(CONFIGS)
    found = evaluate(ensemble, UNSEEN, TEST, 201)
    assert found["n_prompts"].tolist() == [300, 300] and found["seed"].tolist() == [0, 3]
    blocks = [sample_prompts([TEST] * 2, task_table(UNSEEN), [0, 3], (4, 3), 100, "eval", i) for i in range(3)]
    for e in range(2):
        w_q, w_k, w_v, w_o, a = (
            getattr(ensemble.params, name)[e].double().numpy() for name in ("w_q", "w_k", "w_v", "w_o", "a")
        )
        rows = []
        for prompts in blocks:
            tokens = prompts.dense(ensemble.patterns)[e].double().numpy()
            for b, p in enumerate(tokens):
                scores = np.array([(w_k @ p[:, i]) @ (w_q @ p[:, -1]) for i in range(4)])
                attention = np.exp(scores) / np.exp(scores).sum()
                pooled = sum(weight * w_v @ p[:, i] for i, weight in enumerate(attention))
                f, z = float(a @ np.maximum(w_o @ pooled, 0)), float(prompts.target[e, b])
                same = (prompts.parts[e, b, 0] == prompts.query_parts[e, b, 0]).numpy()
                rows.append(((f * z < 0) + (f == 0) / 2, max(0.0, 1 - z * f), attention[same].sum(), abs(f)))
        error, hinge, mass, size = np.array(rows).T
        row = found.iloc[e]
        assert row["n_errors"] == error.sum() and row["error"] == pytest.approx(error.mean())
        assert row["hinge"] == pytest.approx(hinge.mean(), rel=1e-5)
        assert row["attention"] == pytest.approx(mass.mean(), rel=1e-5)
        assert abs(row["n_lossy"] - (hinge > 0).sum()) <= 1  # a margin may round to 1
        assert row["largest_output"] == pytest.approx(size.max(), rel=1e-4)
    pd.testing.assert_frame_equal(found, evaluate(ensemble, UNSEEN, TEST, 300))


def voter(seeds: list[int], scale: float) -> tuple[Params, Patterns]:
    """Weights that let the contexts with the query's pattern vote: sharp attention, one neuron for +q and one for -q."""
    config = PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3, beta=2.0)
    patterns = stack_patterns([draw_patterns(config, seed) for seed in seeds])
    e, q = len(seeds), patterns.basis[:, -1]
    w = torch.cat([scale * torch.eye(11), torch.eye(11), torch.eye(11)]).expand(e, -1, -1)
    return Params(w, torch.stack([q, -q], dim=1), torch.tensor([1.0, -1.0]).expand(e, -1)), patterns


@pytest.mark.parametrize(("alpha", "length"), [(0.3, 3), (0.6, 5), (0.9, 1), (0.0, 5)])
def test_ideal_attention_reaches_the_vote_floor(alpha: float, length: int) -> None:
    """kappa = 0 and odd l, so that nothing but the law of the prompts decides; one standard error is exact."""
    params, patterns = voter([1, 2], scale=30.0)
    rule = PromptConfig(alpha, length, 0.0)
    found = evaluate_params(params, patterns, [1, 2], [all_tasks(4)] * 2, [rule] * 2, 10_000)
    floor = vote_floor(alpha, length, 4)
    error = found["n_errors"].sum() / found["n_prompts"].sum()
    assert abs(error - floor) < 4.5 * math.sqrt(floor * (1 - floor) / 20_000)


def test_ideal_attention_makes_no_error_with_exact_counts() -> None:
    params, patterns = voter([1], scale=30.0)
    row = evaluate_params(params, patterns, [1], [all_tasks(4)], [PromptConfig(0.4, 10, 0.0, "exact")], 2000).iloc[0]
    assert row["n_errors"] == 0 and row["hinge"] < 1e-5 and row["attention"] == pytest.approx(1, abs=1e-5)
    assert row["largest_output"] == pytest.approx(1, abs=1e-5)


def test_no_attention() -> None:
    """Scores 0: the mass on same-pattern contexts is their frequency alpha / 2."""
    params, patterns = voter([1], scale=0.0)
    row = evaluate_params(params, patterns, [1], [all_tasks(4)], [PromptConfig(0.6, 5)], 10_000).iloc[0]
    assert row["attention"] == pytest.approx(0.3, abs=4.5 * math.sqrt(0.3 * 0.7 / 50_000))


def test_goes_on_until_every_member_has_erred_often_enough(small_blocks: None) -> None:
    params, patterns = voter([1, 2, 3], scale=0.0)
    arguments = (params, patterns, [1, 2, 3], [all_tasks(4)] * 3, [PromptConfig(0.6, 5)] * 3)
    found = evaluate_params(*arguments, n_prompts=1, min_errors=120)
    seen = int(found["n_prompts"].iloc[0])
    assert (found["n_errors"] >= 120).all() and seen > 100
    before = evaluate_params(*arguments, n_prompts=seen - 100)
    assert (before["n_prompts"] == seen - 100).all() and (before["n_errors"] < 120).any()
    assert (evaluate_params(*arguments, n_prompts=seen + 1, min_errors=1)["n_prompts"] == seen + 100).all()


def test_stops_at_max_prompts(small_blocks: None) -> None:
    params, patterns = voter([1, 2], scale=30.0)
    rules = [PromptConfig(0.4, 10, 0.0, "exact")] * 2
    found = evaluate_params(params, patterns, [1, 2], [all_tasks(4)] * 2, rules, 100, min_errors=5, max_prompts=450)
    assert found["n_prompts"].tolist() == [500, 500] and found["n_errors"].tolist() == [0, 0]
    found = evaluate_params(params, patterns, [1, 2], [all_tasks(4)] * 2, rules, 700, min_errors=5, max_prompts=450)
    assert found["n_prompts"].tolist() == [700, 700]  # what was asked for at least


def test_a_member_with_enough_errors_drops_out_and_the_others_go_on(small_blocks: None) -> None:
    (sharp, one), (flat, two) = voter([1], scale=30.0), voter([2], scale=0.0)
    params = Params(*(torch.cat(pair) for pair in zip(sharp, flat, strict=True)))
    patterns = one._replace(basis=torch.cat([one.basis, two.basis]))
    rules = [PromptConfig(0.4, 10, 0.0, "exact")] * 2
    found = evaluate_params(params, patterns, [1, 2], [all_tasks(4)] * 2, rules, 100, min_errors=5, max_prompts=500)
    assert found["n_errors"].iloc[0] == 0 and found["n_errors"].iloc[1] >= 5
    assert found["n_prompts"].tolist() == [500, 100]
    assert found["error"].iloc[1] == found["n_errors"].iloc[1] / 100


def test_member_is_evaluated_as_if_alone(small_blocks: None) -> None:
    params, patterns = voter([1, 2], scale=1.0)
    rules = [PromptConfig(0.2, 5), PromptConfig(0.9, 5, 0.1)]
    tasks = [all_tasks(4), ((2, 1),)]
    both = evaluate_params(params, patterns, [1, 2], tasks, rules, 300)
    for i in range(2):
        solo = Params(*(t[i : i + 1] for t in params)), patterns._replace(basis=patterns.basis[i : i + 1])
        alone = evaluate_params(*solo, [1 + i], [tasks[i]], [rules[i]], 300)
        columns = ["n_errors", "error", "hinge", "attention"]
        assert both[columns].iloc[i].tolist() == pytest.approx(alone[columns].iloc[0].tolist(), rel=1e-5)


def test_out_of_domain_patterns(small_blocks: None) -> None:
    """The voter knows no pattern by heart: on orthogonal patterns of the same norm it votes as well."""
    params, patterns = voter([1], scale=30.0)
    member = patterns._replace(basis=patterns.basis[0])
    ood = stack_patterns([out_of_domain(member, 3, 2, 1.0, 1)])
    rule = PromptConfig(0.4, 10, 0.0, "exact")
    assert evaluate_params(params, ood, [1], [all_tasks(3)], [rule], 300)["n_errors"].tolist() == [0]


def test_diverged_weights_are_not_measured(small_blocks: None) -> None:
    """NaN has no positive part: its hinge loss would be 0."""
    params, patterns = voter([1, 7], scale=1.0)
    params = params._replace(a=params.a * torch.tensor([[1.0], [math.nan]]))
    with pytest.raises(NonFinite, match="^member 1, seed 7: outputs are not finite$"):
        evaluate_params(params, patterns, [1, 7], [all_tasks(4)] * 2, [PromptConfig(0.6, 5)] * 2, 100)


def test_blocks_may_be_smaller() -> None:
    """So that few prompts are not rounded up; the first block is what a run with that ``BLOCK`` draws."""
    params, patterns = voter([1], scale=1.0)
    arguments = (params, patterns, [1], [all_tasks(4)], [PromptConfig(0.6, 5)])
    found = evaluate_params(*arguments, 150, block=50)
    assert found["n_prompts"].tolist() == [150]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_module, "BLOCK", 50)
        pd.testing.assert_frame_equal(found, evaluate_params(*arguments, 150))


def test_refuses() -> None:
    params, patterns = voter([1], 1.0)
    with pytest.raises(ConfigError, match="n_prompts=0: must be an integer >= 1"):
        evaluate_params(params, patterns, [1], [all_tasks(4)], [TEST], 0)
    for tasks in (((0, 9),), ((1, 1),), ()):
        with pytest.raises(ConfigError, match="^tasks="):
            evaluate_params(params, patterns, [1], [tasks], [TEST], 100)
    for tasks, rules, seeds, name in (
        ([all_tasks(4)] * 2, [TEST], [1], "tasks=2"),
        ([all_tasks(4)], [], [1], "prompts=0"),
    ):
        with pytest.raises(ConfigError, match=f"^{name}: must be one entry per seed, 1$"):
            evaluate_params(params, patterns, seeds, tasks, rules, 100)


@pytest.mark.parametrize("limits", [{}, {"group": None, "min_errors": 10}])
def test_a_change_of_prompts_is_refused_where_it_would_not_see_all_members(limits: dict[str, int | None]) -> None:
    ensemble = train(CONFIGS)
    with pytest.raises(ConfigError, match=r"^change=.*must be of all members at once"):
        evaluate(ensemble, UNSEEN, TEST, 100, change=lambda prompts, step: prompts, **limits)
