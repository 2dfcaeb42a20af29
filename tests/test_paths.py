"""Files are written whole or not at all."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from icl_lib.paths import cache_dir, write_atomic, write_json


def test_who_has_a_file_open_never_sees_half_of_the_next(tmp_path: Path) -> None:
    """The new content is another file that takes the name; under the old one nothing changes."""
    path = tmp_path / "new" / "table.csv"
    write_atomic(path, b"old, and long enough to be read in two halves")
    with path.open("rb", buffering=0) as reader:  # nothing is read before it is asked for
        first = reader.read(4)
        write_atomic(path, b"new")
        assert first + reader.read() == b"old, and long enough to be read in two halves"
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["table.csv"]


def test_equal_contents_give_equal_files(tmp_path: Path) -> None:
    for name, content in (("a", {"x": 1, "y": "°"}), ("b", {"y": "°", "x": 1})):
        write_json(tmp_path / name, content)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_says_who_may_read(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {})
        write_atomic(tmp_path / "new/b.csv", b"x")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a.json", tmp_path / "new/b.csv")} == {mode}


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken/x").mkdir(parents=True)
    with pytest.raises(OSError):
        write_atomic(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.fixture
def unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book in which nothing can be made: `_build` is a file, which holds for root too."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book/claims.yml").write_text("{}")
    (tmp_path / "book/_build").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "book")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("ICL_BOOK_CACHE", raising=False)
    return tmp_path


def test_the_cache_can_be_moved_and_moves_where_nothing_can_be_written(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match=r"_build/cache cannot be written: trained models are kept in .*/tmp/"):
        moved = cache_dir()
    assert moved.is_dir() and moved.is_relative_to(unwritable / "tmp")
    assert stat.S_IMODE(moved.parent.stat().st_mode) == 0o700  # nobody else puts models there
    monkeypatch.setenv("ICL_BOOK_CACHE", str(unwritable / "mine"))
    assert cache_dir() == unwritable / "mine"


def test_a_temporary_folder_that_somebody_else_made_is_not_used(unwritable: Path) -> None:
    (unwritable / f"tmp/icl-book-{os.getuid()}").symlink_to(unwritable / "book")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        cache_dir()
