"""TODO: what would go wrong first."""

import pytest

from icl_lib.validate import ConfigError
from studies.Q10 import measure


def test_a_case_that_can_be_computed_by_hand() -> None:
    table = measure([0, 1], 1000, shift=5.0)
    assert set(table["seed"]) == {0, 1} and table["value"].to_numpy() == pytest.approx(5, abs=0.5)


def test_a_bad_value_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="^n_draws=1: must be"):
        measure([0], 1)
