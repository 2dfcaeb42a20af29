"""Memory at its highest in a fresh process."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path


def _mebibytes(field: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1024


def _measure(prepare: Callable[..., Callable[[], object]], argument: object, queue: "multiprocessing.Queue") -> None:
    call = prepare(argument)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the highest size so far
    before = _mebibytes("VmRSS")
    call()
    queue.put((before, _mebibytes("VmHWM")))


def memory(prepare: Callable[..., Callable[[], object]], argument: object) -> tuple[float, float]:
    """Mebibytes of a fresh process before the call that ``prepare(argument)`` returns, and at the highest during it."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(prepare, argument, queue))
    process.start()
    found = queue.get()
    process.join()
    return found
