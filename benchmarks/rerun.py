"""What `icl` costs beside the computation, how a sweep scales to two workers, and what resuming a finished one takes.

``python -m benchmarks.rerun`` writes rerun.csv beside this file. A run's cells are timed by the notebook itself, so command and
computation are measured in the same run. One worker and two take turns, block by block; what other programs took of the
processors meanwhile is recorded, since two workers need both. Wall times in seconds.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import nbformat
import pandas as pd

from benchmarks import page
from book import registry, sweep
from book.terminal import command
from icl_lib.paths import root, write_atomic
from tests.book.toy import CODE, finished, icl, make_book

FILE = Path(__file__).with_name("rerun.csv")
CHAPTERS = ("data_model", "L5")
ROUNDS = 3
BLOCKS, POINTS = 4, 16  # of a sweep: 64 points in all
WORK = "total = sum(i * i for i in range(38_000_000))  # about two seconds\n"


def busy() -> float:
    """Seconds of all processors that something ran since the machine started."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / 100  # ticks are hundredths of a second


@contextmanager
def timed(row: dict[str, object]) -> Iterator[None]:
    """Put seconds, and the processors that other programs took meanwhile, into ``row``."""
    start, before, own = time.monotonic(), busy(), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield
    seconds, now = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
    row |= {"seconds": seconds, "others": max(0.0, (busy() - before - ours) / seconds)}


def called(folder: Path, *arguments: object) -> None:
    done = icl(folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def when(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def run_once(name: str, out: Path) -> list[dict[str, object]]:
    """One `icl run` at the book's setting: before its first cell, in its cells, and after the last."""
    row: dict[str, object] = {"kind": "run", "of": name}
    start = time.time()
    with timed(row):
        called(root(), "run", name, "--out", out)
    end = time.time()
    (file,) = out.glob("*.ipynb")
    cells = nbformat.read(file, as_version=4).cells
    stamps = [c.metadata.papermill for c in cells if c.cell_type == "code" and c.metadata.get("papermill")]
    first, last = when(stamps[0]["start_time"]), when(stamps[-1]["end_time"])
    parts = {"before the first cell": first - start, "cells": last - first, "after the last cell": end - last}
    return [{**row, "case": "command"}, *({**row, "case": case, "seconds": s} for case, s in parts.items())]


def scaling(folder: Path) -> list[dict[str, object]]:
    """Blocks of the sweep by one worker and by two, in turns."""
    small, rows = make_book(folder / "book", code=WORK + CODE), []
    for block in range(BLOCKS):
        for workers in (1, 2):
            row: dict[str, object] = {"kind": "sweep", "case": f"{workers} worker{'s' * (workers > 1)}"}
            grid = f"alpha={block / BLOCKS}:{(block + 1) / BLOCKS - 0.01}:{POINTS}"
            with timed(row):
                called(small, "sweep", "T1", "--grid", grid, "--jobs", workers, "--out", folder / f"{block}-{workers}")
            rows.append(row)
            print(row, flush=True)
    return rows


def machine() -> list[dict[str, object]]:
    """The points' computation alone: in one process, and in two at once."""
    rows = []
    for _ in range(ROUNDS):
        for n in (1, 2):
            row: dict[str, object] = {"kind": "machine", "case": f"{n} process{'es' * (n > 1)}"}
            with timed(row):
                running = [subprocess.Popen([sys.executable, "-c", WORK]) for _ in range(n)]
                assert all(process.wait() == 0 for process in running)
            rows.append(row)
    return rows


def resume(folder: Path) -> list[dict[str, object]]:
    """A finished sweep of 1 000 points, called again."""
    small, out, rows = make_book(folder / "book"), folder / "sweep", []
    grids = ("--grid", "alpha=0:1:100", "--grid", "beta=1:10:10")
    finished(sweep.plan(registry.find("T1", small), grids[1::2], out=out))
    called(small, "sweep", "T1", *grids, "--out", out)
    for _ in range(5):
        row: dict[str, object] = {"kind": "resume", "case": "1 000 points"}
        with timed(row):
            called(small, "sweep", "T1", *grids, "--out", out)
        rows.append(row)
    return rows


def main() -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(ROUNDS):
            for name in CHAPTERS:
                rows += run_once(name, Path(folder) / f"{name}-{repetition}")
        rows += resume(Path(folder) / "resume") + machine() + scaling(Path(folder) / "scaling")
    table = pd.DataFrame(rows)[["kind", "of", "case", "seconds", "others"]]
    print(table.to_string(index=False))
    write_atomic(FILE, table.to_csv(index=False, float_format="%.3g").encode())
    print(page.rerun(table).to_string(index=False))


if __name__ == "__main__":
    command(main)()
