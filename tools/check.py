"""Everything that has to pass: ``make test``. Stops at the first step that fails and ends with a summary."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from book import execute
from book.terminal import command
from icl_lib.validate import require
from tools import notebooks

PYTEST = [sys.executable, "-m", "pytest"]
NBVAL = [*PYTEST, "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900", "-q"]
TWO_AT_ONCE = ["-n", "2", "--dist", "loadfile"]
# What rounding moves most easily runs on plain kernels, too, as on a processor that no record was made on.
SENSITIVE = [notebooks.REFERENCES / f"{name}.ipynb" for name in ("L9_layers", "Q1_data_assumptions", "K10_experiments")]


def tested() -> list[Path]:
    """The notebooks that are executed and compared: chapters, or what they say at a smaller setting; longest first."""
    long = notebooks.reduced()
    reduced = [notebooks.REFERENCES / path.name for path in long]
    return [*reduced, *(path for path in notebooks.chapters() if path not in long)]


def steps() -> list[tuple[str, list[str], dict[str, str]]]:
    """Name, command, and what is added to the environment."""
    python, nbval = [sys.executable, "-m"], [*NBVAL, *TWO_AT_ONCE]
    out = {"ICL_BOOK_OUT": str(Path("_build/test/out").resolve())}
    # What other kernels have trained must not be found in the cache.
    plain = {**out, "ATEN_CPU_CAPABILITY": "default", "ICL_BOOK_CACHE": str(Path("_build/test/plain").resolve())}
    return [
        ("format", [*python, "ruff", "format", "--check", "--quiet", "."], out),
        ("lint", [*python, "ruff", "check", "--quiet", "."], out),
        ("types", [*python, "mypy"], out),
        ("unit tests", [*PYTEST, "-q", *TWO_AT_ONCE, "tests", "--ignore=tests/pages"], out),
        ("chapters", [*nbval, *map(str, tested())], out),
        ("plain kernels", [*nbval, *map(str, SENSITIVE)], plain),
        # The summaries read recorded results, so they must not see what the chapters have just written.
        ("summaries", [*NBVAL, *map(str, notebooks.summaries())], {}),
        ("pages", [*python, "tools.render"], out),
        ("page tests", [*PYTEST, "-rs", "--durations=5", *TWO_AT_ONCE, "tests/pages"], out),
    ]


MAKES = ("CHAPTER", "HEAVY", "BUILD", "MAKEFLAGS", "MAKELEVEL")
OTHERS = ("PYTEST_ADDOPTS",)


def clean_environment() -> dict[str, str]:
    """The variables of this process without what changes which tests run; which instructions they take stays."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ICL_")}
    return {name: kept[name] for name in kept if name not in MAKES + OTHERS} | execute.THREADS | {"PYTHONUTF8": "1"}


def by_cell(files: Sequence[Path], variables: Mapping[str, str]) -> dict[Path, dict[str, bool]]:
    """Of each notebook the cells that its test ran, and whether they say what is recorded.

    Nothing is taken from the cache: other kernels or other code may have trained what is there.

    Raises:
        ConfigError: for notebooks that could not be tested, with what pytest says last.
    """
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        folders = {"ICL_BOOK_OUT": f"{place}/out", "ICL_BOOK_CACHE": f"{place}/cache"}
        run = [*NBVAL, *TWO_AT_ONCE, f"--junitxml={report}", *map(str, files)]
        environment = {**clean_environment(), **variables, **folders}
        done = subprocess.run(run, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []
    found: dict[Path, dict[str, bool]] = {file: {} for file in files}
    for case in cases:
        for file in files:
            if case.get("classname", "").endswith(file.name):
                same = all(case.find(kind) is None for kind in ("failure", "error", "skipped"))
                found[file][case.get("name", "")] = same
    if any(not all(cells.values()) for cells in found.values()):
        print(done.stdout)
    untested = [file.stem for file, cells in found.items() if not cells]
    last = done.stdout.strip().rpartition("\n")[2]
    require(not untested and done.returncode in (0, 1), "not tested", untested, f"such that pytest can run it: {last}")
    return found


def main() -> int:
    if sys.argv[1:]:
        sys.exit("python -m tools.check takes no arguments; it runs everything that `make test` does")
    environment = clean_environment()
    summary, failed, started = [], False, time.monotonic()
    for name, step, more in steps():
        if failed:
            summary.append(f"  {name:14} not run")
            continue
        print(f"--- {name}", flush=True)
        start = time.monotonic()
        failed = subprocess.run(step, env={**environment, **more}).returncode != 0
        summary.append(f"  {name:14} {'FAILED' if failed else 'passed'} {time.monotonic() - start:6.0f} s")
    print("--- summary", *summary, f"  {'total':14}        {time.monotonic() - started:6.0f} s", sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(command(main)())
