"""What a chapter checks, shows and records."""

import json
import math
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import book.chapter as chapter_module
from book.chapter import Chapter, check_parameters, notebook_parameters, show
from book.claims import Measured, load_claims, read_result
from book.identity import chapter_code
from book.parameters import SHOWN, TYPES
from icl_lib.figures import band, plain_ticks
from icl_lib.paths import out_dir, root
from icl_lib.stats import Interval
from icl_lib.validate import ConfigError

LEDGER = root() / "claims.yml"
KNOWN = {"alpha": "float", "n_context": "int", "grid": "list[float]", "reading": "str", "show_all": "bool"}
VALUES = {"alpha": 0.8, "n_context": 20, "grid": [0.1, 1], "reading": "exact", "show_all": True}
# what else a running notebook holds
BESIDES = {
    "__name__": "__main__",
    "_i1": "alpha = 0.8",
    "In": [""],
    "Out": {},
    "plt": plt,
    "get_ipython": print,
    "math": math,
}


def write_chapter(file: Path, parameters: str, code: str = "x = 1") -> None:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A chapter"]},
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": parameters.splitlines(True),
            "outputs": [],
        },
        {"cell_type": "code", "metadata": {}, "source": [code], "outputs": []},
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


PARAMETERS = (
    '"""Settings."""\nalpha: float = 0.8  # in [0, 1]\nseeds: int = 10  # how many\nalphas: list[float] = [0.1, 1.0]'
)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book with the real ledger and three chapters, whose working directory is a chapter's folder."""
    (tmp_path / "claims.yml").write_bytes(LEDGER.read_bytes())
    for name in ("softmax/L1_in_domain", "mean_field/K1_expressivity", "mean_field/K10_experiments"):
        write_chapter(tmp_path / "chapters" / f"{name}.ipynb", PARAMETERS)
    monkeypatch.chdir(tmp_path / "chapters" / "softmax")
    monkeypatch.setenv("ICL_BOOK_OUT", str(tmp_path / "out"))
    return tmp_path


def namespace(**changes: object) -> dict[str, object]:
    return {"alpha": 0.8, "seeds": 10, "alphas": [0.1, 1.0], **BESIDES, **changes}


def test_parameters_of_a_notebook(book: Path) -> None:
    found = notebook_parameters(book / "chapters/softmax/L1_in_domain.ipynb")
    assert found == {"alpha": "float", "seeds": "int", "alphas": "list[float]"}


def test_every_chapter_of_the_book_declares_its_parameters() -> None:
    for notebook in (root() / "chapters").glob("*/*.ipynb"):
        known = notebook_parameters(notebook)
        assert known, notebook.name
        assert all(kind.split("[")[0] in TYPES for kind in known.values()), notebook.name


def test_known_parameters_pass() -> None:
    assert check_parameters(KNOWN, {**BESIDES, **VALUES}) == VALUES
    assert check_parameters(KNOWN, {**VALUES, "alpha": 1})["alpha"] == 1  # a whole number is a number


@given(
    st.sampled_from(sorted(KNOWN)),
    st.data(),
    st.one_of(st.integers(), st.floats(), st.text(), st.none(), st.booleans()),
)
def test_a_slip_of_the_pen_is_named_with_what_was_meant(name: str, data: st.DataObject, value: object) -> None:
    at = data.draw(st.integers(1, len(name) - 1))
    slip = name[:at] + name[at + 1 :]
    with pytest.raises(ConfigError) as error:
        check_parameters(KNOWN, {**VALUES, slip: value})
    shown = repr(value) if len(repr(value)) <= SHOWN else repr(value)[: SHOWN - 3] + "..."
    message = f"{slip}={shown}: unknown parameter (did you mean {name}?); this chapter has {', '.join(KNOWN)}"
    assert str(error.value) == message


