"""Every chapter under other instruction sets: what its tests check comes out, by the tests' own rule of comparison.

A processor decides in which order a sum is taken, and so where it is rounded. Torch takes kernels for AVX-512, for AVX2, or
plain ones, and MKL has its own; both can be told which, so one machine can round as several do.
"""

from collections.abc import Iterator

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


def rows() -> Iterator[Row]:
    paths = check.tested()
    for name, variables in here().items():
        for path, cells in check.by_cell(paths, variables).items():
            bad = [cell for cell, same in cells.items() if not same]
            outcome, n = ("other numbers", len(bad)) if bad else ("the same, by the tests' rule", len(cells))
            yield Row(KIND, f"{path.stem.partition('_')[0]}: {name}", outcome, n, not bad, ", ".join(bad))
