"""The picture on the front page: every entry of the ledger once, in the column and with the verdict that the ledger gives."""

import json
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from book.claims import COLUMNS, load_claims
from book.scoreboard import standing
from book.tiles import held, summary, tiles
from icl_lib.paths import read_yaml, root
from icl_lib.validate import ConfigError

CLAIMS = load_claims()


def test_every_entry_has_a_tile() -> None:
    """``tile`` in its entry of claims.yml: a column and at most five words."""
    assert [name for name, claim in CLAIMS.items() if claim.tile is None] == []


def test_tiles_are_the_ledger() -> None:
    columns = BeautifulSoup(tiles(), "html.parser").select(".tile-column")
    assert [column.h3.text for column in columns if column.h3] == list(COLUMNS.values())
    seen = []
    for column, key in zip(columns, COLUMNS, strict=True):
        for tile in column.select(".tile"):
            claim = CLAIMS[str(tile["data-claim"])]
            verdict, clauses = standing(claim)
            assert claim.tile and claim.tile.column == key and claim.tile.words in tile.text
            assert tile["data-verdict"] == verdict and [i["data-verdict"] for i in tile.select("i")] == [
                *clauses.values()
            ]
            assert not clauses or (tile.a and tile.a["href"] == f"{claim.chapter}.html")
            seen.append(claim.id)
    assert sorted(seen) == sorted(CLAIMS)


def test_the_sentence_says_what_the_tiles_show() -> None:
    """Its words, more often, are right for the numbers of today; else they have to change."""
    (ends, n_ends), (costs, n_costs) = (held(column, own=False) for column in COLUMNS)
    assert f"({ends} of {n_ends} claims" in summary() and f"({costs} of {n_costs})" in summary()
    assert ends / n_ends > costs / n_costs


@pytest.mark.parametrize(
    "tile",
    [
        {"column": "ends"},
        {"column": "middle", "words": "x"},
        {"column": "ends", "words": "one two three four five six"},
        {"column": "ends", "words": " "},
        {"column": "ends", "words": "x", "more": 1},
        "ends",
    ],
)
def test_a_tile_that_is_none_is_refused(tmp_path: Path, tile: object) -> None:
    ledger = {"L1": {**read_yaml(root() / "claims.yml")["L1"], "tile": tile}}
    (tmp_path / "claims.yml").write_text(json.dumps(ledger), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^L1\.tile="):
        load_claims(tmp_path)
