"""The parameters of all chapters agree with their table; what is no good is refused before anything runs."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from book.cli import pairs
from book.notebooks import chapter_files
from book.parameters import (
    Parameter,
    Range,
    check_values,
    load_table,
    notebook_parameters,
    parse_value,
    read_parameters,
)
from book.registry import chapters, find
from book.run import run
from icl_lib.paths import root
from icl_lib.validate import ConfigError

BOOK = root()
TABLE = load_table(BOOK)
CHAPTERS = {
    str(path.relative_to(BOOK / "chapters").with_suffix("")): path
    for path in chapter_files(BOOK)
    if notebook_parameters(path)
}
PARAMETERS = {label: read_parameters(path, TABLE.get(label, {})) for label, path in CHAPTERS.items()}
EVERY = [(label, parameter) for label, known in PARAMETERS.items() for parameter in known.values()]
REDUCED = yaml.safe_load((BOOK / "tests/reference/settings.yml").read_text())


def test_table_and_cells_agree() -> None:
    assert set(TABLE) == set(CHAPTERS)
    for label, known in PARAMETERS.items():
        assert list(TABLE[label]) == list(known), f"{label}: names or their order differ from the parameters cell"


@pytest.mark.parametrize(("label", "parameter"), EVERY, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_parameter_has_a_meaning_and_a_range_that_holds_its_default(label: str, parameter: Parameter) -> None:
    assert parameter.meaning
    assert parameter.range != Range() or ("int" not in parameter.kind and "float" not in parameter.kind)
    parameter.check(parameter.default)


@pytest.mark.parametrize("path", REDUCED)
def test_the_smaller_settings_are_allowed(path: str) -> None:
    label = path.removeprefix("chapters/").removesuffix(".ipynb")
    check_values(PARAMETERS[label], REDUCED[path])


def test_reading_and_checking_import_neither_torch_nor_pandas() -> None:
    code = "import sys, book.parameters; print([m for m in ('torch', 'pandas', 'papermill') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(BOOK)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "[]\n"


def test_lists_without_a_type_take_that_of_their_default() -> None:
    assert PARAMETERS["softmax/L1_in_domain"]["batch_sizes"].kind == "list[int]"
    assert PARAMETERS["softmax/L2_iterations"]["alphas"].kind == "list[float]"
    surplus = PARAMETERS["softmax/L4_out_of_domain"]["surplus"]
    assert (surplus.kind, surplus.meaning) == ("list[list[float]]", "beta and eta")
    assert surplus.allowed.startswith("a list of lists of numbers in (0, 1000], each once")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-1e-9, 1.1, math.nan, math.inf]),
        ("(0, 1)", [1e-9, 0.5], [0, 1]),
        ("[2, inf)", [2, 10**9], [1, math.inf]),
        ("(-inf, 1e-3]", [-1e9, 1e-3], [1, -math.inf]),
    ],
)
def test_ranges(text: str, inside: list[float], outside: list[float]) -> None:
    assert all(x in Range(text) for x in inside)
    assert not any(x in Range(text) for x in outside)


@pytest.mark.parametrize("text", ["", "0 to 1", "[1, 0]", "[0; 1]", "[a, b]", "[0, 1"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="^range="):
        Range(text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"alhpa": 0.5}, "L1: alhpa=0.5: unknown parameter (did you mean alpha?); this chapter has n_seeds, alpha,"),
        ({"alpha": 1.5}, "L1: alpha=1.5: must be a number in (0, 1]"),
        ({"alpha": "0.5"}, "L1: alpha='0.5': must be a number in (0, 1]"),
        ({"n_seeds": 1}, "L1: n_seeds=1: must be an integer in [2, 1000]"),
        ({"n_seeds": 2.0}, "L1: n_seeds=2.0: must be an integer in [2, 1000]"),
        ({"batch_sizes": [2, 0]}, "L1: batch_sizes=[2, 0]: must be a list of integers in [1, 100000]"),
        ({"batch_sizes": []}, "L1: batch_sizes=[]: must be a list of integers in [1, 100000]"),
        ({"batch_sizes": 2}, "L1: batch_sizes=2: must be a list of integers in [1, 100000]"),
        ({"alpha": "x" * 500}, f"L1: alpha='{'x' * 76}...: must be a number in (0, 1]"),
        ({"a\nb": 1}, r"L1: 'a\nb'=1: unknown parameter"),
    ],
)
def test_refusals(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_values(PARAMETERS["softmax/L1_in_domain"], given, "L1: ")
    assert str(error.value).startswith(message)


def test_values_take_the_type_of_their_parameter() -> None:
    known = PARAMETERS["softmax/L1_in_domain"]
    assert check_values(known, {}) == check_values(known, {"beta": 2, "n_steps": 300})
    checked = check_values(known, {"alpha": 1, "batch_sizes": (4, 128)})
    assert (checked["alpha"], type(checked["alpha"])) == (1.0, float)
    assert checked["batch_sizes"] == [4, 128]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("0.5", "float", 0.5), ("1e-3", "float", 1e-3), ("-2", "int", -2), ("[1, 2.5]", "list[float]", [1, 2.5]),
        ("true", "bool", True), ("False", "bool", False), ("1", "str", "1"), ("exact", "str", "exact"),
        ("", "int", ""), ("9" * 5000, "int", "9" * 5000), ("[" * 9999, "list[int]", "[" * 9999),
    ],
)  # fmt: skip
def test_what_a_text_says(text: str, kind: str, value: object) -> None:
    assert parse_value(text, kind) == value


CODE = [
    "__import__('os').system('touch FILE')",
    "open('FILE', 'w')",
    "[x for x in range(3)]",
    "!!python/object/apply:os.system ['touch FILE']",
    "!touch FILE",
    "%run x",
    "$(touch FILE)",
    "lambda: 1",
    "1 if True else 2",
    "exec('x')",
    "../../outside",
]


@pytest.mark.parametrize("text", CODE)
@pytest.mark.parametrize("kind", ["float", "list[float]", "int", "bool", "str"])
def test_code_stays_text(text: str, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "made"
    value = parse_value(text.replace("FILE", str(file)), kind)
    assert isinstance(value, str)
    assert not file.exists()
    if kind != "str":
        with pytest.raises(ConfigError):
            Parameter("x", kind, None).check(value)


def bad_value(parameter: Parameter) -> st.SearchStrategy[object]:
    """Values of a wrong type, or numbers out of the parameter's range."""
    low, high = parameter.range.ends()
    outside = st.one_of(
        st.floats(max_value=low, exclude_max=True),
        st.floats(min_value=high, exclude_min=True),
        st.just(math.nan),
    )
    wrong = st.one_of(
        st.text(), st.booleans(), st.none(), st.dictionaries(st.text(), st.integers()), st.sampled_from(CODE)
    )
    if parameter.kind.startswith("list"):
        return st.one_of(st.lists(outside, min_size=1), wrong, st.integers(), st.just([]))
    return st.one_of(outside, wrong, st.lists(st.integers()))


