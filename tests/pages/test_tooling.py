"""The tooling on a small book of its own: what runs again, what is said of a failure, what record rewrites."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from book import compare
from book.identity import tables
from icl_lib.paths import write_json
from icl_lib.validate import ConfigError
from tools import notebooks, record, render

KERNEL = {"kernelspec": record.KERNEL, "language_info": {"name": "python"}}
WRITE = """from pathlib import Path
from icl_lib import paths, rng
folder = paths.out_dir() / name
folder.mkdir(parents=True, exist_ok=True)
(folder / "result.json").write_text('{"x": 1.5}')
rng.stream_seed(0, "train")
print(name, 1.25)"""


def write_notebook(path: Path, *cells: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(v4.new_notebook(cells=list(cells), metadata=KERNEL), path)


def chapter(path: Path, code: str = WRITE, prose: str = "# A chapter") -> None:
    first = v4.new_code_cell(f"name = {path.stem!r}", metadata={"tags": ["parameters"]})
    write_notebook(path, v4.new_markdown_cell(prose), first, v4.new_code_cell(code))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book of two chapters with the real tools and library."""
    for name in ("tools", "icl_lib", "book"):
        shutil.copytree(name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile("dodo.py", tmp_path / "dodo.py")
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "claims.yml").write_text("L1: {chapter: chapters/one}\n")
    chapter(tmp_path / "chapters/one.ipynb")
    chapter(tmp_path / "chapters/two.ipynb", WRITE.replace(", rng", "").replace('rng.stream_seed(0, "train")\n', ""))
    write_notebook(tmp_path / "index.ipynb", v4.new_code_cell("from icl_lib import paths\nprint(paths.out_dir().name)"))
    monkeypatch.chdir(tmp_path)
    for name in ("BUILD", "CHAPTER", "HEAVY", "ICL_BOOK_OUT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def doit(*tasks: str, **environment: str) -> subprocess.CompletedProcess[str]:
    options = () if tasks[0] == "list" else ("-n", "2", "-P", "thread")
    command = [sys.executable, "-m", "doit", *options, *tasks]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What is printed of each notebook."""
    return {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}


def test_only_what_changed_runs_again(book: Path) -> None:
    first = doit("run_index")
    assert first.returncode == 0, first.stderr
    assert lines(first).keys() == {"one", "two", "index"}
    assert all(float(seconds) > 0 for seconds in lines(first).values())
    assert json.loads((book / "_build/book/figures/one/result.json").read_text()) == {"x": 1.5}

    edit(book / "chapters/one.ipynb", "# A chapter", "# Better prose")
    library = book / "icl_lib/rng.py"
    library.write_text(library.read_text().replace('"""', '"""Better words. ', 1))
    os.utime(book / "chapters/two.ipynb")
    assert set(lines(doit("run_index")).values()) == {"unchanged"}
    render.stage(book / "staged", {Path("chapters/one.ipynb"): book / "_build/book/run/chapters/one.ipynb"}, {})
    staged = (book / "staged/chapters/one.ipynb").read_text()
    assert "Better prose" in staged
    assert "one 1.25" in staged
    assert "computed at commit" in staged

    library.write_text(library.read_text() + "\nUNUSED = 1\n")
    edit(book / "icl_lib/validate.py", "must be {allowed}", "has to be {allowed}")
    assert set(lines(doit("run_index")).values()) == {"unchanged"}
    edit(library, "digest[:4]", "digest[4:8]")
    after_library = lines(doit("run_index"))
    assert after_library["one"] != "unchanged"
    assert (after_library["two"], after_library["index"]) == ("unchanged", "unchanged")

    edit(book / "chapters/two.ipynb", "1.5", "2.5")
    after_code = lines(doit("run_index"))
    assert after_code["one"] == "unchanged"
    assert "unchanged" not in (after_code["two"], after_code["index"])


def test_what_was_written_while_it_ran_runs_again(book: Path) -> None:
    """Also if it is as before now: nobody knows which of both has run."""
    touch = "\nfrom pathlib import Path\nfile = paths.root() / 'chapters/one.ipynb'\nif not Path('seen').exists():\n"
    touch += "    Path('seen').touch()\n    file.write_text(file.read_text(encoding='utf-8'), encoding='utf-8')"
    chapter(book / "chapters/one.ipynb", WRITE + touch)
    found = [lines(doit("run_index"))["one"] != "unchanged" for _ in range(3)]
    assert found == [True, True, False]


def test_summary_pages_run_after_the_chapters_and_see_their_results(book: Path) -> None:
    """A page of `SUMMARIES` below chapters/ is no chapter: it reads what this build's chapters wrote, and record comes to it last."""
    page = Path("chapters/introduction.ipynb")
    read = "import json\nfrom icl_lib import paths\nfile = paths.out_dir() / 'one/result.json'\n"
    read += "print(json.loads(file.read_text()) if file.is_file() else 'nothing')"
    write_notebook(book / page, v4.new_code_cell(read))
    assert page not in notebooks.chapters() and notebooks.summaries() == [notebooks.INDEX, page]

    assert lines(doit("run_index")).keys() == {"one", "two", "index", "introduction"}
    assert "{'x': 1.5}" in (book / "_build/book/run" / page).read_text()
    edit(book / "chapters/one.ipynb", "1.5", "2.5")
    assert lines(doit("run_index"))["introduction"] != "unchanged"
    assert "{'x': 2.5}" in (book / "_build/book/run" / page).read_text()

    done = subprocess.run([sys.executable, "-m", "tools.record"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-3:] == ["recorded index.ipynb", f"recorded {page}", "6 files rewritten"], (
        done.stderr
    )


def test_failure_names_chapter_cell_and_error(book: Path) -> None:
    chapter(book / "chapters/one.ipynb", "print('so far')\nraise ValueError('first line\\nthe reason')")
    done = doit("run_index")
    assert done.returncode != 0
    assert "one: failed in cell 3, In [2]: ValueError: the reason" in done.stderr
    assert "Traceback" not in done.stderr
    assert lines(done).keys() == {"two"}
    assert "so far" in (book / "_build/book/run/chapters/one.failed.ipynb").read_text()
    assert not (book / "_build/book/run/chapters/one.ipynb").exists()
    assert set(lines(doit("run_chapters"))) == {"two"}


def test_choice_of_chapters(book: Path) -> None:
    (book / "claims.yml").write_text("L1: {chapter: chapters/one, heavy: true}\n")
    assert "one" not in doit("list", "--all").stdout
    assert "run_chapters:one" in doit("list", "--all", HEAVY="1").stdout
    assert "run_chapters:two" not in doit("list", "--all", CHAPTER="one").stdout
    both = doit("list", "--all", CHAPTER="one,two").stdout
    assert "run_chapters:one" in both
    assert "run_chapters:two" in both
    unknown = doit("list", CHAPTER="two,three")
    assert unknown.returncode != 0
    assert unknown.stderr.strip() == "chapter='three': must be one of L1, two"
    for name in ("L1", "l1", "chapters/one.ipynb"):  # what `icl run` understands
        listed = doit("list", "--all", CHAPTER=name).stdout
        assert "run_chapters:one" in listed and "run_chapters:two" not in listed


def test_choice_of_a_part_leaves_its_heavy_chapters_out(book: Path) -> None:
    for name in ("quick", "slow"):
        chapter(book / f"chapters/part/{name}.ipynb")
    (book / "claims.yml").write_text("L1: {chapter: chapters/part/slow, heavy: true}\n")
    assert [name for name in ("one", "quick", "slow") if name in doit("list", "--all", CHAPTER="part").stdout] == [
        "quick"
    ]
    assert "slow" in doit("list", "--all", CHAPTER="part", HEAVY="1").stdout
    assert "slow" in doit("list", "--all", CHAPTER="slow").stdout
    assert "must be one of part, L1, one, quick, two" in doit("list", CHAPTER="three").stderr


def test_note_on_a_page_that_was_not_run(book: Path) -> None:
    one = Path("chapters/one.ipynb")
    render.stage(book / "staged", {}, {one: "Not run."})
    assert notebooks.load(book / "staged" / one).cells[0].source == "# A chapter\n\n:::{important}\nNot run.\n:::\n"


def test_provenance_goes_below_the_caption() -> None:
    line = '<small class="provenance">figures/L1/a.csv</small>'
    outputs = [
        v4.new_output("display_data", {mime: data}) for mime, data in (("image/png", "AA"), ("text/markdown", line))
    ]
    cell = v4.new_code_cell("draw()", outputs=outputs, metadata={"mystnb": {"figure": {"caption": "A curve."}}})
    render.provenance_as_legend(cell)
    assert cell.metadata["mystnb"]["figure"]["caption"] == f"A curve.\n\n{line}"
    assert [list(output.data) for output in cell.outputs] == [["image/png"]]


def test_a_figure_is_shown_as_svg_where_that_is_smaller(tmp_path: Path) -> None:
    (tmp_path / "L1").mkdir()
    drawing = '<svg width="72pt" height="36pt" viewBox="0 0 72 36"><text style="font-family: \'Arial\'">1</text></svg>'
    (tmp_path / "L1/a.svg").write_text(f"<?xml version='1.0'?>\n{drawing}")
    line = v4.new_output("display_data", {"text/markdown": "figures/L1/a.csv · code 0"})
    for size, mime in ((1000, "image/svg+xml"), (10, "image/png")):
        png = base64.b64encode(bytes(size)).decode()
        cell = v4.new_code_cell("draw()", outputs=[v4.new_output("display_data", {"image/png": png}), line])
        render.picture_as_svg(cell, tmp_path)
        assert list(cell.outputs[0].data) == [mime]
        if mime == "image/svg+xml":
            assert cell.outputs[0].data[mime].startswith('<svg width="110" height="55" viewBox="0 0 72 36">')
            assert "Verdana" in cell.outputs[0].data[mime] and "Arial" not in cell.outputs[0].data[mime]
    render.picture_as_svg(cell, tmp_path / "elsewhere")
    assert list(cell.outputs[0].data) == ["image/png"]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("error 0.12345 (n = 10)", "error 0.12346 (n = 10)", True),
        ("error 0.123", "error 0.124", False),
        ("error 0.123", "errors 0.123", False),
        ("1e-12 of -3", "2e-12 of -3", True),
        ("a < -0.5", "a < 0.5", False),
    ],
)
def test_same_text(a: str, b: str, same: bool) -> None:
    assert compare.same_text(a, b, compare.EQUAL) is same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"x": [1.0, float("nan")]}, {"x": [1.0001, float("nan")]}, True),
        ({"x": 1}, {"x": 1.0}, True),
        ({"x": True}, {"x": 1}, False),
        ({"x": 1}, {"x": 1, "y": 1}, False),
        ({"code_hash": "12345678"}, {"code_hash": "12345679"}, False),
        ([1], [1, 1], False),
    ],
)
def test_same_value(a: object, b: object, same: bool) -> None:
    assert compare.same_value(a, b, compare.EQUAL) is same


