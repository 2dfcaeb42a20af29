"""A small book of its own for every test."""

from pathlib import Path

import pytest

from tests.book.toy import GRID, icl, make_book


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return make_book(tmp_path / "book")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One book for many sweeps, each in a folder of its own."""
    return make_book(tmp_path_factory.mktemp("shared") / "book")


@pytest.fixture(scope="session")
def uninterrupted(shared: Path) -> str:
    """The table of a sweep that nothing happened to."""
    done = icl(shared, "sweep", "T1", *GRID, "--jobs", 2, "--out", shared / "plain")
    assert done.returncode == 0, done.stderr
    return (shared / "plain/table.csv").read_text(encoding="utf-8")
