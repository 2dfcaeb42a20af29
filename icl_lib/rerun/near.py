"""Whether a chapter that was executed again still says what it said: the rule of `icl verify`, and of nbval in the tests.

On one machine outputs come out letter by letter. Another processor rounds elsewhere, and training carries that on. So words
have to be the same, a number may be off by one per cent or one unit of its last digit, and an estimate with an interval,
``0.92 [0.82, 1.02]``, may have moved by no more than half the width of the recorded interval, which may have become up
to three times as wide or as narrow.
"""

import re
from collections.abc import Sequence
from typing import Any

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
PIECE = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]|({NUMBER})")
SHARE, ZERO = 0.01, 1e-9  # what a number may be off by; what counts as 0
WIDER = 3.0  # by how much an interval may have become wider or narrower


def unit(number: str) -> float:
    """One unit of the last digit of a number as it is printed."""
    mantissa, _, power = number.lower().partition("e")
    return 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))


def near_number(old: str, new: str) -> bool:
    """Off by no more than one per cent or one unit of the last digit; counts have to be equal."""
    a, b = float(old), float(new)
    if old == new:
        return True  # NaN too
    whole = "." not in old + new and "e" not in (old + new).lower()
    digit = 0 if whole else 1.01 * min(unit(old), unit(new))  # a count is a count
    return abs(a - b) <= max(SHARE * abs(a), digit, ZERO)


def near_interval(old: Sequence[str], new: Sequence[str]) -> bool:
    """Estimate, lower and upper end, recorded and new."""
    if all(map(near_number, old, new)):
        return True
    (a, low, high), (b, *ends) = map(float, old), map(float, new)
    widths = [(high - low) / 2, (ends[1] - ends[0]) / 2]
    alike = max(widths) <= max(WIDER * min(widths), ZERO)
    inside = all(abs(x - y) <= max(widths[0] * WIDER, ZERO) for x, y in zip((low, high), ends))
    return alike and inside and abs(a - b) <= max(widths[0], ZERO)


def words(text: str) -> str:
    """A text without its numbers; how many spaces there are between columns follows from them."""
    return re.sub(r"[ \t]+", " ", PIECE.sub("#", text))


def near_text(old: str, new: str) -> bool:
    """Equal but for numbers, and those near.

    >>> near_text("error 0.92 [0.82, 1.02]", "error 0.95 [0.84, 1.06]")
    True
    >>> near_text("8 of 10 seeds", "7 of 10 seeds")
    False
    >>> near_text("a      1.5    2", "a     1.51    2")
    True
    """
    if words(old) != words(new):
        return False
    for a, b in zip(PIECE.findall(old), PIECE.findall(new), strict=True):
        if bool(a[3]) != bool(b[3]) or not (near_number(a[3], b[3]) if a[3] else near_interval(a[:3], b[:3])):
            return False
    return True


def texts(outputs: Sequence[Any]) -> dict[str, str]:
    """What outputs say, by stream or MIME type; pictures say nothing here."""
    found: dict[str, str] = {}
    for output in outputs:
        said = {output["name"]: output["text"]} if output["output_type"] == "stream" else output.get("data", {})
        for kind, text in said.items():
            if not kind.startswith("image/"):
                found[kind] = found.get(kind, "") + (text if isinstance(text, str) else repr(text))
    return found


def near_outputs(old: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether all outputs of a cell are near the recorded ones."""
    a, b = texts(old), texts(new)
    return a.keys() == b.keys() and all(near_text(a[kind], b[kind]) for kind in a)


def near_value(old: Any, new: Any) -> bool:
    """JSON values, like those of result.json: an estimate with its ends by the rule for intervals, words and counts exactly."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            return False
        ends = ("estimate", "low", "high") if {"estimate", "low", "high"} <= old.keys() else ()
        rest = all(near_value(old[key], new[key]) for key in old if key not in ends)
        return rest and (not ends or near_interval(*([repr(float(d[key])) for key in ends] for d in (old, new))))
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(near_value, old, new))
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (old, new))
    return near_number(repr(old), repr(new)) if numbers else bool(type(old) is type(new) and old == new)
