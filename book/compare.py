"""Whether two notebooks, results or files say the same: words exactly, numbers by a rule.

`NEAR` is the rule for a chapter that is executed again, of `icl verify` and of nbval in the tests. On one machine outputs come
out letter by letter. Another processor rounds elsewhere, and training carries that on. So a number may be off by one per cent or
one unit of its last digit, and an estimate with an interval, ``0.92 [0.82, 1.02]``, may have moved by no more than half the width
of the recorded interval, which may have become up to three times as wide or as narrow.

`EQUAL` is the rule of ``make record``: what is equal up to rounding is not written again.
"""

import copy
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
PIECE = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]|({NUMBER})")
SHARE, ZERO = 0.01, 1e-9  # what a near number may be off by; what counts as 0
WIDER = 3.0  # by how much an interval may have become wider or narrower
REL, ABS = 1e-3, 1e-9  # what counts as an equal number


@dataclass(frozen=True)
class Rule:
    """What counts as the same.

    Attributes:
        number: numbers as they are printed, recorded and new.
        interval: estimates, each with the ends of its interval.
        spaces: whether it counts how many spaces there are between words; in a table that follows from its numbers.
    """

    number: Callable[[str, str], bool]
    interval: Callable[[Sequence[str], Sequence[str]], bool]
    spaces: bool


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


def equal_number(old: str, new: str) -> bool:
    """Equal up to rounding; NaN equals NaN."""
    return old == new or math.isclose(float(old), float(new), rel_tol=REL, abs_tol=ABS)


NEAR = Rule(near_number, near_interval, spaces=False)
EQUAL = Rule(equal_number, lambda old, new: all(map(equal_number, old, new)), spaces=True)


def words(text: str, spaces: bool = False) -> str:
    """A text without its numbers, and without spaces that follow from them."""
    numbered = PIECE.sub("#", text)
    return numbered if spaces else re.sub(r"[ \t]+", " ", numbered)


def same_text(old: str, new: str, rule: Rule) -> bool:
    """Whether two texts are equal but for numbers, and those the same by a rule.

    >>> same_text("error 0.92 [0.82, 1.02]", "error 0.95 [0.84, 1.06]", NEAR)
    True
    >>> same_text("8 of 10 seeds", "7 of 10 seeds", NEAR)
    False
    >>> same_text("a      1.5    2", "a     1.51    2", NEAR)
    True
    """
    if old == new:
        return True
    if words(old, rule.spaces) != words(new, rule.spaces):
        return False
    return all(
        bool(a[3]) == bool(b[3]) and (rule.number(a[3], b[3]) if a[3] else rule.interval(a[:3], b[:3]))
        for a, b in zip(PIECE.findall(old), PIECE.findall(new), strict=True)
    )


def same_value(old: Any, new: Any, rule: Rule) -> bool:
    """Whether JSON values are the same, like those of result.json: an estimate with its ends by the rule for intervals, words exactly."""
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            return False
        named = ("estimate", "low", "high")
        ends = named if all(isinstance(d.get(key), int | float) for key in named for d in (old, new)) else ()
        rest = all(same_value(old[key], new[key], rule) for key in old if key not in ends)
        return rest and (not ends or rule.interval(*([repr(float(d[key])) for key in ends] for d in (old, new))))
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(same_value(a, b, rule) for a, b in zip(old, new))
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (old, new))
    return rule.number(repr(old), repr(new)) if numbers else bool(type(old) is type(new) and old == new)


def same_file(a: Path, b: Path) -> bool:
    """Whether two files exist and are equal up to rounding; pictures are compared byte by byte."""
    if not (a.is_file() and b.is_file()):
        return False
    if a.suffix in {".json", ".csv", ".svg"}:
        old, new = (file.read_text(encoding="utf-8") for file in (a, b))
        as_json = a.suffix == ".json"
        return same_value(json.loads(old), json.loads(new), EQUAL) if as_json else same_text(old, new, EQUAL)
    return a.read_bytes() == b.read_bytes()


def code_cells(notebook: Any) -> list[Any]:
    """Code cells, without the one that papermill adds for parameters."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]


def joined_streams(outputs: Sequence[Any]) -> list[Any]:
    """Outputs with neighbouring pieces of one stream joined: where a stream is cut is a matter of timing."""
    joined: list[Any] = []
    for output in copy.deepcopy(list(outputs)):
        if joined and output.output_type == "stream" and output.get("name") == joined[-1].get("name"):
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _said(output: Any) -> dict[str, Any]:
    """What an output says, by stream or MIME type."""
    return {output["name"]: output["text"]} if output["output_type"] == "stream" else dict(output.get("data", {}))


def texts(outputs: Sequence[Any]) -> dict[str, str]:
    """What outputs say, by stream or MIME type; pictures say nothing here."""
    found: dict[str, str] = {}
    for kind, text in (pair for output in outputs for pair in _said(output).items()):
        if not kind.startswith("image/"):
            found[kind] = found.get(kind, "") + (text if isinstance(text, str) else repr(text))
    return found


def same_outputs(old: Sequence[Any], new: Sequence[Any], rule: Rule = NEAR) -> bool:
    """Whether the outputs of a cell say the same; pictures are not compared."""
    a, b = texts(old), texts(new)
    return a.keys() == b.keys() and all(same_text(a[kind], b[kind], rule) for kind in a)


def _same_output(old: Any, new: Any, pictures: bool, exact: bool) -> bool:
    """Whether two outputs are of one kind and equal up to rounding; letter by letter if ``exact``."""
    a, b = _said(old), _said(new)
    if (old.output_type, a.keys()) != (new.output_type, b.keys()):
        return False

    def same(kind: str) -> bool:
        if kind.startswith("image/"):
            return not pictures or a[kind] == b[kind]
        text = isinstance(a[kind], str) and isinstance(b[kind], str)
        return a[kind] == b[kind] or (not exact and (same_text if text else same_value)(a[kind], b[kind], EQUAL))

    return all(map(same, a))


def same_cell(old: Any, new: Any, *, pictures: bool) -> bool:
    """Whether a code cell's outputs are equal up to rounding, in their order; pictures only if asked for.

    What nbval checks it compares letter by letter first, so there the text has to be the same.
    """
    exact = old.source.startswith("# NBVAL_CHECK_OUTPUT")
    a, b = joined_streams(old.outputs), joined_streams(new.outputs)
    return len(a) == len(b) and all(_same_output(x, y, pictures, exact) for x, y in zip(a, b, strict=True))


def same_notebook(old: Any, new: Any, *, pictures: bool) -> bool:
    """Whether two notebooks with the same code have equal outputs (`same_cell`), of the same order of execution."""
    pairs = zip(code_cells(old), code_cells(new), strict=True)
    return all(a.execution_count == b.execution_count and same_cell(a, b, pictures=pictures) for a, b in pairs)
