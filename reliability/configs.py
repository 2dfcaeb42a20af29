"""What a researcher may type into each config: sensible values of every field, and values that slip in by mistake."""

import random
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Zero, signs, ends of the float range, other types of number, text, nothing at all.
NUMBERS = (0, -1, 1, 2, 3, 0.5, -0.5, 1e-3, 1e-12, 1e-300, 1e3, 1e30, 1e300, float("nan"), float("inf"), -float("inf"))
KINDS: tuple[object, ...] = (
    None,
    True,
    False,
    "",
    "3",
    "adam",
    (),
    (1,),
    [0.5],
    {},
    3 + 0j,
    Fraction(1, 3),
    10**400,
    2**63,
)
ARRAYS = (np.int64(3), np.float32(0.5), np.float64(0.5), np.array(3), np.array([1.0, 2.0]), torch.tensor(2.0))
ODD = (*NUMBERS, *KINDS, *ARRAYS)
BIG = 100  # of what decides how much memory or time a run takes: larger numbers are valid, and no fault
Run = Callable[[Any, Path], object]  # of a config, in a folder for what it saves


@dataclass(frozen=True)
class Space:
    """Where the configs of one class are drawn from.

    Attributes:
        make: from values of all fields; the config's class, or a function that builds it.
        good: sensible values of each field.
        sizes: fields that decide how large a run is.
    """

    make: Callable[..., Any]
    good: Mapping[str, tuple]
    sizes: Set[str] = field(default_factory=frozenset)


def small(value: object) -> bool:
    """Whether a value of a size is none, or one that a small run can have."""
    try:
        return not value > BIG  # type: ignore[operator]
    except Exception:
        return True


def drawn(space: Space, gen: random.Random) -> dict[str, Any]:
    """Values of all fields: half the time sensible ones, else with one to three of them replaced by others."""
    values = {name: gen.choice(good) for name, good in space.good.items()}
    for name in gen.sample(sorted(values), min(len(values), gen.choice((0, 0, 0, 1, 2, 3)))):
        values[name] = gen.choice([odd for odd in ODD if name not in space.sizes or small(odd)])
    return values
