"""Which settings a sweep consists of: every combination of the values on its grids."""

import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from book.parameters import Parameter, parse_value, unknown
from book.registry import ChapterFile
from icl_lib.validate import ConfigError, require

MOST = 100_000  # points of a sweep
MAX = sys.float_info.max


def grid_values(parameter: Parameter, text: str) -> list[object]:
    """The values that a grid names: ``0.2,0.4``, or ``1:4:7`` for seven from 1 to 4 at equal distances.

    Each is the float nearest to the fraction meant, so that it equals what one would type.

    Raises:
        ConfigError: for a range that is not low:high:number, or with more values than a sweep may have points.

    >>> from book.ranges import ANY
    >>> grid_values(Parameter("alpha", "float", 0.8, "", ANY, ""), "0:1:5")
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> grid_values(Parameter("alpha", "float", 0.8, "", ANY, ""), "1:0.1:4")
    [1.0, 0.7, 0.4, 0.1]
    """
    if parameter.kind in ("int", "float") and ":" in text:
        parts: list[Any] = [parse_value(part, "float") for part in text.split(":")]
        numbers = all(
            isinstance(part, int | float) and not isinstance(part, bool) and -MAX <= part <= MAX for part in parts
        )
        good = len(parts) == 3 and numbers and isinstance(parts[2], int) and 2 <= parts[2] <= MOST
        require(good, parameter.name, text, f"low:high:number, with a number in [2, {MOST}]")
        low, high = (Fraction(str(part)) for part in parts[:2])
        n = parts[2]
        values = [float(low + (high - low) * i / (n - 1)) for i in range(n)]
        whole = parameter.kind == "int" and all(value == int(value) for value in values)
        return [int(value) for value in values] if whole else list(values)
    if parameter.kind == "str":
        words = [part.strip() for part in text.split(",")]
        require(all(words), parameter.name, text, "texts, with a comma between two of them")
        return list(words)
    value = parse_value(text, parameter.kind)
    found = value if isinstance(value, tuple) else (value,)
    return [number + 0.0 if isinstance(number, float) else number for number in found]  # -0 is 0


def combinations(
    chapter: ChapterFile, grids: Sequence[str], given: Mapping[str, object], n_seeds: int | None = None
) -> list[dict[str, object]]:
    """All parameters of every point, checked, each setting once and in the order of the grids.

    Args:
        grids: texts NAME=VALUES, see `grid_values`.
        given: values that all points share.
        n_seeds: the parameter ``n_seeds``; in a chapter that has a ``seed`` instead, so many of them.

    Raises:
        ConfigError: for anything that the chapter refuses, a name given twice, or too many points.
    """
    axes: dict[str, list[object]] = {}
    for grid in grids:
        name, _, text = grid.partition("=")
        if name not in chapter.parameters:
            raise unknown(name, text, chapter.parameters, f"{chapter.id}: ")
        if name in axes or name in given:
            raise ConfigError(f"{chapter.id}: --grid {grid}: must name each parameter once")
        axes[name] = grid_values(chapter.parameters[name], text)
    shared = dict(given)
    if n_seeds is not None:
        name = next((name for name in ("n_seeds", "seed") if name in chapter.parameters), "")
        if not name or name in axes or name in given:
            raise ConfigError(f"{chapter.id}: seeds={n_seeds}: must be left out, there is no other parameter for seeds")
        if name == "seed":
            require(0 < n_seeds <= MOST, f"{chapter.id}: seeds", n_seeds, f"in [1, {MOST}]")
            axes[name] = list(range(n_seeds))
        else:
            shared[name] = n_seeds
    total = 1
    for values in axes.values():
        total *= len(values)
    require(0 < total <= MOST, f"{chapter.id}: points", total, f"in [1, {MOST}]")
    points = [dict(zip(axes, values)) for values in itertools.product(*axes.values())]
    checked = [chapter.values({**shared, **point}) for point in points]
    return list({json.dumps(values, sort_keys=True): values for values in checked}.values())
