"""The library's code edited at random moments of a training, a run, a sweep: nothing is kept under the name of other code.

All of it happens in a copy. What is kept is compared, name by name, with what each code gives when nobody touches it. Then the
code is put back, and the same command has to end as if nothing had happened: every training, every third run and sweep.
``python -m reliability.edits CASE NUMBER`` makes one of the runs again, up to its timing.
"""

import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from book.run import OTHER_CODE, RECORD
from icl_lib.source import WRITTEN
from reliability.edited import CASES, EDITS, UNFINISHED, WAYS, Copy
from reliability.kills import saved
from reliability.order import contents
from reliability.outcome import Row

KIND = "edits while it runs"
RUNS = 20  # of each case, and one more of the sweep
STALE = "is not what Python has compiled of it"
RIGHT, WRONG, REFUSED = "kept under its own name", "kept under another name", "refused"
OWN, OTHER = "stopped by the edit's own error", "stopped by another error"
LATER, CLEARED, DIFFERENT = (
    "ends later as the original",
    "ends later so, compiled files removed",
    "ends later that differ",
)
GOOD = dict.fromkeys((REFUSED, RIGHT, OWN), True) | {WRONG: False, OTHER: False}
GOOD |= {LATER: True, CLEARED: True, DIFFERENT: False}


class Fault(NamedTuple):
    """An edit and how its file is written; when, and when it is put back, as shares of the whole time.

    It is written before the start at -1, and at None when a sweep has begun its first point.
    """

    edit: str
    way: str
    at: float | None
    back: float | None


def drawn(case: str, number: int) -> Fault:
    """The edit of one run: of about one in ten before the start, of every other put back. A sweep's last is no random one."""
    if number == RUNS:
        return Fault(UNFINISHED, WAYS[0], None, None)
    draws = random.Random(f"{case}/{number}")
    at = draws.uniform(0, 1) if draws.random() < 0.9 else -1.0
    back = draws.uniform(0, 0.3) if number % 2 else None
    return Fault(draws.choice(list(EDITS)), draws.choice(WAYS), at, back)


def kept(place: Path) -> dict[str, object]:
    """What a command has left, by name: states of trainings, results and tables of runs, failures that a sweep remembers."""
    found = saved(place / "cache")
    for record in place.rglob(RECORD):
        found[json.loads(record.read_text(encoding="utf-8"))["key"]] = contents(record.parent / "T1")
    failed = place.rglob("failed/*.json")
    return found | {f"failure of {file.stem}": file.read_text(encoding="utf-8") for file in failed}


def misnamed(found: Mapping[str, object], known: Mapping[str, Sequence[object]]) -> list[str]:
    """The names under which something else is kept than the code of that name gives; unknown names are among them."""
    return [name for name, content in found.items() if content not in known.get(name, ())]


def ending(status: int, said: str, wrong: Sequence[str], edit: str) -> str:
    """How a run ended during which the code was edited."""
    if wrong or status == 0:
        return WRONG if wrong else RIGHT
    if any(sentence in said for sentence in (WRITTEN, OTHER_CODE, STALE)):
        return REFUSED
    return OWN if edit == UNFINISHED else OTHER


def disturbed(copy: Copy, case: str, fault: Fault, place: Path, seconds: float) -> tuple[int, str]:
    """Run a case with an edit, which takes so long without; exit status, and what it said."""
    early = fault.at == -1
    if early:
        copy.edit(fault.edit, fault.way)
    process = copy.start(CASES[case], place)
    while fault.at is None and process.poll() is None and not list(place.glob("sweep/work/*/run")):
        time.sleep(0.01)
    if not early:
        time.sleep((fault.at or 0) * seconds)
        copy.edit(fault.edit, fault.way)
    if fault.back is not None:
        time.sleep(fault.back * seconds)
        copy.restore(fault.edit, fault.way)
    return copy.end(process, place)


def later(copy: Copy, case: str, edit: str, place: Path, expected: Mapping[str, object]) -> tuple[str, str]:
    """How the same command ends when the code is as it was, and what is not as expected then."""
    status, said = copy.end(copy.start(CASES[case], place), place)
    cleared = status != 0 and STALE in said
    if cleared:  # it also says what to do
        copy.forget_compiled(edit)
        status, said = copy.end(copy.start(CASES[case], place), place)
    found = kept(place)
    wrong = [*misnamed(found, copy.known), *(f"no {name}" for name in expected.keys() - found.keys())]
    if wrong or status:
        return DIFFERENT, ", ".join([*wrong, last_line(said)])
    return (CLEARED if cleared else LATER), ""


def last_line(text: str) -> str:
    return text.rpartition("\n")[2]


def one(
    copy: Copy, case: str, number: int, place: Path, seconds: float, expected: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """How a run with its edit ends, and how it ends later; with details."""
    fault = drawn(case, number)
    status, said = disturbed(copy, case, fault, place, seconds)
    wrong = misnamed(kept(place), copy.known)
    what = f"{number}: {fault.edit}, {fault.way}, at " + ("a point" if fault.at is None else f"{fault.at:.2f}")
    what += ", left" if fault.back is None else f", put back after {fault.back:.2f}"
    yield ending(status, said, wrong, fault.edit), f"{what}: {', '.join(wrong) or last_line(said)}"
    if fault.back is None:
        copy.restore(fault.edit, fault.way)
    if case == "training" or number % 3 == 0 or wrong:
        end, why = later(copy, case, fault.edit, place, expected)
        yield end, f"{what}: {why}"
    copy.forget_compiled(fault.edit)
    shutil.rmtree(place)


def alone(copy: Copy, case: str, place: Path) -> tuple[float, dict[str, object]]:
    """How long a case takes that nothing happens to, and what it keeps.

    Raises:
        RuntimeError: if it fails, or keeps something else than its code gives.
    """
    times = []
    for number in ("first", "second"):  # the first has more to compile
        start = time.monotonic()
        status, said = copy.end(copy.start(CASES[case], place / number), place / number)
        times.append(time.monotonic() - start)
        found = kept(place / number)
        if status or misnamed(found, copy.known) or not found:
            raise RuntimeError(f"{case}: {said}")
    return min(times), found


def rows_of(copy: Copy, case: str, place: Path, runs: int = RUNS) -> Iterator[Row]:
    """One row per way of ending, those that must not be are told one by one."""
    seconds, expected = alone(copy, case, place / "alone")
    numbers = range(runs + (case == "icl sweep"))
    ends = [end for number in numbers for end in one(copy, case, number, place / str(number), seconds, expected)]
    for outcome, good in GOOD.items():
        told = [detail for end, detail in ends if end == outcome]
        yield Row(KIND, case, outcome, len(told), good or not told, "" if good else "; ".join(told))


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder))
        clashes = ", ".join(copy.clashes)
        yield Row(KIND, "names", "ends with one name for two codes", len(copy.clashes), not clashes, clashes)
        for case in CASES:
            yield from rows_of(copy, case, Path(folder) / case.replace(" ", "-"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        case, number = sys.argv[1], int(sys.argv[2])
        copy = Copy(Path(folder), [drawn(case, number).edit])
        print(*one(copy, case, number, Path(folder) / "run", *alone(copy, case, Path(folder) / "alone")), sep="\n")
