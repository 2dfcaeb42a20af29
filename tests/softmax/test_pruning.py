"""Pruning: equal to deleting neurons, and pruned in the stated order."""

import dataclasses

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import icl_lib.softmax.evaluation as evaluate_module
from icl_lib.softmax.evaluation import NonFinite, evaluate
from icl_lib.softmax.model import ModelConfig, Params, forward
from icl_lib.softmax.patterns import PatternConfig
from icl_lib.softmax.prompts import PromptConfig, sample_prompts, task_table
from icl_lib.softmax.pruning import CRITERIA, evaluate_pruned, keep, prune
from icl_lib.softmax.tasks import all_tasks, uniform_cover, unseen
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.validate import ConfigError

CONFIG = TrainConfig(
    tasks=uniform_cover(4, 1, 0),
    patterns=PatternConfig(n_idr=4, n_idi=3, d_x=8, d_y=3),
    model=ModelConfig(m=10, a_scale=0.1),
    batch_size=32,
    n_steps=60,
)
ENSEMBLE = train([dataclasses.replace(CONFIG, seed=seed) for seed in (1, 5)])
UNSEEN = [unseen(CONFIG.tasks, 4)] * 2
TEST = PromptConfig(alpha=0.6, n_context=8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "BLOCK", 300)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_pruned_network_is_the_network_without_these_neurons(criterion: str, rate: float) -> None:
    kept = keep(CRITERIA[criterion](ENSEMBLE.params, ENSEMBLE.seeds), [rate])[:, 0]
    prompts = sample_prompts([TEST] * 2, task_table(UNSEEN), [1, 5], (4, 3), 50, "check")
    pruned = forward(prune(ENSEMBLE.params, kept), ENSEMBLE.patterns, prompts).output
    for i in range(2):
        p = ENSEMBLE.params
        smaller = Params(p.w_qkv[i : i + 1], p.w_o[i : i + 1, kept[i]], p.a[i : i + 1, kept[i]])
        one = type(prompts)(*(part[i : i + 1] for part in prompts))
        frame = ENSEMBLE.patterns._replace(basis=ENSEMBLE.patterns.basis[i : i + 1])
        torch.testing.assert_close(pruned[i : i + 1], forward(smaller, frame, one).output, rtol=1e-5, atol=1e-6)


def test_one_pass_for_all_masks_equals_evaluating_each_pruned_network() -> None:
    rates = [0.0, 0.2, 0.7]
    kept = keep(CRITERIA["random"](ENSEMBLE.params, ENSEMBLE.seeds), rates)
    found = evaluate_pruned(ENSEMBLE.params, ENSEMBLE.patterns, [1, 5], UNSEEN, TEST, kept, 600)
    assert found["n_prompts"].eq(600).all() and found[["member", "mask"]].drop_duplicates().shape == (6, 2)
    for j in range(len(rates)):
        alone = evaluate(ENSEMBLE._replace(params=prune(ENSEMBLE.params, kept[:, j])), UNSEEN, TEST, 600)
        part = found[found["mask"] == j].reset_index(drop=True)
        columns = ["seed", "n_errors", "n_lossy", "error", "hinge", "largest_output"]
        pd.testing.assert_frame_equal(part[columns], alone[columns], check_dtype=False, rtol=1e-5, atol=1e-6)


def test_a_model_without_neurons_guesses() -> None:
    kept = torch.zeros(2, 1, 10, dtype=torch.bool)
    found = evaluate_pruned(ENSEMBLE.params, ENSEMBLE.patterns, [1, 5], UNSEEN, TEST, kept, 300)
    assert found["error"].eq(0.5).all() and found["hinge"].eq(1).all()


def test_order_of_the_criteria() -> None:
    params, seeds = ENSEMBLE.params, ENSEMBLE.seeds
    norms = params.w_o.norm(dim=-1)
    for name, sign in (("magnitude", 1), ("largest first", -1)):
        kept = keep(CRITERIA[name](params, seeds), [0.4])[:, 0]
        for i in range(2):
            assert (sign * norms[i, ~kept[i]]).max() <= (sign * norms[i, kept[i]]).min()
    kept = keep(CRITERIA["a > 0 first"](params, seeds), [0.5])[:, 0]
    assert (params.a[kept] < 0).all() and (params.a[~kept] > 0).all()
    other = keep(CRITERIA["random"](params, [1, 6]), [0.5])[:, 0]
    mine = keep(CRITERIA["random"](params, seeds), [0.5])[:, 0]
    assert torch.equal(mine[0], other[0]) and not torch.equal(mine[1], other[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4), st.integers(0, 100))
def test_numbers_pruned_and_nested_masks(rates: list[float], seed: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    scores, among = torch.randn(3, 12, generator=gen), torch.rand(3, 12, generator=gen) < 0.6
    kept = keep(scores, sorted(rates), among)
    wanted = (torch.tensor(sorted(rates)) * among.sum(1, keepdim=True)).round()
    assert torch.equal((~kept).sum(-1).float(), wanted)
    assert not (~kept & ~among[:, None]).any(), "only neurons that may be pruned are"
    assert (kept[:, :-1] | ~kept[:, 1:]).all(), "what a lower rate prunes, a higher one prunes too"


@pytest.mark.parametrize("rate", [-0.1, 1.01, float("nan")])
def test_rates_outside_the_unit_interval_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rates="):
        keep(torch.zeros(1, 4), [rate])


def test_a_mask_of_another_shape_is_refused() -> None:
    wrong = torch.ones(2, 1, 9, dtype=torch.bool)
    with pytest.raises(ConfigError, match="kept="):
        evaluate_pruned(ENSEMBLE.params, ENSEMBLE.patterns, [1, 5], [all_tasks(4)] * 2, TEST, wrong)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tasks", [all_tasks(4)], "tasks=1: must be one entry per seed, 2"),
        ("tasks", [((0, 9),)] * 2, "tasks"),
        ("seeds", [1], "params=2: must be one entry per seed, 1"),
    ],
)
def test_pruned_evaluation_refuses_what_is_not_one_entry_a_member(name: str, value: object, message: str) -> None:
    given = {"seeds": [1, 5], "tasks": [all_tasks(4)] * 2, name: value}
    with pytest.raises(ConfigError, match=f"^{message}"):
        evaluate_pruned(
            ENSEMBLE.params, ENSEMBLE.patterns, prompts=PromptConfig(n_context=6), n_prompts=5,
            kept=torch.ones(2, 1, 10, dtype=torch.bool), **given,
        )  # fmt: skip


def test_a_member_that_is_not_finite_has_no_pruned_error() -> None:
    broken = ENSEMBLE.params._replace(a=ENSEMBLE.params.a * torch.tensor([[1.0], [torch.nan]]))
    with pytest.raises(NonFinite, match="^member 1, seed 5: outputs are not finite$"):
        evaluate_pruned(
            broken, ENSEMBLE.patterns, [1, 5], [all_tasks(4)] * 2, PromptConfig(n_context=6),
            torch.ones(2, 1, 10, dtype=torch.bool), 5,
        )  # fmt: skip