def write_results(folder: Path, value: float, code_hash: str = "abc", picture: bytes = b"1") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"estimate": value, "code_hash": code_hash}))
    (folder / "curve.csv").write_text(f"seed,error\n0,{value}\n")
    (folder / "curve.svg").write_text(f"<svg><path d='M 0 {value}'/></svg>")
    (folder / "curve.png").write_bytes(picture)
    (folder / "run.json").write_text("{}")


def test_record_of_figures(tmp_path: Path) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures"

    def moved() -> set[str]:
        return {file.name for file in record.record_figures(out, figures)}

    write_results(out / "L1", 0.5)
    assert moved() == {"result.json", "curve.csv", "curve.svg", "curve.png"}
    before = {p: p.read_bytes() for p in figures.rglob("*.*")}
    write_results(out / "L1", 0.50001, picture=b"2")
    assert moved() == set()
    assert {p: p.read_bytes() for p in figures.rglob("*.*")} == before
    write_results(out / "L1", 0.50001, "abd", picture=b"2")
    assert moved() == {"result.json"}
    write_results(out / "L1", 0.51, "abd", picture=b"2")
    assert moved() == {"result.json", "curve.csv", "curve.svg", "curve.png"}
    (out / "L1/curve.png").unlink()
    (figures / "L2").mkdir()
    (figures / "L2/kept.csv").write_text("of a chapter that did not run")
    assert moved() == {"curve.png"}
    assert not (figures / "L1/curve.png").exists()
    assert (figures / "L2/kept.csv").exists()
    assert not (figures / "L1/run.json").exists()


