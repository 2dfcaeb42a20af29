"""A sweep on a real Dask cluster of two worker processes, one of which is killed in mid-sweep."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from book import cli, sweep, workers
from book.gather import gather
from book.registry import find
from tests.book.test_sweep import table
from tests.book.toy import GRID, command, environment, lines

distributed = pytest.importorskip("distributed")


def wait_for(condition, seconds: float = 600) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_a_killed_worker_loses_nothing(
    shared: Path, uninterrupted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])  # for the workers
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        arguments = command("sweep", "T1", *GRID, "--scheduler", cluster.scheduler_address, "--out", out)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(arguments, cwd=shared, env=environment(), **options)  # type: ignore[call-overload]
        wait_for(lambda: process.poll() is not None or len(list(out.glob("work/*/run"))) == 2)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        said, complaint = process.communicate()
    assert process.returncode == 0, said + complaint
    assert table(out) == uninterrupted
    assert len(list((out / "points").iterdir())) == 4
    assert sum(line.startswith("[") for line in lines(said)) == 4


@pytest.mark.parametrize("goes", [False, True])
def test_a_lost_connection_is_made_again(shared: Path, uninterrupted: str, tmp_path: Path, goes: bool) -> None:
    """Once; a scheduler that has gone ends the sweep in one line."""
    out, chapter = tmp_path / "sweep", find("T1", shared)
    plan, ended = sweep.plan(chapter, GRID[1::2], out=out), list[str]()
    with distributed.LocalCluster(
        n_workers=1, processes=False, protocol="tcp", dashboard_address=":0", silence_logs=50
    ) as cluster:

        def lose() -> None:
            for comm in cluster.scheduler.client_comms.values():
                comm.abort()

        def report(job: sweep.Job, outcome: sweep.Outcome) -> None:
            if not ended:
                cluster.loop.add_callback(lose)
                if goes:
                    cluster.close()
            ended.append(outcome.kind)

        if goes:
            with pytest.raises(sweep.Stopped, match="the connection to the scheduler was lost: scheduler="):
                sweep.run(plan, cluster.scheduler_address, report=report)
        else:
            found = sweep.run(plan, cluster.scheduler_address, report=report)
            assert not found.missing and not found.failed and set(ended) <= {"done", "kept"}
            gather(out, found)
            assert table(out) == uninterrupted


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("localhost:8786", 2, "scheduler='localhost:8786': must be local, tcp://host:port or tls://host:port"),
        ("tls://127.0.0.1:1", 2, "scheduler='tls://127.0.0.1:1': must be tcp://, unless Dask's configuration names"),
        (
            "tcp://127.0.0.1:1",
            2,
            "scheduler='tcp://127.0.0.1:1': must be the address of one that answers (Timed out trying to connect to",
        ),
        (
            "tcp://nohost",
            2,
            "scheduler='tcp://nohost': must be the address of one that answers (missing port number in address 'nohost')",
        ),
    ],
)
def test_what_is_no_scheduler(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(shared)
    monkeypatch.setattr(workers, "ANSWERS_WITHIN", 1)
    assert cli.main(["sweep", "T1", "--scheduler", address, "--out", str(tmp_path / "sweep")]) == status
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"icl: {message}")
    assert not (tmp_path / "sweep").exists()
