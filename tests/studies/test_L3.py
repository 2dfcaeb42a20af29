"""Lengths from which an error or a floor stays low, against all lengths tried."""

import math

import pandas as pd
import pytest

from icl_lib.softmax.floors import bayes_floor, vote_floor
from icl_lib.validate import ConfigError
from studies.L3 import needed_context, shortest_from_which


@pytest.mark.parametrize("floor", [vote_floor, bayes_floor])
@pytest.mark.parametrize(("alpha", "threshold"), [(0.3, 0.05), (0.8, 0.01), (1.0, 0.3), (0.5, 0.5)])
def test_needed_context(floor, alpha: float, threshold: float) -> None:  # type: ignore[no-untyped-def]
    needed = needed_context(alpha, 6, threshold, floor)
    assert all(floor(alpha, length, 6, "independent") <= threshold for length in range(needed, needed + 15))
    assert needed == 1 or floor(alpha, needed - 1, 6, "independent") > threshold
    assert needed_context(alpha, 6, threshold, floor, "exact") == 1


def test_refuses_what_never_ends() -> None:
    with pytest.raises(ConfigError, match="threshold=0: must be in"):
        needed_context(0.5, 6, 0)
    with pytest.raises(ConfigError, match="alpha=0: must be in .*1/2 at every length"):
        needed_context(0, 6, 0.1)
    with pytest.raises(ConfigError, match="n_idr=2"):
        needed_context(0.5, 2, 0.1, reading="exact")


@pytest.mark.parametrize(
    ("errors", "length"),
    [
        ([0.3, 0.04, 0.06, 0.01], 40),
        ([0.04, 0.06, 0.05, 0.01], 20),
        ([0.05, 0.01, 0.0, 0.0], 5),
        ([0, 0, 0, 0.1], None),
    ],
)
def test_the_length_from_which_an_error_stays_low(errors: list[float], length: int | None) -> None:
    table = pd.DataFrame({"n_context": [5, 10, 20, 40], "error": errors}).sample(frac=1, random_state=0)
    found = shortest_from_which(table, "n_context", "error", threshold=0.05)
    assert found == length or (length is None and math.isnan(found))