def test_another_setting_is_recorded_only_if_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, n in (("figures", 10), ("_build/book/figures", 2)):
        write_json(tmp_path / folder / "L5/result.json", {"parameters": {"n_seeds": n}})
    write_json(tmp_path / "_build/book/ran.json", [])
    (tmp_path / "claims.yml").write_text("{}", encoding="utf-8")
    assert record.other_settings(Path("_build/book/figures"), Path("figures")) == {"L5": "n_seeds = 2 (recorded: 10)"}
    before = (tmp_path / "figures/L5/result.json").read_bytes()
    assert record.main() == 1 and (tmp_path / "figures/L5/result.json").read_bytes() == before
    monkeypatch.setenv("SETTING", "L5")
    assert record.main() == 0 and (tmp_path / "figures/L5/result.json").read_bytes() != before


def executed(path: Path, text: str, picture: str = "AAAA") -> None:
    outputs = [
        v4.new_output("stream", name="stdout", text=text[:4]),
        v4.new_output("stream", name="stdout", text=text[4:]),
        v4.new_output("display_data", {"image/png": picture, "text/plain": "<Figure>"}),
    ]
    cell = v4.new_code_cell("show()", execution_count=1, outputs=outputs, metadata={"papermill": {"duration": 1.5}})
    write_notebook(path, cell)