@given(st.text(alphabet="qxz", min_size=1, max_size=8))
def test_unlike_any(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}=3: unknown parameter; this chapter has alpha"):
        check_parameters(KNOWN, {**VALUES, name: 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", "0.8"), ("alpha", True), ("alpha", None), ("alpha", [0.8]), ("n_context", 20.0), ("n_context", "20"),
        ("n_context", True), ("reading", 1), ("show_all", 1), ("show_all", "False"), ("grid", 0.1), ("grid", "0.1"),
        ("grid", [0.1, "1"]), ("grid", [True]), ("grid", [[0.1]]), ("grid", {0.1: 1}),
    ],
)  # fmt: skip
def test_wrong_types(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as error:
        check_parameters(KNOWN, {**VALUES, name: value})
    assert str(error.value) == f"{name}={value!r}: must be of type {KNOWN[name]}"


def test_modules_functions_and_private_names_are_no_parameters() -> None:
    more = {"np": math, "f": lambda: 1, "_": 3, "__doc__": "x", "T": types.SimpleNamespace()}
    assert check_parameters(KNOWN, {**VALUES, **BESIDES, **more}) == VALUES


def test_chapter_is_found_by_its_id(book: Path) -> None:
    """K1 is not K10, a copy kept by Jupyter is no chapter, and an unknown id is refused."""
    copy = book / "chapters/softmax/.ipynb_checkpoints/L1_in_domain-checkpoint.ipynb"
    write_chapter(copy, PARAMETERS)
    assert Chapter("K1", namespace()).notebook.stem == "K1_expressivity"
    assert Chapter("K10", namespace()).notebook.stem == "K10_experiments"
    assert Chapter("L1", namespace()).parameters == {"alpha": 0.8, "seeds": 10, "alphas": [0.1, 1.0]}
    with pytest.raises(ConfigError, match="chapter='L7': must be one of "):
        Chapter("L7", namespace())
    assert Chapter("l1", namespace()).id == "L1"
    with pytest.raises(ConfigError, match=r"sedes=3: unknown parameter \(did you mean seeds\?\)"):
        Chapter("L1", namespace(sedes=3))
    with pytest.raises(ConfigError, match="seeds=2.5: must be of type int"):
        Chapter("L1", namespace(seeds=2.5))


def test_a_copy_under_another_name_is_refused(book: Path) -> None:
    """Its result would be taken for that of the chapter."""
    write_chapter(book / "chapters/softmax/L1_mine.ipynb", PARAMETERS)
    with pytest.raises(ConfigError, match="id='L1': must be that of one chapter, not of L1_mine.ipynb too"):
        Chapter("L1", namespace())


def test_where_a_chapter_writes(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert root() == book and out_dir() == book / "out"
    assert Chapter("L1", namespace()).folder == book / "out" / "L1"
    monkeypatch.delenv("ICL_BOOK_OUT")
    assert out_dir() == book / "_build" / "out"
    monkeypatch.chdir(book.parent)
    with pytest.raises(FileNotFoundError, match=r"no claims.yml .*: run from inside the book's checkout"):
        root()


def test_figure_comes_with_data_and_provenance(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list = []
    monkeypatch.setattr(chapter_module, "display", shown.append)
    table = pd.DataFrame({"x": [1, 2], "error": [1 / 3, 2e-7]})
    files: list[dict[str, bytes]] = []
    for _ in range(2):
        chapter = Chapter("L1", namespace())
        fig, ax = plt.subplots()
        ax.plot(table["x"], table["error"], label="ours")
        ax.fill_between(table["x"], 0, table["error"], alpha=0.2)
        ax.legend()
        chapter.figure(fig, "error", table)
        files.append({f.name: f.read_bytes() for f in (book / "out/L1").iterdir()})
    assert files[0] == files[1]  # drawn again, the same files: no dates, no random ids
    assert set(files[0]) == {"error.png", "error.svg", "error.csv", "error.json"}
    assert b"<svg" in files[0]["error.svg"] and files[0]["error.png"].startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(book / "out/L1/error.csv"), table, rtol=1e-5)
    sidecar = json.loads(files[0]["error.json"])
    code = chapter_code(chapter.notebook)
    assert sidecar["code_hash"] == code and sidecar["parameters"]["seeds"] == 10 and "torch" in sidecar["versions"]
    line = shown[-1].data
    assert "figures/L1/error.csv" in line and code in line and "torch" in line
    assert not plt.get_fignums()  # shown once, not again by the notebook


def found(good: bool = True) -> dict[str, Measured]:
    """Numbers that meet every clause of L1 (all are "below"), or that miss one."""
    near, far = Interval(0.001, 0.0005, 0.002, 10), Interval(0.5, 0.4, 0.6, 10)
    measured = {key: Measured(near, far) for key in load_claims()["L1"].clauses}
    return measured if good else {**measured, "few_tasks": Measured(far, far)}


def test_record(book: Path) -> None:
    chapter = Chapter("L1", namespace())
    table = chapter.record(found()).data
    measured, content = read_result(book / "out/L1/result.json")
    assert measured == found() and content["claim"] == "L1" and content["verdict"] == "reproduced"
    assert content["code_hash"] == chapter_code(chapter.notebook)
    assert content["parameters"] == {"alpha": 0.8, "seeds": 10, "alphas": [0.1, 1.0]}
    assert "**Verdict on L1: reproduced**" in table and table.count("\n| ") == 1 + len(measured)
    first = (book / "out/L1/result.json").read_bytes()
    assert Chapter("L1", namespace()).record(found()).data == table
    assert (book / "out/L1/result.json").read_bytes() == first  # nothing in it depends on when it was made
    run = json.loads((book / "out/L1/run.json").read_text())
    assert set(run) == {"wall_seconds", "date"} and run["wall_seconds"] >= 0
    assert not (book / "figures").exists()


def test_record_of_a_failure(book: Path) -> None:
    table = Chapter("L1", namespace()).record(found(good=False)).data
    assert "**Verdict on L1: partly**" in table
    assert any("few_tasks" in line and "not reproduced" in line for line in table.splitlines())


def test_a_missing_clause_is_not_recorded(book: Path) -> None:
    some = dict(list(found().items())[1:])
    with pytest.raises(ConfigError, match="clauses of L1="):
        Chapter("L1", namespace()).record(some)
    assert not (book / "out/L1/result.json").exists()


def test_a_curve_of_one_point_is_seen() -> None:
    """At a list of one value there was a line without length and a band without width."""
    table = pd.DataFrame({"x": [1.0, 2.0], "estimate": [2.0, 2.0], "low": [1.0, 1.0], "high": [3.0, 3.0]})
    fig, axes = plt.subplots(1, 2)
    for ax, n in zip(axes, (1, 2), strict=True):
        band(ax, table.head(n), "x", "C0", "curve")
    assert (axes[0].lines[0].get_marker(), axes[1].lines[0].get_marker()) == (".", "None")
    assert axes[0].dataLim.y0 == 1.0 and axes[0].dataLim.y1 == 3.0
    plt.close(fig)


def test_nothing_to_draw_leaves_a_logarithmic_axis_alone() -> None:
    fig, ax = plt.subplots()
    ax.plot([1.0], [float("nan")])
    plain_ticks(ax.yaxis)
    fig.canvas.draw()
    plt.close(fig)


def test_show() -> None:
    assert show(Interval(0.12345, -1e-5, 123.4, 10)) == "0.123 [-1e-05, 123]"


def test_trained_elsewhere_it_says_so(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list = []
    monkeypatch.setattr(chapter_module, "display", shown.append)
    monkeypatch.setattr(chapter_module, "compute_device", lambda: torch.device("cuda:1"))
    with pytest.raises(ConfigError, match="device='cuda:1': must be 'cpu', this chapter trains nothing that can use"):
        Chapter("L1", namespace())
    code = "from icl_lib.softmax.cache import trained\nnets = trained"
    write_chapter(book / "chapters/softmax/L1_in_domain.ipynb", PARAMETERS, code)
    chapter = Chapter("L1", namespace())
    assert "(not at the ledger's setting: device = cuda:1)" in chapter.record(found()).data
    assert json.loads((book / "out/L1/result.json").read_text())["versions"]["device"] == "cuda:1"
    fig, _ = plt.subplots()
    chapter.figure(fig, "error", pd.DataFrame({"x": [1.0]}))
    assert json.loads((book / "out/L1/error.json").read_text())["versions"]["device"] == "cuda:1"
    assert "trained on cuda:1" in shown[-1].data


def test_show_takes_a_plain_tuple() -> None:
    """K8 shows rounded rows of a table."""
    assert show((0.5, 0.25, 0.75, 10.0)) == "0.5 [0.25, 0.75]"  # type: ignore[arg-type]
