"""What somebody put into a sweep's folder is never lost, and what is shown is about all that is there."""

import csv
import json
import re
from pathlib import Path

import pytest

from book import sweep
from book.gather import gather, setting
from book.registry import find
from icl_lib.validate import ConfigError
from tests.book.toy import environment, finished, icl, make_book


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_book(tmp_path_factory.mktemp("kept") / "book")


def planned(book: Path, out: Path, grid: str, done: bool = True) -> sweep.Plan:
    plan = sweep.plan(find("T1", book), [grid], {}, None, out)
    if done:
        finished(plan)
        sweep._register(plan)
    return plan


def mine(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir() if file.is_file() and "MINE" in file.read_text(errors="replace")]


@pytest.mark.parametrize("folder", ["points", "locks"])
@pytest.mark.parametrize("name", ["table.csv", "figure.png", "report.html"])
def test_a_folder_that_looks_like_a_sweeps_is_refused(book: Path, tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / name).write_text("MINE")
    with pytest.raises(ConfigError, match=f"^out=.*: must be another folder: this is no sweep's, and {name} is in it$"):
        planned(book, tmp_path, "alpha=0.25,0.5", done=False)
    assert mine(tmp_path) == [name]


def test_a_sweeps_file_that_is_none_is_refused_before_anything_is_made(book: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("MINE")
    with pytest.raises(ConfigError, match="^file=.*sweep.json.*: must be as a sweep wrote it"):
        planned(book, tmp_path, "alpha=0.25,0.5", done=False)
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("stamp", ["gone", "truncated"])
@pytest.mark.parametrize("name", ["table.csv", "figure.svg"])
def test_a_changed_table_is_kept_where_nothing_says_what_was_written(
    book: Path, tmp_path: Path, stamp: str, name: str
) -> None:
    plan = planned(book, tmp_path, "alpha=0.25,0.5")
    found = sweep.state(plan.folder, plan.jobs)
    gather(plan.folder, found)
    (tmp_path / name).write_text("MINE")
    (tmp_path / "table.json").unlink() if stamp == "gone" else (tmp_path / "table.json").write_text('{"res')
    with pytest.warns(UserWarning, match="is not as it was written; it is kept as"):
        gather(plan.folder, found)
    assert mine(tmp_path) == [f"changed-{name}"] and "alpha" in (tmp_path / "table.csv").read_text()


def test_a_table_is_about_all_grids_of_a_folder(book: Path, tmp_path: Path) -> None:
    """Also where a script gathers what it has asked for itself."""
    for grid in ("alpha=0.25,0.5", "alpha=0.75,1"):
        plan = planned(book, tmp_path, grid)
        gather(plan.folder, sweep.state(plan.folder, plan.jobs))
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as rows:
        assert [row["alpha"] for row in csv.DictReader(rows)][::2] == ["0.25", "0.5", "0.75", "1.0"]


def test_points_that_failed_are_among_what_varied(book: Path, tmp_path: Path) -> None:
    plan = planned(book, tmp_path, "alpha=0.5")
    gather(plan.folder, sweep.state(plan.folder, plan.jobs))
    assert "alpha" not in (tmp_path / "table.csv").read_text()
    sweep._register(planned(book, tmp_path, "alpha=0.5,0.75", done=False))
    gather(plan.folder, sweep.state(plan.folder, plan.jobs))
    assert (tmp_path / "table.csv").read_text().startswith("alpha,clause")


def test_a_single_point_is_not_called_the_books(book: Path, tmp_path: Path) -> None:
    (job,) = planned(book, tmp_path, "alpha=0.75", done=False).jobs
    assert setting(job, []) == "the shared setting" and setting(job, ["alpha"]) == "alpha = 0.75"


@pytest.mark.parametrize("points", [[{"alpha": 0.5}, {"beta": 1}], [{"alpha": 0.5}, {"alpha": 0.5, "beta": 1}]])
def test_points_of_several_kinds_are_no_sweep(book: Path, tmp_path: Path, points: list) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"chapter": "T1", "code": "x", "points": points}))
    for command in ("status", "report"):
        done = icl(book, command, tmp_path)
        assert done.returncode == 2 and "must be as a sweep wrote it" in done.stderr, done.stderr


def test_a_point_twice_is_one(tmp_path: Path, book: Path) -> None:
    point = {"alpha": 0.5}
    (tmp_path / "sweep.json").write_text(json.dumps({"chapter": "T1", "code": "x", "points": [point, point]}))
    assert len(sweep.known_jobs(tmp_path, book)[1]) == 1


def test_a_text_is_a_text_on_its_page(book: Path, tmp_path: Path) -> None:
    value = "<b>x</b> $x^2$ <script>alert(1)</script> *y* [a](b)"
    done = icl(book, "run", "T1", "-p", f"shape={value}", "--out", tmp_path / "run")
    page = (tmp_path / "run/T1_toy.html").read_text(encoding="utf-8")
    assert done.returncode == 0 and "<script>alert" not in page and "<b>x</b>" not in page
    assert "<code>&lt;b&gt;x&lt;/b&gt; $x^2$ &lt;script&gt;" in page  # no formula is made in code


@pytest.mark.parametrize(
    "grid", ["beta=1:3:2,4", "alpha=0.1:1:3j", "alpha=[1]:1:3", "shape=a,b,", "alpha=1e-400", "alpha=0.5,1e-400"]
)
def test_grids_that_say_nothing_clear(book: Path, tmp_path: Path, grid: str) -> None:
    name = grid.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{name}='"):
        planned(book, tmp_path, grid, done=False)


def test_minus_zero_is_zero(book: Path, tmp_path: Path) -> None:
    assert len(planned(book, tmp_path, "alpha=-0.0,0.0,0", done=False).jobs) == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("claims.yml", b"T1: \xff", "claims.yml.*must be YAML in UTF-8"),
        ("claims.yml", b"T1: \x00", "claims.yml.*must be YAML in UTF-8"),
        ("claims.yml", b"- T1", "claims.yml.*must be a mapping from claims"),
        ("chapters/parameters.yml", b"- T1", "parameters.yml.*must be for each chapter a mapping"),
        ("chapters/parameters.yml", b"toy/T1_toy: {alpha: 1}", "parameters.yml.*must be for each chapter a mapping"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    book = make_book(tmp_path / "book")
    (book / file).write_bytes(content)
    done = icl(book, "list")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr


def test_half_of_a_built_notebook_does_not_stop_the_list(tmp_path: Path) -> None:
    book = make_book(tmp_path / "book")
    built = book / "_build/book/run/chapters/toy/T1_toy.ipynb"
    built.parent.mkdir(parents=True)
    built.write_text('{"cells": [')
    done = icl(book, "list")
    assert done.returncode == 0 and "T1" in done.stdout


def test_a_cache_that_is_a_file_is_refused_before_the_run(book: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    done = icl(
        book, "run", "T1", "--out", tmp_path / "run", env=environment() | {"ICL_BOOK_CACHE": str(tmp_path / "cache")}
    )
    assert done.returncode == 2 and "ICL_BOOK_CACHE=" in done.stderr and "a folder, for trained models" in done.stderr
