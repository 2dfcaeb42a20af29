"""Plateaus of a curve that has them where they were put, of one that has none, and distances to known levels."""

import numpy as np
import pandas as pd
import pytest

from icl_lib.validate import ConfigError
from studies.K4 import distance_to_levels, plateaus

TIME = np.linspace(0, 30, 301)


def table(loss: np.ndarray, member: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"member": member, "time": TIME, "loss": loss})


def test_two_steps_have_one_plateau_between_them() -> None:
    steps = 1 - 0.5 / (1 + np.exp(-2 * (TIME - 8))) - 0.4 / (1 + np.exp(-2 * (TIME - 20)))
    found = plateaus(pd.concat([table(steps), table(np.exp(-TIME / 5), 1)]))
    assert found["member"].tolist() == [0]  # an exponential slows down but never speeds up again
    assert found["time"].item() == pytest.approx(14, abs=0.3) and found["loss"].item() == pytest.approx(0.5, abs=1e-3)
    assert len(plateaus(table(steps), prominence=100.0)) == 0


def test_a_flat_stretch_is_a_plateau_and_a_flat_curve_has_none() -> None:
    flat = np.where(TIME < 10, 1 - TIME / 20, np.where(TIME < 20, 0.5, 1 - (TIME - 10) / 20))
    assert plateaus(table(flat))["loss"].tolist() == pytest.approx([0.5])
    assert len(plateaus(table(np.ones_like(TIME)))) == 0


def test_distances_to_the_levels() -> None:
    found = distance_to_levels(np.array([0.8, 0.31, 0.0]), (1.0, 0.6))
    assert found == pytest.approx([0.0, 0.01, 0.3])


def test_refused() -> None:
    with pytest.raises(ConfigError, match="history"):
        plateaus(pd.DataFrame({"time": [0.0], "loss": [1.0]}))
    with pytest.raises(ConfigError, match="prominence"):
        plateaus(table(TIME), prominence=-1.0)
