"""Divergence on purpose, in every solver: steps far too long, covariances that cannot be inverted, NaN among the data.

A step is made 100 times as long as a good one, then 10^4, 10^8 and 10^160 times, until the solver refuses; it may also
end with finite numbers. What it says must name the step (or the time) and the step size. Where data are at fault, any documented error will do.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from reliability import solvers, spoilt
from reliability.outcome import FINITE, NOT_FINITE, Row, ending, good

KIND = "divergence"
FACTORS = (1e2, 1e4, 1e8, 1e160)
NAMES_STEP = re.compile(r"\b(step|time) [-+\d.e]+")
NAMES_SIZE = re.compile(r"\b(step_size|dt|w_rate|tolerance)=[-+\d.e]+")


def names_both(message: str) -> bool:
    """Whether a message says at which step, and with which step size."""
    return bool(NAMES_STEP.search(message) and NAMES_SIZE.search(message))


def longer(case: str, solve: Callable[[float], object], factors: Sequence[float] = FACTORS) -> Iterator[Row]:
    """One row per factor, up to the first that the solver refuses."""
    for factor in factors:
        outcome, message = ending(partial(solve, factor))
        named = outcome in (FINITE, NOT_FINITE) or names_both(message)
        why = "" if named else "names no step or no step size: "
        yield Row(KIND, f"{case}: step x {factor:.0e}", outcome, 1, good(outcome) and named, why + message)
        if outcome != FINITE:
            return


def refused(case: str, solve: Callable[[], object]) -> Row:
    """Data from which no finite result can come: only a documented error is right."""
    outcome, message = ending(solve)
    return Row(KIND, case, outcome, 1, good(outcome) and outcome != FINITE, message)


def rows() -> Iterator[Row]:
    for case, solve in solvers.LONGER.items():
        yield from longer(case, solve)
    for case, solve in solvers.LAST.items():
        yield from longer(case, solve, FACTORS[-1:])
    for case, call in spoilt.SPOILT.items():
        yield refused(case, call)
