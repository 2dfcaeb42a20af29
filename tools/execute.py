"""Run one notebook: ``python -m tools.execute source.ipynb target.ipynb``."""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

from icl_lib import provenance
from tools import notebooks

THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Training frees and asks for the same blocks at every step: not handing them back saves a tenth of its time.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}


def commit() -> str:
    """The commit that is checked out, with "+ changes" if files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + (" + changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """System, processors and versions, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, {versions}"


@contextlib.contextmanager
def quiet_kernel() -> Iterator[None]:
    """Keep what the kernel's process itself writes off the terminal: it reports its own shutdown as an error.

    What cells write to stderr is an output of the notebook and is not lost.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def run(source: Path, target: Path, out: Path | None, parameters: dict[str, Any] | None = None) -> str | None:
    """Execute a copy of ``source`` into ``target``; returns what went wrong, if anything.

    ``out`` is the folder of results, by default the committed ones are read. ``target`` appears when all cells have run;
    of a failed run the notebook is kept beside it as ``<name>.failed.ipynb``.
    """
    started, stamp = time.monotonic(), {"commit": commit(), "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}"}
    running, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)
    os.environ.update(THREADS)
    os.environ.pop("ICL_BOOK_OUT", None)
    if out:
        os.environ["ICL_BOOK_OUT"] = str(out.resolve())
    try:
        with quiet_kernel():
            papermill.execute_notebook(
                source, running, parameters, kernel_name="python3", cwd=target.parent, progress_bar=False
            )
    except Exception as error:
        if running.is_file():
            running.rename(failed)
        if isinstance(error, PapermillExecutionError):
            what = f"{error.ename}: {error.evalue}".strip()
            last = re.sub(r"\x1b\[[0-9;]*m", "", what).splitlines()[-1]
            where = f"cell {error.cell_index + 1}, In [{error.exec_count}]"
            return f"{where}: {last if last.startswith(error.ename) else f'{error.ename}: {last}'}"
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    done = notebooks.load(running)
    done.metadata["icl_book"] = {**stamp, "seconds": round(time.monotonic() - started, 1), "machine": machine()}
    notebooks.save(done, target)
    running.unlink()
    return None


def seconds(target: Path) -> str:
    """How long the run took that made ``target``."""
    return f"{notebooks.load(target).metadata['icl_book']['seconds']:6.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--out", type=Path, help="folder to write to, emptied first")
    parser.add_argument("--results", type=Path, help="folder of results to read from")
    parser.add_argument("--parameters", type=json.loads)
    args = parser.parse_args()
    name = notebooks.label(args.source)
    if args.out:
        shutil.rmtree(args.out, ignore_errors=True)
    problem = run(args.source, args.target, args.out or args.results, args.parameters)
    if problem:
        print(f"{name}: failed in {problem}\n  see {args.target.with_suffix('.failed.ipynb')}", file=sys.stderr)
        return 1
    print(f"{name:40} {seconds(args.target)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
