"""Sweeps of a tiny chapter with real kernels: taken up again, shared, killed, on a full disk and a read-only one."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from book import sweep, workers
from book.registry import find
from tests.book.kills import check
from tests.book.toy import GRID, command, environment, finished, icl, lines


def table(folder: Path) -> str:
    return (folder / "table.csv").read_text()


def test_table_and_figure(shared: Path, uninterrupted: str) -> None:
    first, *rest = lines(uninterrupted)
    assert first == "alpha,beta,clause,quantity,estimate,low,high,n,verdict,exploratory,folder"
    assert rest[0].startswith("0.25,1,slope,value,0.25,0.15,0.35,3,reproduced,True,points/")
    assert rest[-1].startswith("0.5,2,slope,control,-1.0,-1.1,-0.9,3,reproduced,True,points/")
    assert len(rest) == 8

    for line in rest:  # a page a point, that says which one it is; the report links to it
        page = shared / "plain" / line.rpartition(",")[2] / "T1_toy.html"
        alpha, beta, *_ = line.split(",")
        assert f"slope {float(alpha) * float(beta):.3f}" in page.read_text()

    assert {"figure.png", "figure.svg", "figure.json"} <= {p.name for p in (shared / "plain").iterdir()}
    assert not list((shared / "plain/work").iterdir())


def test_failures_are_kept_and_retried_on_demand(shared: Path, tmp_path: Path, uninterrupted: str) -> None:
    out = tmp_path / "sweep"
    (shared / "no-0.5").touch()
    try:
        first = icl(shared, "sweep", "T1", *GRID, "--jobs", 2, "--out", out)
    finally:
        (shared / "no-0.5").unlink()
    failure = "failed at alpha = 0.5, beta = 2: cell 5, In [4]: ValueError: no result at alpha = 0.5"
    assert first.returncode == 1
    assert "2 of 4 points finished, 2 failed, 0 missing" in first.stdout and failure in lines(first.stdout)
    assert len(lines(table(out))) == 1 + 2 * 2

    again = icl(shared, "sweep", "T1", *GRID, "--out", out)
    assert again.returncode == 1 and "2 failed before (--retry computes them again)" in lines(again.stdout)[0]
    assert not [line for line in lines(again.stdout) if line.startswith("[")]

    status = icl(shared, "status", out)
    assert status.returncode == 0 and failure in lines(status.stdout)
    assert icl(shared, "report", out).stdout.strip() == str(out / "report.html")
    page = (out / "report.html").read_text()
    assert "no result at alpha = 0.5" in page and "data:image/png;base64," in page and "http" not in page
    links = set(re.findall(r'<a href="([^"]+)">', page))
    assert len(links) == 4 and all((out / link).is_file() for link in links)  # two points, two that failed

    retried = icl(shared, "sweep", "T1", *GRID, "--jobs", 2, "--retry", "--out", out)
    assert retried.returncode == 0, retried.stderr
    assert table(out) == uninterrupted
    assert not list((out / "failed").iterdir())

    chapter = find("T1", shared)
    job = sweep.plan(chapter, ["alpha=0.25"], {"pause": 0.5}, out=out).jobs[0]
    result = out / "points" / job.key / "T1/result.json"
    result.write_text(result.read_text().replace("0.25", "0.99"))
    mended = icl(shared, "sweep", "T1", *GRID, "--out", out)
    assert mended.returncode == 0 and "is not as it was written and does not count" in mended.stderr
    assert "4 points, 3 finished" in mended.stdout and table(out) == uninterrupted


def test_killed_at_random_moments_it_loses_and_doubles_nothing(
    shared: Path, tmp_path: Path, uninterrupted: str
) -> None:
    assert check(shared, tmp_path / "sweep", GRID, 3, uninterrupted) >= 1


def test_two_sweeps_at_once_share_the_work(shared: Path, tmp_path: Path, uninterrupted: str) -> None:
    out = tmp_path / "sweep"
    arguments = command("sweep", "T1", *GRID, "--jobs", 1, "--out", out)
    options = {"cwd": shared, "env": environment(), "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(arguments, **options) for _ in range(2)]  # type: ignore[call-overload]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert all("4 of 4 points finished" in text for text in said)
    assert table(out) == uninterrupted
    assert len(list((out / "points").iterdir())) == 4


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 32 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_full_and_read_only_disk_end_in_one_line(shared: Path, small_disk: Path, uninterrupted: str) -> None:
    out = small_disk / "sweep"
    arguments = ("sweep", "T1", *GRID, "--jobs", 1, "--out", out)
    full = icl(shared, *arguments)
    assert full.returncode == 1
    assert lines(full.stderr) == [f"icl: stopped: No space left on device: {out}; the same command goes on from here"]
    remount(small_disk, "ro,size=4m")
    read_only = icl(shared, *arguments)
    assert read_only.returncode == 1
    assert len(lines(read_only.stderr)) == 1 and "Read-only file system" in read_only.stderr
    remount(small_disk, "rw,size=4m")
    assert icl(shared, *arguments).returncode == 0
    assert table(out) == uninterrupted


def test_a_run_on_a_full_or_read_only_disk_ends_in_one_line(shared: Path, small_disk: Path) -> None:
    arguments = ("run", "T1", "--out", small_disk / "run")
    full = icl(shared, *arguments)
    assert full.returncode == 1
    assert len(lines(full.stderr)) == 1 and "No space left on device" in full.stderr
    assert not list(small_disk.iterdir())
    remount(small_disk, "ro,size=4m")
    read_only = icl(shared, *arguments)
    assert read_only.returncode == 1
    assert len(lines(read_only.stderr)) == 1 and "Read-only file system" in read_only.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("in_a_cell", [False, True])
def test_a_disk_that_takes_nothing_is_not_the_points_failure(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, in_a_cell: bool
) -> None:
    """The same without a disk to mount: the error is made up, in this process or in a chapter's cell."""

    def compute(chapter: object, job: object, work: Path) -> str:
        if in_a_cell:
            return f"cell 3, In [2]: OSError: [Errno {number}] {os.strerror(number)}: 'curve.csv'"
        raise OSError(number, os.strerror(number), str(work))

    monkeypatch.setattr(workers, "compute", compute)
    plan = sweep.plan(find("T1", shared), [], out=tmp_path / "sweep")
    outcome = workers.work_on(workers.Request(plan.jobs[0], str(plan.folder)))
    assert outcome.kind == "stopped" and outcome.error.startswith(os.strerror(number) + ": ")
    assert not list(tmp_path.rglob("failed/*")) and not list(tmp_path.rglob("work/*"))
    assert sweep.state(plan.folder, plan.jobs).missing == [plan.jobs[0]]


