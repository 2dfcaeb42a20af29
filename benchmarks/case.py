"""A case is something to time, and how its result differs from ours; all cases take turns, repetition by repetition."""

import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)  # sizes that are timed, times the published one
REPETITIONS = int(os.environ.get("BENCH_REPETITIONS", "9"))
AT_LEAST, BUDGET = 3, 4.0  # a case rests when it has taken this many seconds, but not before so many repetitions
QUICK = 0.1  # seconds: calls shorter than this are made twice, and the second one is timed
COLUMNS = ["benchmark", "variant", "axis", "size", "factor", "value", "unit", "repetition"]

Row = tuple[str, str, str, float, float, float, str, int]


class Different(AssertionError):
    """An alternative does not do the work that ours does."""


class Size(NamedTuple):
    """What is varied, its value, and how many times the published value this is."""

    axis: str
    value: float
    factor: float


class Case(NamedTuple):
    """Something to time.

    Attributes:
        benchmark: the hot path.
        variant: "ours", or the name of an alternative.
        size: all but this axis is at the published size.
        unit: of the time, "s per ...".
        call: what is timed.
        work: units of work that one call does.
        differs: how far its result is from ours; None for ours itself.
        tolerance: what ``differs`` may return.
        flop, traffic: arithmetic and bytes of one unit of work, where they are counted.
        precision: of the arithmetic.
    """

    benchmark: str
    variant: str
    size: Size
    unit: str
    call: Callable[[], Any]
    work: float = 1
    differs: Callable[[], float] | None = None
    tolerance: float = 0
    flop: float = 0
    traffic: float = 0
    precision: str = "float32"

    def row(self, value: float, unit: str, repetition: int = 0) -> Row:
        """One line of the table of results."""
        return (self.benchmark, self.variant, *self.size, float(f"{value:.5g}"), unit, repetition)


def sizes(axis: str, published: int, even: bool = False, least: int = 1) -> list[Size]:
    """``FACTORS`` times the published size, rounded; those that would be equal or below ``least`` once only."""
    step = 2 if even else 1
    values = {max(least, step * round(factor * published / step)): factor for factor in FACTORS}
    return [Size(axis, value, factor if value != least else value / published) for value, factor in values.items()]


def along(axes: Iterable[Size], at: Callable[[Size], list[Case]]) -> list[Case]:
    """The cases at all sizes."""
    return [case for size in axes for case in at(size)]


def counted(call: Callable[[], object]) -> int:
    """Arithmetic of the matrix products of a call, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def distance(ours: torch.Tensor, theirs: object) -> float:
    """Largest absolute difference."""
    return float((ours.double() - torch.as_tensor(theirs).double()).abs().max())


def relative(ours: torch.Tensor, theirs: object) -> float:
    """L2 norm of the difference over that of ours."""
    return float((ours.double() - torch.as_tensor(theirs).double()).norm() / ours.double().norm())


def beside(
    ours: Case, others: Mapping[str, Callable[[], object]], tolerance: float, differ: Callable[..., float] = distance
) -> list[Case]:
    """Ours and its alternatives, whose results may differ from its own by the tolerance."""

    def case(variant: str, call: Callable[[], object]) -> Case:
        differs = lambda: differ(ours.call(), call())  # noqa: E731
        return ours._replace(variant=variant, call=call, differs=differs, tolerance=tolerance, flop=0, traffic=0)

    return [ours, *(case(name, call) for name, call in others.items())]


def checked(case: Case) -> list[Row]:
    """What is known of a case without timing it; raises if it differs from ours by more than it may."""
    rows = []
    if case.differs:
        found = case.differs()
        if not found <= case.tolerance:
            raise Different(f"{case.benchmark}, {case.variant}, {case.size}: {found:.2g}, allowed {case.tolerance:.2g}")
        rows += [case.row(found, "difference"), case.row(case.tolerance, "tolerance")]
    rows += [case.row(case.flop, f"flop, {case.precision}")] if case.flop else []
    rows += [case.row(case.traffic, "byte")] if case.traffic else []
    return rows


def timed(case: Case) -> float:
    """Processor seconds per unit of work: other programs on the machine disturb them less than the clock on the wall."""
    start = time.process_time()
    case.call()
    return (time.process_time() - start) / case.work


def take_turns(cases: Sequence[Case], repetitions: int = REPETITIONS) -> list[Row]:
    """All rows of all cases; the first round warms up.

    Garbage is collected between rounds, and not in whichever case it falls on. Short calls are made once more before each timing: the
    first one after a large case pays for the memory that this has left.
    """
    rows = [row for case in tqdm(cases, "check", disable=None) for row in checked(case)]
    quick = [timed(case) * case.work < QUICK for case in cases]
    spent = [0.0] * len(cases)
    for repetition in tqdm(range(repetitions), "time", disable=None):
        gc.collect()
        gc.disable()
        for i, case in enumerate(cases):
            if repetition < AT_LEAST or spent[i] < BUDGET:
                if quick[i]:
                    case.call()
                seconds = timed(case)
                spent[i] += seconds * case.work
                rows.append(case.row(seconds, case.unit, repetition))
        gc.enable()
    return rows
