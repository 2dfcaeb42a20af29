"""How this library refuses a bad value: one exception, one message that names field, value and what is allowed."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Rational, Real
from pathlib import Path

# Where Linux says how much memory a container may have, in its present and its older form.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class ConfigError(ValueError):
    """A value the library cannot work with; the message names the field, the value and what is allowed."""


def require(ok: bool, field: str, value: object, allowed: str) -> None:
    """Raise ``ConfigError`` reading ``field=value: must be allowed`` unless `ok`.

    >>> require(0 <= 1.5 <= 1, "alpha", 1.5, "in [0, 1]")
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: alpha=1.5: must be in [0, 1]
    """
    if not ok:
        raise ConfigError(f"{field}={value!r}: must be {allowed}")


def require_number(
    field: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    allowed: str = "",
    or_infinity: bool = False,
) -> None:
    """Refuse anything but a finite number of Python or numpy (no bool) in the closed range [`low`, `high`].

    Args:
        or_infinity: let +inf pass, too.

    >>> require_number("alpha", "0.5", 0, 1)
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: alpha='0.5': must be a finite number in [0, 1]
    """
    number = _float(value)
    ok = (math.isfinite(number) and low <= number <= high) or (or_infinity and number == math.inf)
    require(ok, field, value, (allowed or f"a finite number{_range(low, high)}") + ", or infinity" * or_infinity)


def require_integer(
    field: str, value: object, low: float = -math.inf, high: float = math.inf, allowed: str = ""
) -> None:
    """Refuse anything but an integer (no bool, no float) in the closed range [`low`, `high`]."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high
    require(ok, field, value, allowed or f"an integer{_range(low, high)}")


def require_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    """Refuse anything but one of `choices`."""
    require(isinstance(value, str) and value in choices, field, value, "one of " + ", ".join(map(repr, choices)))


def require_members(field: str, values: object) -> None:
    """Refuse anything but a list or tuple with at least one entry: an ensemble has one per member.

    >>> require_members("configs", "L1")
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: configs='L1': must be a list with one entry per member, at least one
    """
    ok = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    require(ok, field, values, "a list with one entry per member, at least one")


def require_memory(field: str, value: object, n_bytes: float) -> None:
    """Refuse what needs more bytes than this machine or container has, before any is taken."""
    takes, has = n_bytes / 2**30, memory() / 2**30
    require(takes <= has, field, value, f"smaller: it takes {takes:.3g} GiB, this machine has {has:.3g}")


def memory(limits: tuple[str, ...] = LIMITS) -> int:
    """Bytes that this process may have: of the machine, or of the container that it runs in."""
    words = [Path(file).read_text(encoding="utf-8").strip() for file in limits if Path(file).is_file()]
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([has, *(int(word) for word in words if word.isdigit())])  # "max" is no limit


def _float(value: object) -> float:
    """A number as a float; NaN for anything else, and for integers that no float holds."""
    fraction = isinstance(value, Rational) and not isinstance(value, Integral)
    if not isinstance(value, Real) or isinstance(value, bool) or fraction:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _range(low: float, high: float) -> str:
    """The part of the message that states a closed range; empty when both ends are open."""
    if math.isinf(low) and math.isinf(high):
        return ""
    if math.isinf(high):
        return f" >= {low:g}"
    return f" <= {high:g}" if math.isinf(low) else f" in [{low:g}, {high:g}]"