def test_a_process_that_ends_before_it_reads_is_a_killed_point(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that runs out of memory when it starts; its request is only written when it has ended."""
    (job,), running = sweep.plan(find("T1", shared), []).jobs, set()
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    monkeypatch.setattr(workers, "request_text", lambda request: f"{[process.wait() for process in running]}\n")
    outcome = workers.run_point(workers.Request(job, "nowhere"), running)
    assert outcome == workers.Outcome("killed", "its process ended with status 1")


def test_other_sweeps_and_other_folders(shared: Path, tmp_path: Path, uninterrupted: str) -> None:
    assert icl(shared, "status", tmp_path).returncode == 2
    other = json.loads((shared / "plain/sweep.json").read_text())
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/sweep.json").write_text(json.dumps({**other, "chapter": "K9"}))
    refused = icl(shared, "sweep", "T1", *GRID, "--out", tmp_path / "sweep")
    assert refused.returncode == 2 and "must be another folder: this one holds a sweep of K9" in refused.stderr


def test_a_folder_with_other_things_is_no_sweeps(book: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "table.csv").write_text("x,y\n1,2\n")
    refused = icl(book, "sweep", "T1", "--grid", "alpha=0.5", "--out", mine)
    assert (
        refused.returncode == 2
        and "must be another folder: this is no sweep's, and table.csv is in it" in refused.stderr
    )
    assert [p.name for p in mine.iterdir()] == ["table.csv"]
    refused = icl(book, "sweep", "T1", "--grid", "alpha=0.5", "--out", mine / "table.csv")
    assert refused.returncode == 2 and "this is no sweep's" in refused.stderr


def test_a_table_or_figure_that_somebody_has_changed_is_kept_and_not_reported(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    planned = sweep.plan(find("T1", book), ["alpha=0.25,0.5"], out=out)
    finished(planned)
    arguments = ("sweep", "T1", "--grid", "alpha=0.25,0.5", "--out", out)
    assert icl(book, *arguments).returncode == 0
    before = table(out)
    (out / "table.csv").write_text(before.replace("1,", "99,"))
    (out / "figure.png").write_bytes(b"mine")
    (out / "figure.paper.pdf").write_bytes(b"a name like its own")
    reported = icl(book, "report", out)
    assert "table.csv is not as it was written; it is kept as changed-table.csv" in reported.stderr
    assert table(out) == before and "99" not in (out / "report.html").read_text().partition("<table")[2]
    assert (out / "changed-table.csv").read_text() != before and (out / "changed-figure.png").read_bytes() == b"mine"
    again = icl(book, *arguments)
    assert again.returncode == 0 and not again.stderr
    assert {"changed-table.csv", "changed-figure.png", "figure.paper.pdf"} <= {p.name for p in out.iterdir()}


def test_what_lies_in_a_folder_and_is_not_written_over_is_left_alone(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    out.mkdir()
    (out / "slurm-1.out").write_text("log")
    finished(sweep.plan(find("T1", book), ["alpha=0.25,0.5"], out=out))
    arguments = ("sweep", "T1", "--grid", "alpha=0.25,0.5", "--out", out)
    assert icl(book, *arguments).returncode == 0
    (out / "sweep.json").unlink()  # as it is told where that file is damaged
    again = icl(book, *arguments)
    assert again.returncode == 0 and not again.stderr and (out / "slurm-1.out").read_text() == "log"


def test_results_of_other_code_are_named_and_their_table_goes_with_them(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    finished(sweep.plan(find("T1", book), ["alpha=0.25,0.5"], out=out))
    assert icl(book, "sweep", "T1", "--grid", "alpha=0.25,0.5", "--out", out).returncode == 0
    notebook = next((book / "chapters/toy").glob("T1*"))
    notebook.write_text(notebook.read_text().replace("alpha * beta", "alpha + beta"))
    for what in ("status", "report"):
        assert icl(book, what, out).returncode == 0
    assert "these results come from other code" in icl(book, "status", out).stdout
    assert "these results come from other code" in (out / "report.html").read_text()
    (book / "no-0.75").touch()  # of the new code nothing is finished
    failed = icl(book, "sweep", "T1", "--grid", "alpha=0.75", "--out", out)
    assert failed.returncode == 1 and not (out / "table.csv").exists() and not list(out.glob("figure.*"))


def test_a_sweep_of_no_points(book: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"chapter": "T1", "code": "x", "points": []}))
    for what in ("status", "report"):
        done = icl(book, what, tmp_path)
        assert done.returncode == 0 and not done.stderr


def test_a_finished_sweep_of_1000_points_is_resumed_in_two_seconds(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    grids = ["alpha=0:1:100", "beta=1:10:10"]
    finished(sweep.plan(find("T1", shared), grids, out=out))
    arguments = ("sweep", "T1", "--grid", grids[0], "--grid", grids[1], "--out", out)
    assert icl(shared, *arguments).returncode == 0
    assert len(lines(table(out))) == 1 + 2 * 1000

    def processor_time() -> float:  # what else the machine does is not to fail the test
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = processor_time()
    assert icl(shared, "list").returncode == 0
    start = processor_time()
    again = icl(shared, *arguments)
    assert "1000 of 1000 points finished" in again.stdout
    assert processor_time() - start <= 4 * (start - before)  # on a fast machine, two seconds
    code = "import sys; from book import cli; cli.main(sys.argv[1:]); print([m for m in ('torch', 'pandas', 'papermill') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=shared,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert lines(done.stdout)[-1] == "[]"
