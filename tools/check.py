"""Everything that has to pass: ``make test``. Stops at the first step that fails and ends with a summary."""

import os
import subprocess
import sys
import time
from pathlib import Path

from icl_lib.rerun import execute
from icl_lib.rerun.terminal import command
from tools import notebooks


def steps() -> list[tuple[str, list[str]]]:
    python, pytest = [sys.executable, "-m"], [sys.executable, "-m", "pytest"]
    two_at_once = ["-n", "2", "--dist", "loadfile"]
    nbval = [*pytest, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900", "-q"]
    long = notebooks.reduced()
    short = [str(path) for path in notebooks.chapters() if path not in long]
    reduced = [str(notebooks.REFERENCES / path.name) for path in long]
    return [
        ("format", [*python, "ruff", "format", "--check", "--quiet", "."]),
        ("lint", [*python, "ruff", "check", "--quiet", "."]),
        ("types", [*python, "mypy"]),
        ("unit tests", [*pytest, "-q", *two_at_once, "tests", "--ignore=tests/book"]),
        ("chapters", [*nbval, *two_at_once, *reduced, *short]),
        ("summaries", [*nbval, *map(str, notebooks.summaries())]),
        ("pages", [*python, "tools.render"]),
        ("book tests", [*pytest, "-rs", "--durations=5", "tests/book"]),
    ]


def main() -> int:
    environment = {**os.environ, **execute.THREADS, "PYTHONUTF8": "1"}
    for name in ("CHAPTER", "HEAVY", "BUILD", "MAKEFLAGS", "MAKELEVEL", "ICL_BOOK_OUT", "ICL_DEVICE"):
        environment.pop(name, None)
    summary, failed, started = [], False, time.monotonic()
    for name, step in steps():
        if failed:
            summary.append(f"  {name:12} not run")
            continue
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        # The summaries read recorded results, so they must not see what the chapters have just written.
        out = {} if name == "summaries" else {"ICL_BOOK_OUT": str(Path("_build/test/out").resolve())}
        failed = subprocess.run(step, env={**environment, **out}).returncode != 0
        summary.append(f"  {name:12} {'FAILED' if failed else 'passed'} {time.monotonic() - start:6.0f} s")
    print("--- summary", *summary, f"  {'total':12}        {time.monotonic() - started:6.0f} s", sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(command(main)())
