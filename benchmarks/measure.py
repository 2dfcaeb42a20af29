"""What the benchmarks of single calls share: processor times in turns, and memory at its highest in a fresh process."""

import multiprocessing
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median


def take_turns(cases: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median processor time of each, in seconds; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in range(repetitions + 1):
        for name, call in cases.items():
            start = time.process_time()
            call()
            times[name] += [time.process_time() - start] if repetition else []
    return {name: median(t) for name, t in times.items()}


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
