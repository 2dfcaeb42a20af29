"""Ctrl-C, TERM and HUP end a run and a sweep in one line, with all their processes, and leave what the same command goes on from."""

import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.book.toy import command, environment, icl, lines


def kernels(out: Path) -> list[str]:
    """Numbers of the kernels that write below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("ICL_BOOK_OUT", "").startswith(str(out))
            if ours and "book.kernel" in process.cmdline():
                found.append(str(process.pid))
        except psutil.Error:  # it has just ended, or is not ours to look at
            continue
    return found


ENDS = {"interrupted": signal.SIGINT, "ended by SIGTERM": signal.SIGTERM, "ended by SIGHUP": signal.SIGHUP}
KEPT = {
    "run": "no result was written",
    "sweep": "what is finished is kept, the same command goes on from there",
}


@pytest.mark.parametrize(
    ("name", "how"),
    [("run", "interrupted"), ("sweep", "interrupted"), ("run", "ended by SIGTERM"), ("sweep", "ended by SIGHUP")],
)
def test_interrupted(book: Path, tmp_path: Path, name: str, how: str) -> None:
    out = tmp_path / "out"
    arguments, number = command(name, "T1", "-p", "pause=600", "--out", out), ENDS[how]
    # What a shell starts in the background ignores the signal, and so would the tests' own children.
    heard = partial(signal.signal, number, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heard}
    process = subprocess.Popen(arguments, cwd=book, env=environment(), **pipes)  # type: ignore[call-overload]
    try:
        end = time.monotonic() + 600
        while process.poll() is None and not list(tmp_path.rglob("curve.csv")):  # the chapter's second cell has run
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(kernels(tmp_path)) == 1
        process.send_signal(number)
        process.send_signal(number)  # as a closing terminal does: it cleans up all the same
        _, complaint = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert lines(complaint) == [f"icl: {how}; {KEPT[name]}"]
    end = time.monotonic() + 60
    while kernels(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert not kernels(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if book not in p.parents and p.is_file()}
    assert not [path for path in left if not path.startswith(("out/work", "out/locks", "out/sweep.json"))]
    if name == "run":
        assert {p.name for p in tmp_path.iterdir()} == {"book"}
    else:
        assert "0 of 1 points finished, 0 failed, 1 missing" in icl(book, "status", out).stdout
        (out / "sweep.json").write_text("[")
        refused = icl(book, "status", out)
        assert refused.returncode == 2 and "must be as a sweep wrote it" in refused.stderr