@st.composite
def bad_sets(draw: st.DrawFn) -> tuple[str, str, dict[str, object]]:
    """A chapter, the name that is wrong, and a set of parameters in which nothing else is."""
    label = draw(st.sampled_from(sorted(PARAMETERS)))
    known = PARAMETERS[label]
    good = {name: known[name].default for name in draw(st.sets(st.sampled_from(sorted(known))))}
    if draw(st.booleans()):
        wrong = draw(st.text(min_size=1).filter(lambda name: name not in known))
        return label, wrong, {**good, wrong: draw(st.integers())}
    wrong = draw(st.sampled_from(sorted(known)))
    return label, wrong, {**good, wrong: draw(bad_value(known[wrong]))}


def no_process(*arguments: object, **options: object) -> None:
    raise AssertionError("a process was started")


@given(bad_sets())
@settings(max_examples=300)
def test_bad_sets_are_refused_by_name_and_start_nothing(case: tuple[str, str, dict[str, object]]) -> None:
    label, wrong, values = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", no_process)
        with pytest.raises(ConfigError) as error:
            check_values(PARAMETERS[label], values, f"{label}: ")
    message = str(error.value)
    assert message.startswith(f"{label}: {wrong if wrong.isidentifier() else repr(wrong)[:77]}")
    assert "unknown parameter" in message or "must be" in message
    assert len(message.splitlines()) == 1


COMMITTED = chapters(BOOK)


