"""Random values in all frozen configs, valid and not, and a tiny run of what each configures.

The config or the run may refuse with a documented error; else the result has to be finite. Case i of a class is drawn from a
stream of its own, so that one can be looked at alone: ``python -m reliability.fuzz DeepConfig 17``.
"""

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reliability import spaces_mean_field, spaces_softmax
from reliability.configs import Space, drawn
from reliability.outcome import Row, counted, ending

RUNS = spaces_softmax.RUNS | spaces_mean_field.RUNS
KIND = "fuzz"
CASES = 250  # of each class
SHOWN = 16  # characters of a value; more do not fit a phone in one word


def one(name: str, number: int, folder: Path) -> tuple[str, str]:
    """How case `number` of a class ends; of a bad end with the values that led there."""
    space, run = RUNS[name]
    values = drawn(space, random.Random(f"{name}/{number}"))
    outcome, message = ending(lambda: run(space.make(**values), folder))
    return outcome, f"{message} ({changed(space, values)}; case {number})"


def changed(space: Space, values: dict) -> str:
    """The fields whose values are none of the sensible ones."""
    odd = {k: repr(v) for k, v in values.items() if not any(v is good for good in space.good[k])}
    return ", ".join(f"{k}={v if len(v) <= SHOWN else v[:SHOWN] + '…'}" for k, v in odd.items())


def rows(cases: int = CASES) -> Iterator[Row]:
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            yield from counted(KIND, name, [one(name, number, Path(folder)) for number in range(cases)])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        print(*one(sys.argv[1], int(sys.argv[2]), Path(place)))
