"""A sweep killed again and again at random moments; twenty of them by hand: ``python -m tests.book.kills``."""

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.book.toy import command, environment, icl, make_book


def kill_once(book: Path, out: Path, grid: Sequence[str], moments: random.Random) -> bool:
    """Start the sweep, kill it at a random moment, mostly while points are computed; says whether it was still running."""
    arguments = command("sweep", "T1", *grid, "--jobs", 2, "--out", out)
    process = subprocess.Popen(arguments, cwd=book, env=environment(), stdout=subprocess.DEVNULL)
    if moments.random() < 0.8:
        begun = {p.name for p in out.glob("work/*")}
        while process.poll() is None and {p.name for p in out.glob("work/*")} <= begun:
            time.sleep(0.01)
    time.sleep(moments.uniform(0, 2))
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return running


def check(book: Path, out: Path, grid: Sequence[str], kills: int, expected: str, seed: int = 0) -> int:
    """Kill a sweep at so many moments, take it up again, compare its table; returns how often it was still running."""
    moments = random.Random(seed)
    killed = sum(kill_once(book, out, grid, moments) for _ in range(kills))
    done = icl(book, "sweep", "T1", *grid, "--jobs", 2, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "table.csv").read_text(encoding="utf-8") == expected
    assert len(list((out / "points").iterdir())) * 2 == len(expected.splitlines()) - 1
    assert not list((out / "work").iterdir())
    return killed


def main() -> None:
    grid = ("--grid", "alpha=0:1:6", "--grid", "beta=1:5:5", "-p", "pause=0.5")
    with tempfile.TemporaryDirectory() as folder:
        book = make_book(Path(folder) / "book")
        start = time.monotonic()
        assert icl(book, "sweep", "T1", *grid, "--jobs", 2, "--out", book / "plain").returncode == 0
        print(f"uninterrupted: 30 points in {time.monotonic() - start:.0f} s", flush=True)
        seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
        start, expected = time.monotonic(), (book / "plain/table.csv").read_text(encoding="utf-8")
        killed = check(book, book / "killed", grid, 20, expected, seed)
        print(
            f"killed 20 times, {killed} while it ran: the same table, no point lost or doubled ({time.monotonic() - start:.0f} s)"
        )


if __name__ == "__main__":
    main()
