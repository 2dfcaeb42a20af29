"""Extremes over settings; shares of seeds: the t interval in general, an exact bound when all seeds agree."""

import numpy as np
import pandas as pd
import pytest

from icl_lib.stats import mean_interval
from icl_lib.summary import hinge_interval, least, seed_interval, share_interval, summarise, worst
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


def test_no_seed_at_all_is_refused() -> None:
    """No seed with a lucky neuron was a division by zero."""
    with pytest.raises(ConfigError, match=r"shares=\[\]: must be one share per seed"):
        share_interval([])


def test_of_no_row_there_is_no_setting_and_it_can_be_drawn() -> None:
    table = pd.DataFrame({"x": [1.0], "seed": [0], "steps": [3.0]})
    found = summarise(table[table["x"] > 1], ["x"], "steps")
    assert found.empty and {*found.dtypes.iloc[:4].astype(str)} == {"float64"}


def test_smallest_and_largest_of_several_means() -> None:
    table = pd.DataFrame({"estimate": [0.2, 0.5], "low": [0.1, 0.05], "high": [0.9, 0.6], "n": [10, 12]})
    assert least(table) == (0.2, 0.05, 0.6, 10)
    assert worst(table) == (0.5, 0.1, 0.9, 10)


def test_intervals_that_hold_together_are_wider() -> None:
    """Bonferroni: each of three at 1 - 0.05 / 3."""
    values = [0.1, 0.3, 0.2, 0.6]
    table = pd.DataFrame({"x": [1, 2, 3] * 4, "seed": np.repeat(range(4), 3), "margin": np.repeat(values, 3)})
    for together, level in ((False, 0.95), (True, 1 - 0.05 / 3)):
        found = summarise(table, ["x"], "margin", together)
        assert found["low"].tolist() == pytest.approx([mean_interval(values, level).low] * 3)
        assert found["high"].tolist() == pytest.approx([mean_interval(values, level).high] * 3)


def test_no_hinge_loss_seen_is_bounded_by_the_largest_one_possible() -> None:
    """A prompt loses at most 1 + |F|, and happens with at most the exact probability of one seed's prompts."""
    table = pd.DataFrame(
        {"n_lossy": [0, 0], "n_prompts": [1000, 1000], "largest_output": [2.0, 3.0], "hinge": [0.0, 0.0]}
    )
    found = hinge_interval(table)
    assert found[:2] == (0, 0)
    assert found.high == pytest.approx((1 - 0.025 ** (1 / 1000)) * (1 + 3.0), rel=1e-6)
    seen = hinge_interval(table.assign(n_lossy=[0, 1], hinge=[0.0, 0.001]))
    assert seen == mean_interval([0.0, 0.001])


@pytest.mark.parametrize(("value", "missing"), [("error", "n_errors"), ("hinge", "hinge"), ("margin", "margin")])
def test_a_table_without_counts_is_refused(value: str, missing: str) -> None:
    table = pd.DataFrame({"seed": [0, 1], "n_prompts": [10, 10], "error": [0.1, 0.2]})
    with pytest.raises(ConfigError, match=f"must be with a column {missing}$"):
        seed_interval(table, value)