def test_record_of_a_notebook(tmp_path: Path) -> None:
    path, run = tmp_path / "a.ipynb", tmp_path / "run.ipynb"
    write_notebook(path, v4.new_markdown_cell("# A"), v4.new_code_cell("show()"))
    executed(run, "error 0.500")
    assert record.record_notebook(path, run)
    assert notebooks.load(path).cells[1].outputs[0].text == "error 0.500"
    assert "papermill" not in path.read_text()
    before = path.read_bytes()
    executed(run, "error 0.50001", "BBBB")
    assert not record.record_notebook(path, run, pictures=False)
    assert path.read_bytes() == before
    assert record.record_notebook(path, run)
    executed(run, "error 0.510", "BBBB")
    assert record.record_notebook(path, run, pictures=False)
    edit(path, "# A", "# B")
    assert not record.record_notebook(path, run)
    edit(path, "show()", "show(2)")
    with pytest.raises(ConfigError, match="code cell=1: must be as it ran; it was changed since: run it again"):
        record.record_notebook(path, run)


def test_record_of_a_reference(tmp_path: Path) -> None:
    path, run = tmp_path / "a.ipynb", tmp_path / "run.ipynb"
    executed(run, "error 0.500")
    assert record.record_reference(path, run)
    assert "image/png" not in path.read_text()
    executed(run, "error 0.50001", "BBBB")
    assert not record.record_reference(path, run)
    edit(run, "show()", "show(1)")
    assert record.record_reference(path, run)


def test_record_is_exact_where_nbval_is(tmp_path: Path) -> None:
    """Text that nbval compares letter by letter is recorded as it is: a tolerated difference would fail the tests."""
    path, run = tmp_path / "a.ipynb", tmp_path / "run.ipynb"
    for text, moved in (("error 0.50000", True), ("error 0.50001", True), ("error 0.50001", False)):
        executed(run, text)
        edit(run, "show()", "# NBVAL_CHECK_OUTPUT\\nshow()")
        assert record.record_reference(path, run) == moved


