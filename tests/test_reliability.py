"""The harness that provokes faults: each kind of check can fail, and does where something is wrong."""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from icl_lib.errors import Diverged
from icl_lib.paths import root
from icl_lib.source import WRITTEN
from icl_lib.store import save_tensors
from icl_lib.validate import ConfigError
from reliability import (
    configs,
    divergence,
    edited,
    edits,
    fuzz,
    kills,
    order,
    outcome,
    processors,
    settings,
    solvers,
    spoilt,
)
from reliability.outcome import FINITE, NOT_FINITE, Row
from tools import check


def fails(error: Exception):
    def call(*args: object) -> object:
        raise error

    return call


def test_endings_are_told_apart() -> None:
    assert outcome.ending(lambda: (torch.ones(2), pd.DataFrame({"x": [1.0], "name": ["a"]}), 3)) == (FINITE, "")
    for bad in (
        math.nan,
        math.inf,
        torch.tensor([1.0, math.nan]),
        pd.DataFrame({"x": [math.inf]}),
        [{"x": [math.nan]}],
        np.array([1.0, math.nan]),
    ):
        assert outcome.ending(lambda bad=bad: (1.0, bad))[0] == NOT_FINITE
    assert outcome.ending(fails(ConfigError("x=1: must be 2"))) == ("ConfigError", "x=1: must be 2")
    assert outcome.ending(fails(TypeError("no number"))) == ("crash: TypeError", "no number")
    ends = [(FINITE, "")] * 3 + [("crash: TypeError", "case 1"), ("crash: TypeError", "case 2"), (NOT_FINITE, "a")]
    rows = outcome.counted("k", "c", ends)
    assert [(row.outcome, row.n, row.passed, row.detail) for row in rows] == [
        (NOT_FINITE, 1, False, "a"),
        ("crash: TypeError", 2, False, "case 1"),
        (FINITE, 3, True, ""),
    ]


def test_a_solver_that_returns_nan_or_names_no_step_is_reported() -> None:
    def passed(solve) -> list[bool]:  # type: ignore[no-untyped-def]
        return [row.passed for row in divergence.longer("solver", solve)]

    assert passed(lambda factor: factor) == [True] * len(divergence.FACTORS)
    assert passed(lambda factor: torch.tensor(math.nan)) == [False]
    assert passed(fails(Diverged("time 0.5, dt=0.1: gone"))) == [True]
    assert passed(fails(Diverged("gone at step 3"))) == [False]
    assert passed(fails(ZeroDivisionError("x"))) == [False]
    assert not divergence.refused("spoilt data, finite result", lambda: 1.0).passed
    assert divergence.refused("spoilt data", fails(ConfigError("x"))).passed


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", spoilt.SPOILT)
def test_spoilt_data_end_in_a_documented_error(case: str) -> None:
    found = divergence.refused(case, spoilt.SPOILT[case])
    assert found.passed, found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("case", solvers.LAST)
def test_what_the_last_step_did_is_noticed(case: str) -> None:
    (found,) = divergence.longer(case, solvers.LAST[case], divergence.FACTORS[-1:])
    assert found.passed, found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_odd_configs_end_in_a_documented_error() -> None:
    for row in fuzz.rows(cases=12):
        assert row.passed, row


def test_a_config_that_crashes_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = configs.Space(lambda x, n: (x, n), {"x": (1.0,), "n": (2,)}, {"n"})

    def run(config: tuple, folder: Path) -> float:
        if config[0] is None:
            raise KeyError("x")
        return 0.0

    monkeypatch.setattr(fuzz, "RUNS", {"Pair": (space, run)})
    rows = list(fuzz.rows(400))
    assert sum(row.n for row in rows) == 400 and {row.outcome for row in rows} == {FINITE, "crash: KeyError"}
    assert re.search(r"x=None.*; case \d+", next(row.detail for row in rows if not row.passed))
    assert fuzz.one("Pair", 7, tmp_path) == fuzz.one("Pair", 7, tmp_path)
    drawn = [configs.drawn(space, random.Random(i)) for i in range(400)]
    assert sum(repr(values) == "{'x': 1.0, 'n': 2}" for values in drawn) > 150
    assert all(configs.small(values["n"]) for values in drawn) and not configs.small(10**400)


