"""The parameters of a chapter, read from its notebook without running it, and checked before anything runs.

Names, types, defaults and meanings stand in the cell tagged ``parameters``; ranges and units in
``chapters/parameters.yml``, beside the chapters. A value is data: it is read as a literal and never evaluated. Conditions,
which tie parameters to each other, are the book's own.
"""

import ast
import difflib
import io
import math
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.notebooks import read_cells
from icl_lib.paths import read_json, read_yaml
from icl_lib.validate import ConfigError, require

TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list, tuple),
}
WORDS = {  # of messages: one value, several
    "int": ("an integer", "integers"),
    "float": ("a number", "numbers"),
    "str": ("a string", "strings"),
    "bool": ("True or False", "True or False"),
}
# A line of parameters.yml up to its first semicolon: a range and a unit; each may be missing. Conditions follow.
WRITTEN = re.compile(r"([\[(].*?[\])])?\s*(.*)")
REPEATS = "may repeat"  # stands among the conditions of a list whose entries need not be different
FUNCTIONS = {f.__name__: f for f in (abs, all, any, len, max, min, round, set, sorted, sum)}  # what conditions may call
NUMBER = re.compile(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")
SHOWN = 80  # characters of a refused value that a message shows


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


def _lines(notebook: Path) -> Iterator[tuple[str, str, Any, str]]:
    """Name, annotated type, default (None without one) and comment of every line of the cell tagged ``parameters``."""
    tagged = (cell for cell in read_cells(notebook) if "parameters" in cell["metadata"].get("tags", []))
    source = next(("".join(cell["source"]) for cell in tagged), "")
    lines = ast.parse(source).body
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    for line in lines:
        if isinstance(line, ast.AnnAssign):
            default = ast.literal_eval(line.value) if line.value else None
            comment = comments.get(line.end_lineno or line.lineno, "")
            yield ast.unparse(line.target), ast.unparse(line.annotation), default, comment


def notebook_parameters(notebook: Path) -> dict[str, str]:
    """Names and annotated types of the cell tagged ``parameters``."""
    return {name: kind for name, kind, _, _ in _lines(notebook)}


def ledger_setting(book: Path, id: str, notebook: Path) -> dict[str, object]:
    """The setting of the ledger: of the recorded result, whatever the notebook's defaults have become since.

    Of a chapter without a recorded result, and for parameters that it did not have then, the defaults.
    """
    default = {name: value for name, _, value, _ in _lines(notebook) if value is not None}
    result = book / "figures" / id / "result.json"
    recorded = read_json(result).get("parameters", {}) if result.is_file() else {}
    return default | {name: value for name, value in recorded.items() if name in default}


def is_of(value: object, kind: str) -> bool:
    """Whether a value has the annotated type; in ``list[float]`` every entry counts, and no bool is a number."""
    base, _, inner = kind.removesuffix("]").partition("[")
    ok = isinstance(value, TYPES[base]) and isinstance(value, bool) == (base == "bool")
    return ok and (not inner or all(is_of(v, inner) for v in value))  # type: ignore[attr-defined]


def _shown(value: object) -> str:
    """A value as messages show it: on one line, and cut where it is long."""
    return repr(value) if len(repr(value)) <= SHOWN else repr(value)[: SHOWN - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint in brackets at the known name most like another; "" if none is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def unknown(name: str, value: object, known: Iterable[str], where: str = "") -> ConfigError:
    """The refusal of a name that the chapter does not have, with the nearest one that it has."""
    name = name if name.isidentifier() else _shown(name)
    at = f"{where}{name}={_shown(value)}"
    return ConfigError(f"{at}: unknown parameter{nearest(name, known)}; this chapter has {', '.join(known)}")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a chapter. ``kind`` is its type with the type of its entries, such as ``list[float]``.

    ``conditions`` have to hold too: expressions of this and other parameters of the chapter, such as
    ``n_tasks % n_idr == 0``. Entries of a list have to be different, unless it ``repeats``.
    """

    name: str
    kind: str
    default: object
    meaning: str = ""
    range: Range = ANY
    unit: str = ""
    conditions: tuple[str, ...] = ()
    repeats: bool = False

    @property
    def allowed(self) -> str:
        """What a value has to be, in words."""
        nested, plain = self.kind.count("list"), self.kind.replace("list[", "").rstrip("]")
        words = ("", "a list of ", "a list of lists of ")[nested] + WORDS[plain][nested > 0]
        words += f" in {self.range.text}" if plain in ("int", "float") and self.range != ANY else ""
        words += ", each once" if nested and not self.repeats else ""
        return words + (f", with {' and '.join(self.conditions)}" if self.conditions else "")

    def check(self, value: object, where: str = "") -> object:
        """The value in the parameter's own type: lists are lists, and a whole number for a float is a float.

        Raises:
            ConfigError: for a wrong type or a number out of range; ``where`` begins the message.
        """
        several = value if isinstance(value, list | tuple) and not self.repeats else []
        different = all(entry not in several[:i] for i, entry in enumerate(several))
        if not (is_of(value, self.kind) and self._in_range(value) and different):
            single = self.kind.startswith("list") and is_of(value, self.kind.removeprefix("list[")[:-1])
            hint = f" (a list of one is written [{value}])" if single else ""
            raise ConfigError(f"{where}{self.name}={_shown(value)}: must be {self.allowed}{hint}")
        return self._plain(value)

    def _in_range(self, value: object) -> bool:
        if isinstance(value, list | tuple):
            return len(value) > 0 and all(map(self._in_range, value))
        return isinstance(value, bool | str) or value in self.range  # type: ignore[operator]

    def _plain(self, value: object) -> object:
        if isinstance(value, list | tuple):
            return [self._plain(entry) for entry in value]
        return float(value) if "float" in self.kind else value  # type: ignore[arg-type]


def _entries(kind: str, default: object) -> str:
    """The annotated type; where it says only ``list``, with the type that the default's entries have."""
    if kind != "list" or not isinstance(default, list):
        return kind
    if default and all(isinstance(entry, list) for entry in default):
        return f"list[{_entries('list', [x for entry in default for x in entry])}]"
    return "list[int]" if all(is_of(entry, "int") for entry in default) else "list[float]"


def load_table(book: Path) -> dict[str, dict[str, str]]:
    """``chapters/parameters.yml``: for each chapter and parameter its range, with a unit after it if it has one."""
    file = book / "chapters" / "parameters.yml"
    table = read_yaml(file) or {} if file.is_file() else {}
    good = isinstance(table, dict) and all(isinstance(ranges, dict) for ranges in table.values())
    good = good and all(isinstance(text, str) for ranges in table.values() for text in ranges.values())
    require(good, "file", str(file), "for each chapter a mapping from parameters to texts")
    return dict(table)


def read_parameters(notebook: Path, table: Mapping[str, str]) -> dict[str, Parameter]:
    """All parameters of a chapter by name, in the order of its cell; ``table`` holds its ranges and units.

    Raises:
        ConfigError: for a range that cannot be read.
    """
    found = {}
    for name, kind, default, meaning in _lines(notebook):
        written, *more = (part.strip() for part in table.get(name, "").split(";"))
        text, unit = WRITTEN.fullmatch(written).groups()  # type: ignore[union-attr]
        conditions = tuple(part for part in more if part != REPEATS)
        of = _entries(kind, default), default, meaning, Range(text) if text else ANY, unit, conditions, REPEATS in more
        found[name] = Parameter(name, *of)
    return found


def _holds(condition: str, values: Mapping[str, object]) -> bool:
    """Whether a condition of the book holds; where it cannot be computed, as beyond a float's range, it does not."""
    try:
        # The values are data in it, and it can call nothing but FUNCTIONS.
        return bool(eval(condition, {"__builtins__": {}, **values, **FUNCTIONS}))
    except ArithmeticError:
        return False


def check_values(known: Mapping[str, Parameter], values: Mapping[str, object], where: str = "") -> dict[str, object]:
    """All parameters of a chapter: the given values, checked, and the defaults of the others.

    Raises:
        ConfigError: for an unknown name, a wrong type, a number out of range or values that do not go together, in one line
            that starts with ``where``.

    >>> alpha = Parameter("alpha", "float", 0.8, "fraction of contexts", Range("[0, 1]"), "")
    >>> check_values({"alpha": alpha}, {"alpha": 1})
    {'alpha': 1.0}
    >>> check_values({"alpha": alpha}, {"alpa": 0.5})
    Traceback (most recent call last):
    ...
    icl_lib.validate.ConfigError: alpa=0.5: unknown parameter (did you mean alpha?); this chapter has alpha
    """
    for name, value in values.items():
        if name not in known:
            raise unknown(name, value, known, where)
    checked = {name: known[name].check(value, where) for name, value in values.items()}
    # Defaults too in their parameter's own type: the same setting has the same name, given or not.
    every = {name: checked.get(name, known[name]._plain(known[name].default)) for name in known}
    for name, parameter in known.items():
        for condition in parameter.conditions:
            if not _holds(condition, every):
                others = {n.id for n in ast.walk(ast.parse(condition)) if isinstance(n, ast.Name)} & {*every} - {name}
                here = ", ".join(f"{other} = {_shown(every[other])}" for other in sorted(others))
                hint = f" (here {here})" if here else ""
                raise ConfigError(f"{where}{name}={_shown(every[name])}: must be {parameter.allowed}{hint}")
    return every


def parse_value(text: str, kind: str) -> object:
    """The literal that a text says, or the text itself; nothing is evaluated. ``kind`` tells a string from a number.

    >>> parse_value("[0.2, 0.4]", "list[float]"), parse_value("true", "bool"), parse_value("1", "str")
    ([0.2, 0.4], True, '1')
    """
    if kind == "str":
        return text
    if "#" in text:  # to Python it begins a comment: what stands behind it would be dropped without a word
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text.strip(), text.strip()))
        small = any(
            float(number) == 0 and re.search("[1-9]", number.lower().partition("e")[0])
            for number in NUMBER.findall(text)
        )
        if small:  # too small for a float: it would be 0
            return text
        return 0.0 if isinstance(value, float) and value == 0 else value  # and not -0
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
