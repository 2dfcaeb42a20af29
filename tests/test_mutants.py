"""The bugs of `make mutants`: all can still be planted, all were caught. Here none is."""

import re
from pathlib import Path

import pytest

from icl_lib.validate import ConfigError
from tools import mutants

MUTANTS = mutants.load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_still_applies(mutant: mutants.Mutant) -> None:
    """The text is there exactly once, and what comes out is Python."""
    compile(mutant.planted(Path(mutant.file).read_text()), mutant.file, "exec")


def test_the_table_has_every_bug_and_what_caught_it() -> None:
    table = mutants.read_table()
    assert table == [m.row(row["caught_by"]) for m, row in zip(MUTANTS, table, strict=True)]
    assert [row["name"] for row in table if not row["caught_by"]] == []
    for row in table:
        file, *_, test = row["caught_by"].split("::")
        assert re.search(rf"^\s*def {test}\(", Path(file).read_text(), re.M), row["caught_by"]


def test_only_what_is_there_once_can_be_replaced() -> None:
    mutant = mutants.Mutant("x", "icl_lib/rng.py", "seed", "step", "", [])
    assert mutant.planted("a seed") == "a step"
    for text in ("seed, seed", "none"):
        with pytest.raises(ConfigError, match="x: old"):
            mutant.planted(text)
