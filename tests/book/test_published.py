"""The page "Published and ours": every published series has a row, the worst first, and distances are of the recorded tables."""

import numpy as np
import pandas as pd
import pytest

from book.published import COLUMNS, NUMBERS, SOURCES, by_figure, distances, for_readers, known, ours
from icl_lib.published import published_mechanism


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return distances()


def test_every_published_series_and_number_has_one_row(table: pd.DataFrame) -> None:
    expected = {(figure, series) for figure in SOURCES for series in known(figure)["series"].unique()}
    numbers = published_mechanism()[["quantity", "stage"]].itertuples(index=False)
    expected |= {("mechanism", f"{quantity}, {stage}") for quantity, stage in numbers}
    assert set(zip(table["figure"], table["series"])) == expected and len(table) == len(expected)
    assert list(table) == COLUMNS
    published = set(published_mechanism()[["quantity", "stage"]].itertuples(index=False, name=None))
    assert set(NUMBERS) <= published


def test_the_worst_comes_first_and_what_is_missing_last(table: pd.DataFrame) -> None:
    found = table["estimate"].dropna().to_numpy()
    assert (np.diff(found) <= 0).all() and (found >= 0).all()
    assert table["estimate"][len(found) :].isna().all() and (table["n"][len(found) :] == 0).all()
    several = table[table["n"] > 1]
    assert ((several["low"] <= several["estimate"]) & (several["estimate"] <= several["high"])).all()
    by = by_figure(table)
    assert set(by["figure"]) == {*SOURCES, "mechanism"} and (np.diff(by["estimate"]) <= 0).all()


@pytest.mark.parametrize("figure", SOURCES)
def test_ours_has_one_row_a_seed_and_point(figure: str) -> None:
    own = ours(figure)
    assert not own.duplicated(["seed", "series", "x"]).any() and own["seed"].nunique() >= 2
    assert set(own["series"]) & set(known(figure)["series"]), "series are named as the published ones"


def test_a_number_is_compared_by_the_log_of_its_ratio(table: pd.DataFrame) -> None:
    row = table[table["series"] == "norm of W_Q p_query, epoch 400"].iloc[0]
    recorded = pd.read_csv("figures/L5/growth.csv").query(
        "matrix == 'W_Q' and model == 'trained' and step == step.max()"
    )
    assert row["estimate"] == pytest.approx(abs(np.log(recorded["norm"].mean() / 1.73)))


def test_readers_see_factors_and_what_is_not_compared(table: pd.DataFrame) -> None:
    shown = for_readers(table)
    assert (shown["how ours differs"] == table["differs"]).all()
    missing = shown[table["n"] == 0]
    assert (missing["mean |log ratio|"] == "no counterpart").all() and (missing["factor"] == "").all()
