"""What still counts as the same result when a chapter is executed again."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4
from nbval import kernel
from nbval.plugin import IPyNbCell

from book.compare import EQUAL, NEAR, same_cell, same_outputs, same_text, same_value


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss 0.622 [-0.702, -0.542]", "loss 0.622 [-0.703, -0.542]"),
        ("| 0.919 [0.816, 1.02] |", "| 0.971 [0.755, 1.19] |"),
        ("0 [0, 0]", "2.16e-11 [-2.76e-11, 7.08e-11]"),
        ("after 13.7 epochs", "after 13.8 epochs"),
        ("left 0.25", "left 0.26"),
        ("1.2e-05", "1.3e-05"),
        ("12 345 prompts", "12 345 prompts"),
    ],
)
def test_near(old: str, new: str) -> None:
    assert same_text(old, new, NEAR) and same_text(old, old, NEAR)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| 0.919 [0.816, 1.02] |", "| 1.06 [0.96, 1.16] |"),  # moved by more than the half width
        ("| 0.919 [0.816, 1.02] |", "| 0.919 [0.3, 1.5] |"),  # far wider
        ("| 0.919 [0.816, 1.02] |", "| 0.919 [0.916, 0.922] |"),  # far narrower
        ("9 of 10 seeds", "10 of 10 seeds"),
        ("loss 0.250", "loss 0.255"),
        ("| reproduced |", "| partly |"),
        ("loss 0.25", "loss"),
        ("loss 0.25", "loss 0.25 [0.2, 0.3]"),
        ("0.25, 0.3", "0.25; 0.3"),
        ("-0.25", "0.25"),
        ("loss nan", "loss 0.3"),
    ],
)
def test_moved(old: str, new: str) -> None:
    assert not same_text(old, new, NEAR) and not same_text(new, old, NEAR)


def test_it_is_the_recorded_interval_that_counts() -> None:
    """An estimate may move by half its width; a new interval that is twice as wide allows no more."""
    narrow, wide = "0.92 [0.82, 1.02]", "1.06 [0.81, 1.31]"
    assert not same_text(narrow, wide, NEAR)
    assert same_text(wide, narrow, NEAR)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.floats(-0.9, 0.9))
def test_estimates_move_with_their_intervals(estimate: float, half: float, share: float) -> None:
    def told(e: float) -> str:
        return f"{e:.12g} [{e - half:.12g}, {e + half:.12g}]"

    moved = told(estimate + share * half)
    assert same_text(told(estimate), moved, NEAR)
    further = estimate + 1.1 * half + 0.011 * abs(estimate) + 1
    assert not same_text(told(estimate), told(further), NEAR)


def test_outputs() -> None:
    stream = v4.new_output("stream", name="stdout", text="loss 0.2500\n")
    cut = [v4.new_output("stream", name="stdout", text=text) for text in ("loss ", "0.2501\n")]
    assert same_outputs([stream], cut)
    assert not same_outputs([stream], [])
    assert not same_outputs([stream], [v4.new_output("stream", name="stderr", text="loss 0.2500\n")])
    shown = v4.new_output("display_data", data={"text/plain": "1", "image/png": "a"})
    assert same_outputs([shown], [v4.new_output("display_data", data={"text/plain": "1", "image/png": "b"})])


@pytest.mark.parametrize(("value", "passes"), [("0.2501", True), ("0.26", False)])
def test_nbval_uses_it(tmp_path: Path, value: str, passes: bool) -> None:
    (tmp_path / "conftest.py").write_text(Path("conftest.py").read_text())
    output = v4.new_output("stream", name="stdout", text="loss 0.2500\n")
    cell = v4.new_code_cell(f"# NBVAL_CHECK_OUTPUT\nprint('loss', {value!r})", outputs=[output], execution_count=1)
    nbformat.write(v4.new_notebook(cells=[cell]), tmp_path / "one.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
    done = subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(tmp_path / "one.ipynb")], capture_output=True, text=True
    )
    assert (done.returncode == 0) is passes, done.stdout
    assert ("moved within" in done.stdout) is passes


def test_a_kernel_is_started_again_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((IPyNbCell, "compare_outputs"), (kernel, "start_new_kernel")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # what the file sets is undone after the test
    found = importlib.util.spec_from_file_location("nbval_rules", "conftest.py")
    assert found and found.loader
    found.loader.exec_module(nbval_rules := importlib.util.module_from_spec(found))
    tries: list[str] = []

    def dies(times: int) -> None:
        def start(name: str, startup_timeout: int, env: dict[str, str]) -> str:
            tries.append(name)
            if len(tries) <= times:
                raise RuntimeError("Kernel died before replying to kernel_info")
            return "kernel"

        tries.clear()
        monkeypatch.setattr(nbval_rules, "start_once", start)

    dies(1)
    with pytest.warns(UserWarning, match="started again"):
        assert nbval_rules.start_new_kernel("python3") == "kernel" and tries == ["python3"] * 2
    dies(2)
    with pytest.warns(UserWarning, match="again"), pytest.raises(RuntimeError, match="died"):
        nbval_rules.start_new_kernel("python3")


def test_results() -> None:
    def result(estimate: float, n: int = 10, verdict: str = "partly") -> dict:
        value = {"estimate": estimate, "low": estimate - 0.1, "high": estimate + 0.1, "n": n}
        return {"clauses": {"one": {"value": value, "verdict": verdict}}, "parameters": {"lengths": [1, 2], "x": None}}

    assert same_value(result(0.5), result(0.55), NEAR) and same_value({"a": float("nan")}, {"a": float("nan")}, NEAR)
    for other in (result(0.65), result(0.5, 11), result(0.5, 10, "reproduced"), {}, result(float("nan"))):
        assert not same_value(result(0.5), other, NEAR)
    assert not same_value([1, 2], [1], NEAR) and not same_value(1, True, NEAR) and not same_value([2], [3], NEAR)


def cell(*outputs: nbformat.NotebookNode, checked: bool = False) -> nbformat.NotebookNode:
    return v4.new_code_cell("# NBVAL_CHECK_OUTPUT" if checked else "x", outputs=list(outputs))


def text(*said: str, kind: str = "display_data") -> list[nbformat.NotebookNode]:
    return [v4.new_output(kind, data={"text/plain": one}) for one in said]


@pytest.mark.parametrize(
    ("old", "new", "equal", "checked"),
    [
        (text("a 1.5"), text("a 1.5"), True, True),
        (text("a 1.50001"), text("a 1.5"), True, False),  # equal up to rounding
        (text("a    1.5"), text("a 1.5"), False, False),  # but for numbers, letter by letter
        (text("12", "3"), text("1", "23"), False, False),
        (text("12", "3"), text("3", "12"), False, False),
        (text("12"), text("12", kind="execute_result"), False, False),
        (text("12"), [], False, False),
    ],
)
def test_what_make_record_does_not_write_again(
    old: list[nbformat.NotebookNode], new: list[nbformat.NotebookNode], equal: bool, checked: bool
) -> None:
    for mine, theirs in ((old, new), (new, old)):
        assert same_cell(cell(*mine), cell(*theirs), pictures=True) is equal
        assert same_cell(cell(*mine, checked=True), cell(*theirs, checked=True), pictures=True) is checked


def test_pictures_count_only_if_asked_for() -> None:
    a, b = (cell(v4.new_output("display_data", data={"image/png": one, "text/plain": "1"})) for one in "ab")
    assert same_cell(a, b, pictures=False) and not same_cell(a, b, pictures=True)
    assert not same_cell(a, cell(*text("1")), pictures=False)


def test_an_interval_without_numbers_is_compared_as_it_is() -> None:
    none = dict.fromkeys(("estimate", "low", "high"))
    assert same_value(none, dict(none), EQUAL) and not same_value(none, {**none, "low": 1.0}, NEAR)
