"""The search: the same number of trials for all, inside their ranges, and training loss alone decides."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icl_lib.mean_field.measure import InitConfig
from icl_lib.mean_field.training import TrainConfig
from icl_lib.validate import ConfigError
from studies.K10 import BATCHES, MODES, SPACE, best, configured, setting, trials
from tools import search as tool

BASE = TrainConfig(start=InitConfig(n=50))


@pytest.mark.parametrize("model", SPACE)
def test_trials_are_in_their_ranges_and_fill_them(model: str) -> None:
    found = pd.DataFrame([setting(model, trial) for trial in range(400)])
    assert set(found["batch"]) == set(BATCHES)
    for name, (low, high) in SPACE[model].items():
        assert found[name].between(low, high).all()
        share = np.log(found[name] / low) / math.log(high / low)
        assert abs(share.mean() - 0.5) < 0.05 and share.min() < 0.02 and share.max() > 0.98


def test_shared_settings_are_the_same_for_models_with_particles() -> None:
    """The same points of the shared ranges for each model: a difference between models is not one between draws."""
    for trial in range(20):
        joint, static, modified = (setting(model, trial) for model in ("joint", "static", "modified"))
        assert all(joint[name] == static[name] == modified[name] for name in static)
    assert setting("static", 0) != setting("static", 1)


@pytest.mark.parametrize("model", SPACE)
def test_configured(model: str) -> None:
    chosen = setting(model, 3)
    config = configured(model, BASE, chosen)
    assert config.mode == MODES[model] and config.batch == chosen["batch"]
    assert all(getattr(config, name) == chosen[name] for name in ("dt", "cap", "w_rate", "w_start") if name in chosen)
    assert config.start == (replace(BASE.start, size=chosen["size"]) if "size" in chosen else BASE.start)
    assert (config.modification is not None) == (model == "modified")
    if config.modification is not None and config.modification.births is not None:
        births = config.modification.births
        assert (births.rate, births.anneal_until, births.reference) == (chosen["rate"], chosen["until"], config.start)
        assert config.modification.until == chosen["until"] and config.modification.budget == chosen["budget"]
    with pytest.raises(ConfigError, match="chosen"):
        configured(model, BASE, {"batch": 25})


def test_least_training_loss_wins() -> None:
    rows = [
        {"model": m, "trial": t, **setting(m, t), "loss": loss}
        for m in SPACE
        for t, loss in enumerate((3.0, 1.0, 2.0, math.nan))
    ]
    table = pd.DataFrame(rows)
    for model in SPACE:
        assert best(table, model) == setting(model, 1)
    with pytest.raises(ConfigError, match="at least one trial of joint"):
        best(table[table["model"] != "joint"], "joint")


def test_recorded_search_is_the_one_described() -> None:
    """Every model has all its trials, with the settings that the code draws, on seeds that no chapter uses."""
    table = trials()
    assert min(tool.SEEDS) >= 1000
    for model in SPACE:
        rows = table[table["model"] == model].set_index("trial")
        assert sorted(rows.index) == list(range(tool.TRIALS))
        for trial, row in rows.iterrows():
            assert {name: row[name] for name in setting(model, trial)} == setting(model, trial)
