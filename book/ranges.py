"""Ranges of numbers as they are written in mathematics."""

import math
import re
from dataclasses import dataclass

from icl_lib.validate import require


@dataclass(frozen=True)
class Range:
    """An interval of numbers as it is written: ``[0, 1]``, ``(0, 1]``, ``[2, inf)``.

    Raises:
        ConfigError: for text that is no interval, or whose ends are the wrong way round.

    >>> 0 in Range("(0, 1]"), 1 in Range("(0, 1]")
    (False, True)
    """

    text: str = "(-inf, inf)"

    def __post_init__(self) -> None:
        require(self.ends()[0] <= self.ends()[1], "range", self.text, "from a smaller to a larger number")

    def ends(self) -> tuple[float, float]:
        """The lower and the upper end."""
        found = re.fullmatch(r"[\[(]\s*(-?[\d.e+-]+|-inf)\s*,\s*(-?[\d.e+-]+|inf)\s*[\])]", self.text)
        require(found is not None, "range", self.text, "like [0, 1], (0, 1] or [2, inf)")
        assert found is not None
        return float(found[1]), float(found[2])

    def __contains__(self, value: float) -> bool:
        low, high = self.ends()
        above = value > low or (value == low and self.text[0] == "[")
        return math.isfinite(value) and above and (value < high or (value == high and self.text[-1] == "]"))


ANY = Range()