def test_record_takes_only_what_has_just_run(book: Path) -> None:
    def recorded(**environment: str) -> str:
        done = doit("collect", "run_reference", **environment)
        assert done.returncode == 0, done.stderr
        command = [sys.executable, "-m", "tools.record"]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}).stdout

    names = (
        "figures/one/result.json",
        "figures/two/result.json",
        "chapters/one.ipynb",
        "chapters/two.ipynb",
        "index.ipynb",
    )
    assert recorded().splitlines() == [*(f"recorded {name}" for name in names), "5 files rewritten"]
    edit(book / "chapters/one.ipynb", "1.5", "2.5")
    edit(book / "chapters/two.ipynb", "1.5", "2.5")
    assert recorded(CHAPTER="two").splitlines() == ["recorded figures/two/result.json", "1 files rewritten"]


def test_what_reads_recorded_tables_is_recorded_after_them(book: Path) -> None:
    """In one command: a chapter that ran before they were recorded runs once more."""
    chapter(book / "chapters/one.ipynb", WRITE + "\n(folder / 'rate.csv').write_text('rate,0.5')")
    read = """from pathlib import Path
from book import identity
from icl_lib import paths
folder = paths.out_dir() / name
tables = identity.tables(paths.root() / "chapters/two.ipynb", paths.root())
rate = paths.root() / "figures/one/rate.csv"
paths.write_json(folder / "result.json", {"rate": rate.read_text() if rate.is_file() else "", "tables": tables})"""
    chapter(book / "chapters/two.ipynb", read)
    two = nbformat.read(book / "chapters/two.ipynb", 4)
    two.metadata["icl"] = {"reads": ["figures/one/*.csv"]}
    nbformat.write(two, book / "chapters/two.ipynb")
    for value in ("0.5", "0.75"):
        edit(book / "chapters/one.ipynb", "rate,0.5", f"rate,{value}")
        assert doit("collect").returncode == 0
        done = subprocess.run([sys.executable, "-m", "tools.record"], capture_output=True, text=True)
        found = json.loads((book / "figures/two/result.json").read_text(encoding="utf-8"))
        assert found["rate"] == f"rate,{value}", done.stderr
        assert found["tables"] == tables(book / "chapters/two.ipynb", book)


def git_state() -> str:
    commands = (["git", "status", "--porcelain"], ["git", "diff"], ["git", "rev-parse", "HEAD"])
    return "".join(subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)


def test_make_book_of_one_chapter_touches_no_committed_file() -> None:
    before = git_state()
    build = Path("_build/test/book")
    variables = ["CHAPTER=data_model", f"BUILD={build}", f"VENV={sys.prefix}"]
    # An environment that another checkout made is used as it is (-o): a test must not install anything into it.
    done = subprocess.run(["make", "-o", "env", "book", *variables], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"Open {build / 'html/index.html'}"
    assert {"softmax/data_model", "index"} <= lines(done).keys()
    html = (build / "html/chapters/softmax/data_model.html").read_text()
    assert "Computed by make book at commit" in html
    assert "Outputs of this page: computed at commit" in html
    for other in notebooks.chapters():
        text = (build / "html" / other.with_suffix(".html")).read_text()
        assert ("was not run in this build" in text) == (other.stem != "data_model")
    assert git_state() == before


def test_a_broken_chapter_is_named_in_one_line_and_clutter_is_ignored(book: Path) -> None:
    copy = book / "chapters/one-Copy1.ipynb"
    shutil.copyfile(book / "chapters/one.ipynb", copy)
    (book / "chapters/._one.ipynb").write_bytes(b"\0\5\x16\7\xff")
    assert notebooks.chapters() == [Path("chapters/one.ipynb"), Path("chapters/two.ipynb")]
    render.stage(book / "staged", {}, {})
    assert {path.name for path in (book / "staged/chapters").iterdir()} == {"one.ipynb", "two.ipynb"}
    (book / "chapters/two.ipynb").write_text("{\n<<<<<<< HEAD\n")
    for command in (["doit", "list"], ["tools.render"]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        assert done.returncode != 0
        assert done.stderr.splitlines() == [
            "notebook='chapters/two.ipynb': must be a notebook, there are merge markers in line 2"
        ]
