"""Slack: factors and distances, and that Q2's record follows from the tables that are committed now."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from icl_lib.stats import Interval, mean_interval
from icl_lib.validate import ConfigError
from studies import Q2 as tight


@pytest.mark.parametrize("clause", ["exponents", "curvature", "birth_death", "prompts"])
def test_the_record_is_what_the_committed_tables_say(clause):
    recorded = json.loads(Path("figures/Q2/result.json").read_text())["clauses"][clause]
    now = tight.clauses()[clause]
    for name, interval in (("value", now.value), ("control", now.control)):
        assert interval._asdict() == pytest.approx(recorded[name], rel=1e-6), "Q2 is stale: record it again"


def test_the_drawn_slacks_are_what_the_committed_tables_say():
    drawn = pd.read_csv("figures/Q2/slack.csv").set_index("quantity")
    assert drawn.loc["β: exponent of the steps T", "estimate"] == pytest.approx(
        tight.over_range(tight.step_exponent("β"), -2 / 3, tight.steps("β").columns).estimate, rel=1e-5
    )
    assert drawn.loc["k: bound over |Lⁿ − L|, growth from 2 to 16", "estimate"] == pytest.approx(
        tight.growth_with_outputs().estimate, rel=1e-5
    )


@pytest.mark.parametrize("axis", tight.AXES)
def test_the_exponents_are_those_that_l2_recorded(axis):
    recorded = tight.recorded_clause("L2", tight.AXES[axis].clause).value
    assert tight.step_exponent(axis) == pytest.approx(recorded, rel=1e-9)


def test_the_smallest_curvature_is_above_the_bound_where_k3_found_points():
    """Proven there, for the smallest reading of R1²; what K3's clause on it recorded until 2026-12-01 is still what its table says."""
    table = tight.recorded("K3", "saddles")
    found = table[(table["reading"] == tight.SMALLEST) & (table["where"] == "found")]
    least = mean_interval(found.groupby("seed")["ratio"].min())
    assert least == pytest.approx((2.025587, 1.990252, 2.060923, 10), rel=1e-4) and least.low > 1 - 1e-9


def test_the_largest_reading_has_the_largest_ratio_at_every_saddle():
    table = tight.recorded("K3", "saddles")
    table = table[table["where"] == "constructed"]
    assert tight.homotopy(largest=True).estimate >= max(
        tight.typical(table[table["reading"] == reading], "ratio").estimate for reading in tight.LARGEST
    )


def test_widening_gives_the_interval_at_that_level():
    values = np.random.default_rng(0).normal(size=12)
    assert tight.widened(mean_interval(values), 0.99) == pytest.approx(mean_interval(values, 0.99))


def test_ten_times_the_contexts_give_a_slack_larger_by_the_root_of_ten():
    near, far = (tight.prompts(n, sampled=False) for n in (1000, 10_000))
    assert far.estimate - near.estimate == pytest.approx(0.5)
    assert tight.prompts(1000).estimate == pytest.approx(near.estimate, abs=0.01)  # drawn prompts and the exact law


def test_the_deviation_on_prompts_falls_like_its_variance():
    for measure in ("random start", "near the teacher"):
        assert tight.prompt_exponent(measure).estimate == pytest.approx(-1, abs=0.02)


def test_enough_asks_for_all_larger_settings_too():
    rows = [(0, 2, 0.5), (0, 4, 0.0), (0, 8, 0.3), (0, 16, 0.1), (1, 2, 0.0), (1, 4, 0.0), (1, 8, 0.0), (1, 16, 0.0)]
    table = pd.DataFrame(rows, columns=["seed", "size", "loss"])
    assert tight.enough(table, "size", "loss", 0.1).to_dict() == {0: 16.0, 1: 2.0}
    with pytest.raises(ConfigError, match="seed 0"):
        tight.enough(table, "size", "loss", 0.05)


def test_typical_takes_the_median_of_a_seed():
    table = pd.DataFrame({"seed": [0, 0, 0, 1, 1], "ratio": [1.0, 10.0, 1e6, 1000.0, np.nan]})
    assert tight.typical(table, "ratio").estimate == pytest.approx(2.0)


def test_what_was_not_recorded_is_refused_by_name():
    with pytest.raises(ConfigError, match="threshold"):
        tight.steps("α", 0.15)
    with pytest.raises(ConfigError, match="n"):
        tight.prompts(77)
    with pytest.raises(ConfigError, match="clause"):
        tight.recorded_clause("L2", "gamma")
    with pytest.raises(ConfigError, match="above 0"):
        tight.inverse(Interval(1.0, -0.1, 2.0, 10))
