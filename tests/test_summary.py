"""Extremes over settings; shares of seeds: the t interval in general, an exact bound when all seeds agree."""

import numpy as np
import pandas as pd
import pytest

from icl_lib.stats import mean_interval
from icl_lib.summary import least, share_interval, worst
from icl_lib.validate import ConfigError


def test_all_seeds_at_one_give_the_exact_bound() -> None:
    found = share_interval([1.0] * 100)
    assert (found.estimate, found.high, found.n) == (1.0, 1.0, 100)
    # the largest failure probability f under which no failure in 100 has at least the tail's 2.5 %
    assert (found.low) ** 100 == pytest.approx(0.025, rel=1e-9)


def test_otherwise_the_t_interval_within_zero_and_one() -> None:
    shares = [1.0, 0.9, 1.0, 1.0]
    found, plain = share_interval(shares), mean_interval(shares)
    assert found.estimate == plain.estimate and found.low == plain.low
    assert plain.high > 1 and found.high == 1.0


@pytest.mark.parametrize("bad", [[1.1, 0.5], [-0.1, 0.5], [np.nan, 0.5]])
def test_shares_outside_the_unit_interval_are_refused(bad: list[float]) -> None:
    with pytest.raises(ConfigError, match="shares="):
        share_interval(bad)


def test_smallest_and_largest_of_several_means() -> None:
    table = pd.DataFrame({"estimate": [0.2, 0.5], "low": [0.1, 0.05], "high": [0.9, 0.6], "n": [10, 12]})
    assert least(table) == (0.2, 0.05, 0.6, 10)
    assert worst(table) == (0.5, 0.1, 0.9, 10)
