"""All kinds of faults, or those that are named: ``python -m reliability [kills edits divergence settings fuzz order processors rebuilt]``."""

import sys
import time
from collections.abc import Callable, Iterator

import torch

from book.terminal import command
from reliability import divergence, edits, fuzz, kills, order, processors, settings
from reliability.outcome import Row, save

KINDS: dict[str, Callable[[], Iterator[Row]]] = {
    "divergence": divergence.rows,
    "edits": edits.rows,
    "fuzz": fuzz.rows,
    "kills": kills.rows,
    "order": order.rows,
    "processors": processors.rows,
    "settings": settings.rows,
}
NAMED: dict[str, Callable[[], Iterator[Row]]] = {"rebuilt": settings.rebuilt}  # it needs a book that was built before


def main(names: list[str]) -> int:
    known = KINDS | NAMED
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no kind is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    torch.set_num_threads(1)
    failed = 0
    for name in names or KINDS:
        start, found = time.monotonic(), []
        for row in known[name]():
            found.append(row)
            print(f"{'  ' if row.passed else '! '}{row.case}: {row.n} x {row.outcome} {row.detail}", flush=True)
        save(found)
        bad = sum(not row.passed for row in found)
        failed += bad
        print(f"{name}: {len(found)} rows, {bad} bad ({time.monotonic() - start:.0f} s)", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(command(main)(sys.argv[1:]))
