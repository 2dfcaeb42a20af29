"""Every chapter under other instruction sets: what its tests check comes out, by the tests' own rule of comparison.

A processor decides in which order a sum is taken, and so where it is rounded. Torch takes kernels for AVX-512, for AVX2, or
plain ones, and MKL has its own; both can be told which, so one machine can round as several do.
"""

import os
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
    """By notebook: how many cells its test ran, and which of them said something else than is recorded."""
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        environment = {**os.environ, **variables, "ICL_BOOK_OUT": str(Path(place) / "out")}
        command = [*check.NBVAL, *check.TWO_AT_ONCE, f"--junitxml={report}", *map(str, paths)]
        done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        if not report.is_file():
            raise RuntimeError(done.stdout.strip().rpartition("\n")[2])
        found: dict[str, tuple[int, list[str]]] = {path.stem: (0, []) for path in paths}
        for case in ElementTree.parse(report).iter("testcase"):
            stem = next(name for name in found if name in case.get("classname", "") + case.get("file", ""))
            n, bad = found[stem]
            failed = (
                [case.get("name", "")] if case.find("failure") is not None or case.find("error") is not None else []
            )
            found[stem] = n + 1, bad + failed
        return found


def rows() -> Iterator[Row]:
    paths = check.tested()
    for name, variables in here().items():
        for stem, (n, bad) in checked(paths, variables).items():
            outcome = "other numbers" if bad else "the same, by the tests' rule"
            yield Row(KIND, f"{stem.partition('_')[0]}: {name}", outcome, len(bad) or n, not bad, ", ".join(bad))
