"""Which points a sweep has."""

from pathlib import Path

import pytest

from book.parameters import Parameter
from book.registry import find
from book.sweep import combinations, grid_values
from icl_lib.validate import ConfigError


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        ("float", "0.2,0.4", [0.2, 0.4]),
        ("float", "0.2", [0.2]),
        ("float", "1:4:4", [1.0, 2.0, 3.0, 4.0]),
        ("float", "1:0.1:4", [1.0, 0.7, 0.4, 0.1]),  # the floats that one would type
        ("float", "0.1:0.7:7", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("int", "1:4:4", [1, 2, 3, 4]),
        ("int", "1:4:3", [1.0, 2.5, 4.0]),  # refused when it is checked: no integer
        ("list[int]", "[1,2],[3]", [[1, 2], [3]]),
        ("list[int]", "[1,2]", [[1, 2]]),
        ("str", "a, b", ["a", "b"]),
    ],
)
def test_values(kind: str, text: str, values: list[object]) -> None:
    found = grid_values(Parameter("x", kind, None), text)
    assert found == values
    assert [type(x) for x in found] == [type(x) for x in values]


@pytest.mark.parametrize(
    "text", ["1:2", "1:2:1", "1:2:3.5", "a:b:3", "1:2:3:4", "::", "1:2:__import__('os')", "0:1e999:3"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ConfigError, match="^x=.*: must be low:high:number"):
        grid_values(Parameter("x", "float", None), text)


def test_a_range_is_counted_before_it_is_made(book: Path) -> None:
    chapter = find("T1", book)
    with pytest.raises(ConfigError, match=r"alpha='0.1:1:1000000000000': must be low:high:number, with a number in"):
        combinations(chapter, ["alpha=0.1:1:1000000000000"], {})  # a list of them took 21 GB
    assert len(combinations(chapter, ["alpha=1:0.1:4"], {})) == 4
    same = [combinations(chapter, [grid], {}) for grid in ("alpha=1:0.1:3", "alpha=1,0.55,0.1")]
    assert same[0] == same[1]


def test_combinations_in_order_and_once(book: Path) -> None:
    chapter = find("T1", book)
    points = combinations(chapter, ["alpha=0.25,0.5,0.25", "beta=1,2"], {"pause": 1}, 5)
    assert [(p["alpha"], p["beta"]) for p in points] == [(0.25, 1), (0.25, 2), (0.5, 1), (0.5, 2)]
    assert {(p["pause"], p["n_seeds"], p["shape"]) for p in points} == {(1.0, 5, "line")}
    assert combinations(chapter, [], {}) == [chapter.values({})]


@pytest.mark.parametrize(
    ("grids", "given", "message"),
    [
        (["alhpa=1"], {}, "T1: alhpa='1': unknown parameter (did you mean alpha?)"),
        (["alpha=0.5,2"], {}, "T1: alpha=2: must be a number in [0, 1]"),
        (["alpha=0.5,exec('x')"], {}, "T1: alpha=\"0.5,exec('x')\": must be a number in [0, 1]"),
        (["beta=1:2:3"], {}, "T1: beta=1.0: must be an integer in [1, 10]"),
        (["alpha=0.5#x"], {}, "T1: alpha='0.5#x': must be a number in [0, 1]"),
        (["alpha=1", "alpha=0"], {}, "T1: --grid alpha=0: must name each parameter once"),
        (["alpha=1"], {"alpha": 1}, "T1: --grid alpha=1: must name each parameter once"),
        (["alpha=0:1:1000", "pause=0:1:1000"], {}, "T1: points=1000000: must be in [1, 100000]"),
    ],
)
def test_refusals(book: Path, grids: list[str], given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        combinations(find("T1", book), grids, given)
    assert str(error.value).startswith(message)


def test_seeds(book: Path) -> None:
    with pytest.raises(ConfigError, match=r"T1: n_seeds=1: must be an integer in \[2, 100\]"):
        combinations(find("T1", book), [], {}, 1)
    with pytest.raises(ConfigError, match="T1: seeds=3: must be left out"):
        combinations(find("T1", book), [], {"n_seeds": 2}, 3)
    real = find("data_model", Path(__file__).parents[2])
    assert [p["seed"] for p in combinations(real, [], {}, 3)] == [0, 1, 2]
