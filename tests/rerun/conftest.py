"""A small book of its own for every test."""

from pathlib import Path

import pytest

from tests.rerun.toy import make_book


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return make_book(tmp_path / "book")
