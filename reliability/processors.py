"""Every chapter under other instruction sets: what its tests check comes out, by the tests' own rule of comparison.

A processor decides in which order a sum is taken, and so where it is rounded. Torch takes kernels for AVX-512, for AVX2, or
plain ones, and MKL has its own; both can be told which, so one machine can round as several do.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import torch

from reliability.outcome import Row
from tools import check

KIND = "other instruction sets"
SETS = {
    "plain kernels": {"ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "AVX-512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "MKL the same on all processors": {"MKL_CBWR": "COMPATIBLE"},
}


def here() -> dict[str, dict[str, str]]:
    """Those of ``SETS`` that this processor has."""
    best = torch.backends.cpu.get_cpu_capability()
    missing = {"AVX512": set(), "AVX2": {"AVX-512"}}.get(best, {"AVX-512", "AVX2"})
    return {name: variables for name, variables in SETS.items() if name not in missing}


def checked(paths: list[Path], variables: dict[str, str]) -> dict[str, tuple[int, list[str]]]:
    """By notebook: how many cells its test ran, and which of them said something else than is recorded.

    Nothing is taken from the cache: other kernels have trained what is there.

    Raises:
        RuntimeError: if a notebook could not be tested.
    """
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        folders = {"ICL_BOOK_OUT": f"{place}/out", "ICL_BOOK_CACHE": f"{place}/cache"}
        environment = {**check.clean_environment(), **variables, **folders}
        command = [*check.NBVAL, *check.TWO_AT_ONCE, f"--junitxml={report}", *map(str, paths)]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        found: dict[str, tuple[int, list[str]]] = {path.stem: (0, []) for path in paths}
        for case in ElementTree.parse(report).iter("testcase") if report.is_file() else ():
            stem = next((name for name in found if name in case.get("classname", "")), None)
            if stem:
                n, bad = found[stem]
                failed = case.find("failure") is not None or case.find("error") is not None
                found[stem] = n + 1, bad + [case.get("name", "")] * failed
    untested = [stem for stem, (n, _) in found.items() if n == 0]
    if untested or done.returncode not in (0, 1):
        raise RuntimeError(f"not tested: {', '.join(untested)}: {done.stdout.strip().rpartition(chr(10))[2]}")
    return found


def rows() -> Iterator[Row]:
    paths = check.tested()
    for name, variables in here().items():
        for stem, (n, bad) in checked(paths, variables).items():
            outcome = "other numbers" if bad else "the same, by the tests' rule"
            yield Row(KIND, f"{stem.partition('_')[0]}: {name}", outcome, len(bad) or n, not bad, ", ".join(bad))
