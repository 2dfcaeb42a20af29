"""Run the benchmarks and write results.csv and results.json beside this file: ``python -m benchmarks [hot path ...]``.

All cases take turns, repetition by repetition, in one process on one thread; ``memory`` (fresh processes) and ``whole`` (GPT-2 runs of
400 steps) come after them. With names, only those hot paths run, and the rows of the others stay. What is run without an allocator that
keeps large blocks (MALLOC_MMAP_THRESHOLD_) is kept apart under its own name.
"""

import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from benchmarks import classical, epoch, evaluation, gpt2, machine, particles, peak_memory, sampling, training
from benchmarks.case import COLUMNS, REPETITIONS, Case, Row, along, take_turns
from benchmarks.results import APART, FILE, compared, load
from book.terminal import command
from icl_lib.paths import write_atomic, write_json
from icl_lib.provenance import versions

PATHS: dict[str, Callable[[], list[Case]]] = {
    "machine": machine.cases,
    "sampling": partial(along, sampling.AXES, sampling.at),
    "training": training.cases,
    "gpt_training": gpt2.cases,
    "attention": partial(along, evaluation.AXES, evaluation.attention),
    "pruning": partial(along, evaluation.RATES, evaluation.pruning),
    "velocity": partial(along, particles.VELOCITIES, particles.velocities),
    "kernels": partial(along, particles.WIDTHS, particles.kernels),
    "hessians": partial(along, particles.HESSIANS, particles.hessians),
    "epoch": epoch.cases,
    "classical": partial(along, classical.AXES, classical.at),
}
SUFFIX = "" if "MALLOC_MMAP_THRESHOLD_" in os.environ else f", {APART}"
PRELIMINARY = 7  # fewer repetitions than this are a trial


def whole_runs(repetitions: int) -> list[Row]:
    """Times of whole GPT-2 runs, and the mean hinge loss over their last 50 steps."""
    rows = []
    cases = gpt2.whole_runs()
    for repetition in range(repetitions):
        for case in cases:
            start = time.process_time()
            losses = case.call()
            rows.append(case.row((time.process_time() - start) / case.work, case.unit, repetition))
            rows += [] if repetition else [case.row(float(losses[-50:].mean()), "hinge loss at the end")]
    return rows


def processor() -> dict[str, object]:
    """What kind of processor this is; nothing that names the computer."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return {
        "model": found.get("model name", platform.processor()),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
    }


def merged(rows: list[Row], complete: bool) -> pd.DataFrame:
    """The new rows, and of the old ones those that this run has not replaced."""
    new = pd.DataFrame(rows, columns=COLUMNS)
    new["benchmark"] += SUFFIX
    if not FILE.is_file():
        return new
    old = load()
    replaced = set(zip(new["benchmark"], new["unit"], strict=True))
    stays = [pair not in replaced for pair in zip(old["benchmark"], old["unit"], strict=True)]
    if complete:
        stays = [stay and name.endswith(APART) for stay, name in zip(stays, old["benchmark"], strict=True)]
    return pd.concat([new, old[stays]], ignore_index=True)


def main() -> None:
    torch.set_num_threads(1)
    known = [*PATHS, "memory", "whole"]
    names = sys.argv[1:] or known
    if unknown := set(names) - set(known):  # they would rewrite results.json and time nothing
        sys.exit(f"no hot path is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    if "memory" in names and not peak_memory.REFS.exists():
        sys.exit("memory is measured with Linux's /proc; name the hot paths that you want timed")
    start, rows = time.monotonic(), []
    with threadpool_limits(1):
        cases = [case for name, of_path in PATHS.items() if name in names for case in of_path()]
        rows += take_turns(cases)
        rows += whole_runs(min(3, REPETITIONS)) if "whole" in names else []
    rows += peak_memory.measured() if "memory" in names else []
    table = merged(rows, complete=not sys.argv[1:])
    write_atomic(FILE, table.to_csv(index=False).encode())
    others = {name: version(name) for name in ("jax", "scikit-learn", "transformers")}
    about = {"processor": processor(), "versions": versions() | others, "threads": 1, "repetitions": REPETITIONS}
    write_json(FILE.with_suffix(".json"), about | {"preliminary": REPETITIONS < PRELIMINARY})
    print(compared(load()).round(3).to_string())
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    command(main)()
