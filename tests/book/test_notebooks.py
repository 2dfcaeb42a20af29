"""Files below ``chapters/`` that are no chapters stop no command; one that cannot be read is named."""

import json
import shutil
import warnings
from pathlib import Path

import pytest

from book import cli
from book.notebooks import chapter_files, read_cells
from book.registry import chapters, find
from icl_lib.validate import ConfigError
from tests.book.toy import make_book

MERGE = '{\n "cells": [\n<<<<<<< HEAD\n  {}\n=======\n>>>>>>> theirs\n'


@pytest.fixture
def cluttered(tmp_path: Path) -> Path:
    """A book with Jupyter's copy of its chapter, a checkpoint, and what macOS leaves on other file systems."""
    book = make_book(tmp_path / "book")
    chapter = book / "chapters/toy/T1_toy.ipynb"
    (chapter.parent / ".ipynb_checkpoints").mkdir()
    for name in ("T1_toy-Copy1.ipynb", ".ipynb_checkpoints/T1_toy-checkpoint.ipynb"):
        shutil.copyfile(chapter, chapter.parent / name)
    (chapter.parent / "._T1_toy.ipynb").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X\xff")
    return book


def test_what_is_no_chapter_is_left_out(cluttered: Path) -> None:
    (chapter,) = chapters(cluttered)
    assert chapter_files(cluttered) == [chapter.notebook]
    assert find("T1", cluttered) == find("t1_toy", cluttered) == chapter


def test_a_chapter_with_merge_markers_is_named_and_stops_no_other(
    cluttered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cluttered)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    broken = cluttered / "chapters/toy/T2_other.ipynb"
    broken.write_text(MERGE)
    says = f"icl: notebook={str(broken)!r}: must be a notebook, there are merge markers in line 3"
    for arguments, status, complaint in (
        (["list"], 0, [f"{says}; it is left out"]),
        (["list", "T1"], 0, []),
        (["list", "T2_other"], 2, [says]),
    ):
        assert cli.main(arguments) == status
        out, err = capsys.readouterr()
        assert err.splitlines() == complaint and ("T1 " in out) == (status == 0)


def test_a_ledger_with_merge_markers_is_named(
    cluttered: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cluttered)
    for file in (cluttered / "chapters/parameters.yml", cluttered / "claims.yml"):
        file.write_text(f"<<<<<<< HEAD\n{file.read_text()}=======\n>>>>>>> theirs\n")
        assert cli.main(["list"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"icl: file={str(file)!r}: must be YAML; line 2: ")


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 1}', '{"cells": [{"source": "x"}]}', "\0", MERGE])
def test_no_notebook_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.ipynb").write_text(text)
    with pytest.raises(ConfigError, match=r"notebook='.*x\.ipynb': must be a notebook"):
        read_cells(tmp_path / "x.ipynb")
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": []}))
    assert read_cells(tmp_path / "x.ipynb") == []
