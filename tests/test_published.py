"""Published curves: what is there, and how ours are compared with them."""

import numpy as np
import pandas as pd
import pytest

from icl_lib.published import distance, held_out_curves, log_ratio, published_curves
from icl_lib.validate import ConfigError


def test_the_held_out_figure_has_the_series_of_the_other_one() -> None:
    held_out, known = held_out_curves(), published_curves("icl_vs_classical_alpha0.8")
    assert list(held_out) == list(known) == ["series", "x", "error"]
    assert set(held_out["series"]) == set(known["series"]) and len(held_out) == 48
    assert held_out["error"].between(0, 0.5, inclusive="neither").all()
    # fewer contexts of the task's patterns: no learner gets better
    both = held_out.merge(known, on=["series", "x"], suffixes=("_06", "_08"))
    assert (both["error_06"] > both["error_08"]).mean() > 0.9


def test_log_ratio_is_of_clipped_errors() -> None:
    found = log_ratio([0.02, 0.0, 0.001], [0.01, 0.001, 0.0001], clip=0.001)
    assert found == pytest.approx([np.log(2), 0, 0])
    with pytest.raises(ConfigError, match="ours=0.0: must be positive"):
        log_ratio([0.0], [0.1])


def test_distance_is_over_common_points() -> None:
    paper = pd.DataFrame({"series": ["a", "a", "b"], "x": [2, 4, 2], "error": [0.1, 0.2, 0.3]})
    rows = [(s, "a", x, f * e) for s in range(4) for x, e, f in ((2, 0.1, 2.0), (4, 0.2, 0.5), (6, 0.3, 9.0))]
    ours = pd.DataFrame(rows, columns=["seed", "series", "x", "error"])
    found = distance(ours, paper)
    assert found == pytest.approx((np.log(2), np.log(2), np.log(2), 4))
    spread = ours.assign(error=ours["error"] * (1 + 0.1 * (ours["seed"] - 1.5)))
    assert distance(spread, paper).low < np.log(2) < distance(spread, paper).high
    with pytest.raises(ConfigError, match="published x"):
        distance(ours[ours["x"] == 6], paper)
