"""Where runs end: exact losses against held-out prompts, bounds that must hold, and the oracle of fewer features."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from icl_lib.mean_field.learners import final_losses, held_out, known
from icl_lib.mean_field.measure import InitConfig, TeacherConfig
from icl_lib.mean_field.prompts import PromptConfig
from icl_lib.mean_field.training import TrainConfig, train
from icl_lib.rng import generator
from icl_lib.validate import ConfigError
from studies.K10 import known_part

D, K = 3, 2


def config(seed: int, mode: str = "joint") -> TrainConfig:
    return TrainConfig(
        mode=mode,
        teacher=TeacherConfig("nonlinear", 8, D, K, 3.0, (1.0, 1.0), seed),
        start=InitConfig("aligned", 24, D, K, 2.0, seed),
        prompts=PromptConfig(n_context=50, n_query=16),
        seed=seed,
        n_prompts=400,
        batch=40,
        max_epochs=12,
    )


X = torch.randn(20_000, D, generator=generator(0, "inputs"))
SEEDS = (1000, 1001)


@pytest.fixture(scope="module")
def run():  # type: ignore[no-untyped-def]
    return train([config(seed) for seed in SEEDS], 10**6)


def test_agrees_with_held_out_prompts(run) -> None:  # type: ignore[no-untyped-def]
    found = final_losses(run, X)
    sampled = held_out(run.configs, run.model, n_prompts=2000)
    for name, learner in (("loss", "model"), ("oracle", "attention on f°")):
        part = sampled[sampled["learner"] == learner].set_index("seed")
        assert ((part["loss"] - found[name]).abs() < 5 * part["error"]).all(), name
    assert list(found.index) == list(SEEDS)


def test_bounds(run) -> None:  # type: ignore[no-untyped-def]
    found = final_losses(run, X)
    assert (found["oracle"] < found["loss"]).all() and (found["loss"] < found["floor"]).all()
    assert (found["floor"] <= found["raw"] + 1e-12).all() and (found["untrained"] <= found["zero"]).all()
    np.testing.assert_allclose(found["zero"], K / 2)  # C = 1
    np.testing.assert_allclose(found["gap"], (found["loss"] - found["oracle"]) / (found["floor"] - found["oracle"]))


def test_fewer_known_features(run) -> None:  # type: ignore[no-untyped-def]
    """All of them are the oracle; each one missing of C = 1 costs at least its 1/2."""
    found = final_losses(run, X)
    np.testing.assert_allclose(known_part(run, K, X), found["oracle"])
    one = known_part(run, 1, X)
    assert (one > 0.5).all() and (one < 0.5 + 2 * found["oracle"]).all()
    with pytest.raises(ConfigError, match="k=3"):
        known_part(run, 3, X)


def test_refuses_unlike_members_and_softmax(run) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="differ in their seeds only"):
        final_losses(run._replace(configs=(config(1000), config(1001, "static"))), X)
    soft = [replace(c, mode="softmax") for c in run.configs]
    with pytest.raises(ConfigError, match="linear attention"):
        final_losses(run._replace(configs=tuple(soft)), X)
    assert known(run).a.shape == (2, 8, K)
