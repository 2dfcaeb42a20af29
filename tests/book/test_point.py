"""What names a run, and when a folder counts as one; nothing is executed here."""

import dataclasses
from pathlib import Path

import pytest

from book import sweep
from book.gather import rows
from book.registry import find
from book.run import code_digest
from tests.book.toy import finished


def plan(book: Path, *grids: str) -> sweep.Plan:
    return sweep.plan(find("T1", book), grids)


def test_every_value_and_the_code_are_in_the_name(book: Path) -> None:
    jobs = plan(book, "alpha=0.25,0.5", "beta=1,2", "shape=line,dot", "n_seeds=3,4").jobs
    assert len({job.key for job in jobs}) == 16
    assert dataclasses.replace(jobs[0], code="other").key != jobs[0].key
    shuffled = dict(reversed(jobs[0].values.items()))
    assert dataclasses.replace(jobs[0], values=shuffled).key == jobs[0].key


def test_the_digest_changes_with_the_ledgers_entry_and_with_code(book: Path) -> None:
    before = code_digest(find("T1", book))
    ledger = book / "claims.yml"
    ledger.write_text(ledger.read_text().replace("title: A toy", "statement: It says so, title: A toy"))
    after = code_digest(find("T1", book))
    assert after != before
    notebook = find("T1", book).notebook
    notebook.write_text(notebook.read_text().replace("alpha * beta", "alpha + beta"))
    assert code_digest(find("T1", book)) not in (before, after)


def test_a_changed_digit_is_found_out(book: Path) -> None:
    """In a table or a result, whose content is compared, even if its size is as before."""
    of = plan(book, "alpha=0.25,0.5")
    finished(of)
    assert len(sweep.state(of.folder, of.jobs).finished) == 2
    result = of.folder / "points" / of.jobs[0].key / "T1/result.json"
    result.write_text(result.read_text().replace('"estimate": 1', '"estimate": 2'))
    with pytest.warns(UserWarning, match="not as it was written"):
        assert list(sweep.state(of.folder, of.jobs).finished) == [of.jobs[1].key]


def test_numbers_in_a_table_are_sorted_by_size(book: Path) -> None:
    of = plan(book, "beta=10,2,1")
    finished(of)
    names, table = rows(of.folder, sweep.state(of.folder, of.jobs))
    assert names[0] == "beta"
    assert [row["beta"] for row in table if row["quantity"] == "value"] == [1, 2, 10]


def test_a_folder_asks_for_points_of_its_present_code_alone(book: Path) -> None:
    """Grids of one code add up; after a change of code the earlier points are no longer missing, but gone."""
    for grid, expected in (("beta=1,2", [1, 2]), ("beta=3", [1, 2, 3])):
        of = plan(book, grid)
        finished(of)
        sweep.run(of)
        assert [job.values["beta"] for job in sweep.known_jobs(of.folder, book)[1]] == expected
    notebook = find("T1", book).notebook
    notebook.write_text(notebook.read_text().replace("alpha * beta", "alpha + beta"))
    changed = plan(book, "beta=4")
    assert changed.folder == of.folder
    finished(changed)
    sweep.run(changed)
    assert [job.values["beta"] for job in sweep.known_jobs(changed.folder, book)[1]] == [4]