def test_a_run_that_ends_elsewhere_after_a_kill_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of saves each time, of a number that depends on how often training began."""
    import time
    from types import SimpleNamespace

    from icl_lib import store

    module = SimpleNamespace(save_state=lambda path, value: store.save_tensors(path, {"x": value}, path.stem, "done"))

    def train(folder: Path, honest: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"begun {len(list(folder.iterdir()))}").touch()
        time.sleep(0.1)
        module.save_state(folder / "a.safetensors", torch.tensor(1.0 if honest else len(list(folder.iterdir()))))

    for honest in (True, False):
        one = (lambda folder, honest=honest: train(folder, honest), module, "save_state", 3)
        monkeypatch.setitem(kills.VICTIMS, "toy", one)
        found = {row.outcome: row for row in kills.rows_of("toy")}
        assert found["killed outside a save"].n + found["killed in a save"].n >= 3
        assert found["ends that differ"].passed == honest
        assert (found["ends that differ"].n == 0) == honest


def test_a_flow_is_taken_up_where_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    assert kills.load_flow(path)[0].step == 0
    state, history = kills.flow(kills.KERNEL, kills.TEACHER, kills.start(kills.MU), replace(kills.RK4, t_end=0.08))
    kills.save_flow(path, state, history)
    again, rows = kills.load_flow(path)
    assert again.step == state.step == 4 and torch.equal(again.mu.w, state.mu.w) and torch.equal(again.mu.p, state.mu.p)
    assert torch.equal(again.dissipated, state.dissipated) and (rows.to_numpy() == history.to_numpy()).all()


def test_every_edit_finds_its_place_and_only_one_is_no_code() -> None:
    for name, (file, _, _) in edited.EDITS.items():
        text = (root() / "icl_lib" / file).read_text(encoding="utf-8")
        after = edited.replaced(text, name)
        assert (after == text) == (name == edited.TOUCHED)
        if name == edited.UNFINISHED:
            with pytest.raises(SyntaxError):
                compile(after, file, "exec")
        else:
            compile(after, file, "exec")
    with pytest.raises(ValueError, match="is not there once"):
        edited.replaced("", edited.TOUCHED)


@pytest.mark.parametrize("way", edited.WAYS)
def test_an_edit_is_written_in_every_way(tmp_path: Path, way: str) -> None:
    file = tmp_path / "train.py"
    file.write_text("x = 1\n")
    before = file.stat()
    edited.put(file, "x = 2\n", way)
    after = file.stat()
    assert file.read_text() == "x = 2\n" and list(tmp_path.iterdir()) == [file]
    assert (after.st_ino != before.st_ino) == (way == "renamed")
    assert way != "times put back" or after.st_mtime_ns == before.st_mtime_ns


def test_numbers_under_the_name_of_other_code_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was trained with one code, under the key of another; a name that no code has; a failure that is remembered."""
    places = {code: tmp_path / code / "cache" for code in ("a", "b")}
    for size, (code, place) in enumerate(places.items()):
        place.mkdir(parents=True)
        save_tensors(place / f"{code}.safetensors", {"x": torch.full((2,), float(size))}, code, "20")
    known: dict[str, list[object]] = {}
    for code in places:
        known |= {name: [content] for name, content in edits.kept(tmp_path / code).items()}
    assert edits.misnamed(edits.kept(tmp_path / "a"), known) == []
    save_tensors(places["a"] / "a.safetensors", {"x": torch.full((2,), 1.0)}, "a", "20")
    assert edits.misnamed(edits.kept(tmp_path / "a"), known) == ["a.safetensors"]
    save_tensors(places["b"] / "c.safetensors", {"x": torch.full((2,), 1.0)}, "c", "20")
    assert edits.misnamed(edits.kept(tmp_path / "b"), known) == ["c.safetensors"]
    for name, text in {
        "point/provenance.json": '{"key": "k"}',
        "point/T1/result.json": "1",
        "failed/k.json": "2",
    }.items():
        file = tmp_path / "sweep" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = edits.kept(tmp_path / "sweep")
    assert found == {"k": {"result.json": b"1"}, "failure of k": "2"}
    assert edits.misnamed(found, {"k": [{"result.json": b"1"}]}) == ["failure of k"]
    assert edits.misnamed(found, {"k": [{"result.json": b"3"}]}) == ["k", "failure of k"]

    ways = {
        (0, "", ("k",), "x"): edits.WRONG,
        (1, f"train.py {WRITTEN}", ("k",), "x"): edits.WRONG,
        (0, "", (), "x"): edits.RIGHT,
        (1, f"train.py {WRITTEN}", (), edited.UNFINISHED): edits.REFUSED,
        (1, "SyntaxError", (), edited.UNFINISHED): edits.OWN,
        (1, "SyntaxError", (), "x"): edits.OTHER,
    }
    assert {way: edits.ending(*way) for way in ways} == ways

    ends = [(edits.REFUSED, "0"), (edits.WRONG, "1: k"), (edits.LATER, "1"), (edits.WRONG, "2: k")]
    monkeypatch.setattr(edits, "alone", lambda *args: (1.0, {}))
    monkeypatch.setattr(edits, "one", lambda copy, case, number, *args: ends[number : number + 1])
    found_rows = {row.outcome: row for row in edits.rows_of(None, "training", tmp_path, 4)}
    assert [row.outcome for row in found_rows.values() if not row.passed] == [edits.WRONG]
    assert found_rows[edits.WRONG].n == 2 and found_rows[edits.WRONG].detail == "1: k; 2: k"
    assert found_rows[edits.REFUSED].n == 1 and found_rows[edits.DIFFERENT].n == 0