def bad_texts(parameter: Parameter) -> list[str]:
    """What could be typed for a value and is none."""
    low, high = parameter.range.ends()
    numbers = [repr(low - 1), repr(high + 1), "nan", "inf", "1e999", "0x", "--1", ""]
    wrong = [*CODE, *numbers, "None", "true", "{}", "[[]]", "'0.5'"]
    if parameter.kind.startswith("list"):
        return [*wrong, "[]", "1", f"[{high + 1}]", f"[{low - 1}]", "['a']", "[True]", "[open('FILE')]"]
    return [*wrong, "[1]", "[]", "1,5"]


def test_whatever_is_typed_wrong_is_refused_by_name_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("book.run.compute", no_process)
    monkeypatch.setattr(subprocess, "Popen", no_process)
    tried = 0
    for chapter in COMMITTED:
        good = {name: known.default for name, known in chapter.parameters.items()}
        for name, known in chapter.parameters.items():
            slips = [name[:-1] + "_", name + "s", name.upper()]
            texts = [f"{name}={text}" for text in bad_texts(known)]
            texts += [f"{slip}={known.default}" for slip in slips if slip not in good]
            for text in texts:
                tried += 1
                given = pairs(chapter, [text])
                with pytest.raises(ConfigError) as error:
                    run(chapter, {**good, **given})
                (line,) = str(error.value).splitlines()
                if name in given:
                    assert line.startswith(f"{chapter.id}: {name}=") and f"must be {known.allowed}" in line
                else:
                    assert line.startswith(f"{chapter.id}: {text.partition('=')[0]}=") and "unknown parameter" in line
    assert tried >= 1000


def test_a_grid_need_not_hold_the_published_points() -> None:
    """Before, L4 refused every list of sums without 0.5, 1 and 1.3."""
    known = PARAMETERS["softmax/L4_out_of_domain"]
    assert known["sums"].check([0.8]) == [0.8]
    with pytest.raises(ConfigError, match=r"\(a list of one is written \[0\.8\]\)$"):
        known["sums"].check(0.8)


def test_entries_of_a_list_are_different() -> None:
    """A repeated value used to fail after training, where tables are made of it."""
    known = PARAMETERS["softmax/L1_in_domain"]
    with pytest.raises(ConfigError, match=r"^L1: batch_sizes=\[2, 2\]: must be a list of integers in .*, each once$"):
        check_values(known, {"batch_sizes": [2, 2]}, "L1: ")
    with pytest.raises(ConfigError, match=r"^surplus="):
        check_values(PARAMETERS["softmax/L4_out_of_domain"], {"surplus": [[2.0, 1.0], [2, 1]]})
    assert Parameter("x", "list[int]", None, repeats=True).check([1, 1]) == [1, 1]


def test_what_does_not_go_together_is_refused_with_the_values_of_the_others() -> None:
    rows = Parameter("rows", "list[list[float]]", [], conditions=("all(len(row) == n for row in rows)",))
    known = {"rows": rows, "n": Parameter("n", "int", 2)}
    assert check_values(known, {"rows": [[1, 2], [2, 2]]})["rows"] == [[1.0, 2.0], [2.0, 2.0]]
    with pytest.raises(
        ConfigError, match=r"^X: rows=\[\[1.0\]\]: must be .*, with all\(len.* for row in rows\) \(here n = 2\)$"
    ):
        check_values(known, {"rows": [[1]]}, "X: ")


@pytest.mark.parametrize("label", sorted(PARAMETERS))
def test_defaults_go_together(label: str) -> None:
    check_values(PARAMETERS[label], {})


def test_a_condition_that_cannot_be_computed_does_not_hold() -> None:
    """1 / 1e-320 is infinite, and infinity cannot be rounded: that was a traceback."""
    with pytest.raises(ConfigError, match=r"^K2: every=1.0: must be .* \(here dt = 1e-320\)$|^K2: dt=1e-320: must be "):
        check_values(PARAMETERS["mean_field/K2_two_timescales"], {"dt": 1e-320, "every": 1.0}, "K2: ")


def test_chapters_are_found_in_upper_and_lower_case() -> None:
    assert find("l4", BOOK).id == find("L4_Out_of_Domain", BOOK).id == "L4"
    assert find("k1", BOOK).id == "K1" and find("k10", BOOK).id == "K10"
