"""Runs that are followed: a curve is the evaluation at each step; of members that diverge, the others are what they are alone."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.softmax.curves import EVALUATED, complete, learning_curve, outcomes, survivors
from icl_lib.softmax.deep import DeepConfig, train_deep
from icl_lib.softmax.descent import Ensemble
from icl_lib.softmax.evaluation import evaluate
from icl_lib.softmax.prompts import PromptConfig
from icl_lib.softmax.stack import StackConfig
from icl_lib.softmax.tasks import uniform_cover
from icl_lib.softmax.training import TrainConfig, train
from icl_lib.stats import mean_interval
from icl_lib.validate import ConfigError

CALM = [TrainConfig(uniform_cover(6, 3, seed), seed=seed, n_steps=6, batch_size=16) for seed in range(4)]


def test_those_that_are_left_are_what_they_are_alone() -> None:
    mixed = [replace(c, step_size=1e6) if c.seed in (1, 2) else c for c in CALM]
    left, fate = survivors(train, mixed)
    assert left is not None and left.seeds == [0, 3]
    assert fate["seed"].tolist() == [0, 1, 2, 3] and fate["diverged"].tolist() == [False, True, True, False]
    assert (fate.loc[[0, 3], "step"] == 6).all() and (fate.loc[[1, 2], "step"] < 6).all()
    for place, config in enumerate((mixed[0], mixed[3])):
        alone = train([config])
        assert torch.equal(left.params.w_o[place], alone.params.w_o[0])


def test_nobody_or_everybody_diverges() -> None:
    left, fate = survivors(train, CALM)
    assert left is not None and torch.equal(left.losses, train(CALM).losses) and not fate["diverged"].any()
    left, fate = survivors(train, [replace(c, step_size=1e6) for c in CALM])
    assert left is None and fate["diverged"].all()
    with pytest.raises(ConfigError, match="configs"):
        survivors(train, [])


def test_what_is_measured_keeps_a_row_for_every_member() -> None:
    def last_loss(ensemble: Ensemble) -> pd.DataFrame:
        return pd.DataFrame({"seed": ensemble.seeds, "loss": ensemble.losses[:, -1]})

    mixed = [replace(c, step_size=1e6) if c.seed in (0, 2) else c for c in CALM]
    found, calm = outcomes(train, mixed, last_loss), outcomes(train, CALM, last_loss)
    assert found["seed"].tolist() == [0, 1, 2, 3] and found["loss"].isna().tolist() == [True, False, True, False]
    assert found.loc[[1, 3]].equals(calm.loc[[1, 3]])
    with pytest.raises(ConfigError):  # nothing is concluded from the others in silence
        mean_interval(found["loss"])
    lost = outcomes(train, [replace(c, step_size=1e6) for c in CALM], last_loss, ["loss"])
    assert lost["diverged"].all() and lost["loss"].isna().all()


def test_the_columns_where_nobody_is_left_are_those_of_evaluate() -> None:
    found = evaluate(train(CALM), [c.tasks for c in CALM], CALM[0].prompts, 10)
    assert set(found.columns) == {"member", "seed", *EVALUATED}


def test_only_settings_at_which_nobody_diverged_are_complete() -> None:
    table = pd.DataFrame({"x": [1, 1, 2, 2], "diverged": [False, True, False, False]})
    assert complete(table, ["x"])["x"].tolist() == [2, 2] and complete(table[:1], ["x"])["x"].tolist() == [1]


def test_deep_networks_too() -> None:
    sgd = {"optimiser": "sgd", "step_size": 0.1, "n_steps": 4, "batch_size": 8, "model": StackConfig(depth=2, m=10)}
    calm = [DeepConfig(c.tasks, c.seed, **sgd) for c in CALM[:2]]
    left, fate = survivors(train_deep, [calm[0], replace(calm[1], step_size=1e6)])
    assert left is not None and left.seeds == [0] and fate["diverged"].tolist() == [False, True]


def test_divergence_names_all_members_of_its_step() -> None:
    with pytest.raises(Diverged, match="member 1, seed 1") as caught:
        train([CALM[0], *(replace(c, step_size=1e6) for c in CALM[1:])])
    assert caught.value.members == (1, 2, 3) and caught.value.step > 0


def test_a_learning_curve_is_the_evaluation_at_each_step() -> None:
    configs = [TrainConfig(uniform_cover(6, 3, 0), batch_size=16, step_size=20.0, n_steps=44)]
    tasks, rule = [configs[0].tasks], PromptConfig(n_context=10)
    table = learning_curve(configs, tasks, rule, every=20, n_prompts=2_000)
    assert table["step"].tolist() == [0, 20, 40, 44]
    last = evaluate(train(configs), tasks, rule, 2_000)
    pd.testing.assert_frame_equal(table.iloc[[-1]].drop(columns="step").reset_index(drop=True), last)
