"""The one error style: field, value, what is allowed."""

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from icl_lib.validate import ConfigError, memory, require, require_choice, require_integer, require_number


def test_message_names_field_value_and_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^alpha=1\.5: must be in \[0, 1\]$"):
        require(False, "alpha", 1.5, "in [0, 1]")
    require(True, "alpha", 0.5, "in [0, 1]")


ODD = [10**400, Fraction(1, 2), np.array([0.1, 0.2]), np.bool_(True), 1j, "0.5", None, True]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1, *ODD])
def test_number_refuses(value: object) -> None:
    with pytest.raises(ConfigError, match=r"alpha=.*must be a finite number in \[0, 1\]"):
        require_number("alpha", value, 0, 1)


@pytest.mark.parametrize("value", [*ODD])
def test_infinity_passes_only_where_it_may(value: object) -> None:
    require_number("cap", math.inf, 1, or_infinity=True)
    for bad in (-math.inf, math.nan, 0.5, value):
        with pytest.raises(ConfigError, match=r"cap=.*must be a finite number >= 1, or infinity$"):
            require_number("cap", bad, 1, or_infinity=True)


@pytest.mark.parametrize("value", [2, 4.0, True, "4", None, np.float64(4), Fraction(4)])
def test_integer_refuses(value: object) -> None:
    with pytest.raises(ConfigError, match="n_idr=.*must be an integer >= 3"):
        require_integer("n_idr", value, 3)


def test_accepts_numpy_scalars_and_own_wording() -> None:
    require_number("alpha", np.float32(0.5), 0, 1)
    require_integer("n_idr", np.int64(3), 3)
    with pytest.raises(ConfigError, match="beta=0: must be positive"):
        require_number("beta", 0, low=1e-300, allowed="positive")
    with pytest.raises(ConfigError, match="must be a finite number$"):
        require_number("x", float("nan"))
    with pytest.raises(ConfigError, match="must be a finite number <= 1$"):
        require_number("x", 2, high=1)


def test_choice() -> None:
    require_choice("reading", "exact", ("independent", "exact"))
    with pytest.raises(ConfigError, match="reading='both': must be one of 'independent', 'exact'"):
        require_choice("reading", "both", ("independent", "exact"))


@pytest.mark.parametrize(("limit", "has"), [("1048576\n", 2**20), ("max\n", None), ("", None)])
def test_a_container_may_have_less_memory_than_the_machine(tmp_path: Path, limit: str, has: int | None) -> None:
    file = tmp_path / "memory.max"
    file.write_text(limit, encoding="utf-8")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory((str(file), str(tmp_path / "none"))) == (has or machine)
