"""Locks and hidden folders are free again when the process that held them is gone, however it ended."""

import errno
import fcntl
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from icl_lib.locks import IN_USE, locked, workplace
from tests.book.toy import command, environment, icl, make_book


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_running_one_is_left_alone(tmp_path: Path) -> None:
    book, out = make_book(tmp_path / "book"), tmp_path / "out"
    killed, running = (
        subprocess.Popen(command("run", "T1", "-p", "pause=600", "--out", out / name), cwd=book, env=environment())
        for name in ("killed", "running")
    )
    try:
        end = time.monotonic() + 600
        while len(list(out.rglob("curve.csv"))) < 2:  # both are in the chapter's last cell
            assert time.monotonic() < end
            assert killed.poll() is None and running.poll() is None
            time.sleep(0.05)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        time.sleep(2)  # its kernel lives on for a second
        hidden = {path.name.split("-")[0] for path in out.iterdir()}
        assert hidden == {".killed", ".running"}
        assert icl(book, "run", "T1", "--out", out / "next").returncode == 0
        assert {path.name.split("-")[0] for path in out.iterdir()} == {".running", "next"}
    finally:
        killed.kill()
        running.terminate()
        running.wait()
    assert {path.name for path in out.iterdir()} == {"next"}


def test_a_workplace_is_the_users_own_until_the_block_ends(tmp_path: Path) -> None:
    (tmp_path / ".cache-of-others").mkdir()
    with workplace(tmp_path / "a") as first, workplace(tmp_path / "b") as second:
        assert first.name.startswith(".a-") and second.name.startswith(".b-") and (first / IN_USE).is_file()
    assert [path.name for path in tmp_path.iterdir()] == [".cache-of-others"]
    with pytest.raises(KeyError), workplace(tmp_path / "a"):
        raise KeyError
    with pytest.raises(OSError, match="full"), workplace(tmp_path / "a"):
        raise OSError("full")
    assert [path.name for path in tmp_path.iterdir()] == [".cache-of-others"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_of_the_file_system_processes_of_this_machine_still_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on some network file systems; here `flock` fails for every file below one folder."""
    flock, shared, local = fcntl.flock, tmp_path / "shared", tmp_path / "local"

    def without(file: object, how: int) -> None:
        handle = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
        if os.readlink(f"/proc/self/fd/{handle}").startswith(str(shared)) and how & fcntl.LOCK_EX:
            raise OSError(number, os.strerror(number))
        flock(handle, how)

    local.mkdir()
    monkeypatch.setattr(fcntl, "flock", without)
    monkeypatch.setattr(tempfile, "tempdir", str(local))
    with locked(shared / "x.lock"):
        with pytest.raises(Timeout), locked(shared / "x.lock", timeout=0):
            pass
        with locked(shared / "y.lock", timeout=0):
            pass
    with locked(shared / "x.lock", timeout=0):
        pass
    with workplace(shared / "a") as first:
        assert not (first / IN_USE).exists()  # who cannot tell that it is in use does not remove it
        with workplace(shared / "b"):
            assert first.is_dir()
    assert not list(shared.glob(".*"))


def test_other_errors_of_a_lock_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError), locked(tmp_path / "file/x.lock"):
        pass


def test_the_mark_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while a workplace is removed: the next one finds what is left, at whatever file it stopped."""
    for stop in range(4):
        left = tmp_path / str(stop)
        gone, real = 0, os.unlink

        def killed(*given: Any, **more: Any) -> None:
            nonlocal gone
            if gone == stop:  # noqa: B023
                raise KeyboardInterrupt
            gone += 1
            real(*given, **more)  # noqa: B023

        with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch, workplace(left / "out") as place:  # noqa: PT012
            (place / "run").mkdir()
            for name in ("a", "run/b", "run/c"):
                (place / name).write_text("x", encoding="utf-8")
            patch.setattr(os, "unlink", killed)
        with workplace(left / "out"):
            pass
        assert list(left.iterdir()) == []