def test_edits_are_drawn_again_the_same() -> None:
    faults = [edits.drawn(case, number) for case in edited.CASES for number in range(edits.RUNS)]
    assert faults == [edits.drawn(case, number) for case in edited.CASES for number in range(edits.RUNS)]
    assert {fault.edit for fault in faults} == {*edited.EDITS} and {fault.way for fault in faults} == {*edited.WAYS}
    assert len(faults) >= 60 and sum(fault.back is not None for fault in faults) * 2 == len(faults)
    assert all(fault.at is not None and (fault.at == -1 or 0 <= fault.at <= 1) for fault in faults)


def test_files_and_verdicts_that_move_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "run.json").write_text("1 s")
    assert order.contents(tmp_path) == {"a.csv": b"x\n1\n"}
    same, other = {"a": b"1", "b": b"2"}, {"a": b"1"}
    assert order.compared("c", [same, same]).passed and not order.compared("c", [same, other]).passed
    assert not order.compared("c", [{}, {}]).passed
    assert settings.compared("c", {"claim": "partly"}, {"claim": "partly"}).passed
    row = settings.compared("c", {"claim": "partly", "x": "reproduced"}, {"claim": "partly", "x": "not reproduced"})
    assert not row.passed and row.detail == "x: reproduced, then not reproduced"
    (tmp_path / "result.json").write_text(
        json.dumps({"verdict": "partly", "clauses": {"x": {"verdict": "reproduced"}}})
    )
    assert settings.verdicts(tmp_path) == {"claim": "partly", "x": "reproduced"}


def test_a_rebuilt_chapter_is_held_against_the_committed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD", str(tmp_path))
    monkeypatch.setattr(settings, "processor", lambda: "Chip (AVX2)")
    with pytest.raises(SystemExit, match="make book"):
        next(settings.rebuilt())

    def write(folder: Path, verdict: str, number: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        clause = {"verdict": verdict, "value": {"estimate": number, "low": number - 1, "high": number + 1}}
        (folder / "result.json").write_text(json.dumps({"verdict": verdict, "clauses": {"x": clause}}))
        (folder / "same.csv").write_text("x\n1\n")
        (folder / "other.csv").write_text(f"x\n{number}\n")

    write(tmp_path / "committed/L1", "reproduced", 1.0)
    write(tmp_path / "figures/L1", "reproduced", 1.5)
    (row,) = settings.rebuilt(tmp_path / "committed")
    assert row.passed and (row.case, row.n) == ("L1", 2)
    assert row.kind.startswith("built on Chip (AVX2), Python 3.")
    assert row.detail == "1 of 2 tables equal, estimates moved by 0.5 half-widths"
    write(tmp_path / "figures/L1", "partly", 1.0)
    (row,) = settings.rebuilt(tmp_path / "committed")
    moved = "claim: reproduced, then partly; x: reproduced, then partly"
    assert not row.passed
    assert row.detail == f"2 of 2 tables equal, estimates moved by 0 half-widths; {moved}"


def test_a_chapter_under_other_instruction_sets_is_judged_cell_by_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As make test does: a checked cell that says something else is named, one that does not is counted."""
    cells = [
        nbformat.v4.new_code_cell(f"# NBVAL_CHECK_OUTPUT\nimport os\nprint({text})")
        for text in ("1", "os.environ['KERNELS']")
    ]
    for number, (cell, said) in enumerate(zip(cells, ("1\n", "other\n")), 1):
        cell.execution_count, cell.outputs = number, [nbformat.v4.new_output("stream", name="stdout", text=said)]
    file = tmp_path / "T1_toy.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    assert check.by_cell([file], {"KERNELS": "other"}) == {file: {"Cell 0": True, "Cell 1": True}}
    monkeypatch.setattr(check, "tested", lambda: [file])
    monkeypatch.setattr(processors, "SETS", {"plain kernels": {"KERNELS": "plain"}})
    assert list(processors.rows()) == [Row(processors.KIND, "T1: plain kernels", "other numbers", 1, False, "Cell 1")]
    missing = tmp_path / "T2_none.ipynb"
    with pytest.raises(ConfigError, match="T2_none"):
        check.by_cell([missing], {})


def test_rows_of_a_kind_replace_its_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    outcome.save([Row("b", "x", FINITE, 3, True), Row("a", "x", FINITE, 1, True)], file)
    outcome.save([Row("b", "y", NOT_FINITE, 2, False, "why, then")], file)
    table = pd.read_csv(file, keep_default_na=False)
    assert table["kind"].tolist() == ["a", "b"] and table["case"].tolist() == ["x", "y"]
    assert table["detail"].tolist() == ["", "why, then"] and not list(tmp_path.glob("*.tmp"))


def test_every_case_of_the_surroundings_has_a_before_and_an_after() -> None:
    table = pd.read_csv(outcome.results_file().with_name("surroundings.csv"))
    assert table.columns.tolist() == ["case", "command", "before", "after"]
    assert not table.isna().any(axis=None) and not table["case"].duplicated().any() and len(table) > 15
