"""`icl list` and `icl run`, on a small book of their own."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from book import cli
from book import registry as books
from book import run as runs
from book.render import headline, html_page
from book.run import Job, code_digest, read_record
from book.terminal import Progress, clock
from icl_lib.validate import ConfigError
from tests.book.toy import environment, icl, lines

CODE = """../../{beta}"; open("made", "w") #'); open('made', 'w')"""


def call(monkeypatch: pytest.MonkeyPatch, book: Path, *arguments: str) -> int:
    """The command in this process; whatever starts a kernel or another process fails the test."""

    def no_process(*arguments: object, **options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.chdir(book)
    monkeypatch.setattr(subprocess, "Popen", no_process)
    return cli.main(arguments)


def test_list(book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (book / "benchmarks").mkdir()
    (book / "benchmarks/commands.csv").write_text("command,seconds,target\ntoy/T1_toy,83,\n")
    assert call(monkeypatch, book, "list") == 0
    assert lines(capsys.readouterr().out)[0].split() == ["T1", "1:23", "toy/T1_toy", "A", "toy"]
    assert call(monkeypatch, book, "list", "T1") == 0
    text = capsys.readouterr().out
    assert "n_seeds: int = 3\n        how many; an integer in [2, 100] seeds" in text
    assert "alpha: float = 0.5\n        a factor; a number in [0, 1]" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["T1_toi"], "chapter='T1_toi': must be one of T1 (did you mean T1_toy?)"),
        (
            ["T1", "-p", "alhpa=0.3"],
            "T1: alhpa=0.3: unknown parameter (did you mean alpha?); this chapter has n_seeds,",
        ),
        (["T1", "-p", "alpha=1.5"], "T1: alpha=1.5: must be a number in [0, 1]"),
        (["T1", "-p", "alpha=__import__('os').getcwd()"], "T1: alpha=\"__import__('os').getcwd()\": must be a number"),
        (["T1", "-p", "alpha"], "T1: -p alpha: must be NAME=VALUE, each name once"),
        (["T1", "-p", "beta=1", "-p", "beta=2"], "T1: -p beta=2: must be NAME=VALUE, each name once"),
        (["T1", "--seeds", "1"], "T1: n_seeds=1: must be an integer in [2, 100]"),
        (["T1", "--seeds", "5", "-p", "n_seeds=4"], "T1: seeds=5: must be left out, n_seeds is given"),
        (["T1", "--device", "gpu"], "T1: device='gpu': must be 'cpu', 'cuda' or 'cuda:N'"),
        (
            ["T1", "--device", "cuda"],
            "T1: device='cuda': must be 'cpu', this chapter trains nothing that can use a GPU",
        ),
    ],
)
def test_refused_in_one_line_before_anything_starts(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(monkeypatch, book, "run", *arguments) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"icl: {message}")
    assert not (book / "_build").exists()


def test_outside_a_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, tmp_path, "list") == 2
    assert "run from inside the book's checkout" in capsys.readouterr().err


def imported_by_list(book: Path, modules: tuple[str, ...]) -> str:
    """Which of the modules `icl list` has imported."""
    code = f"import sys; from book import cli; cli.main(['list']); print([m for m in {modules} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=book, env=environment(), capture_output=True, text=True)
    return lines(done.stdout)[-1]


def test_the_command_imports_what_computes_only_when_it_computes(book: Path) -> None:
    heavy = ("torch", "pandas", "papermill", "nbformat", "matplotlib", "distributed", "myst_nb")
    assert imported_by_list(book, heavy) == "[]"


def test_the_command_imports_no_numpy(book: Path) -> None:
    assert imported_by_list(book, ("numpy",)) == "[]"


def label(book: Path, paper: str) -> None:
    """Let the toy's ledger say that its clause is ours."""
    clause = "{slope: {measure: a slope, ours: our result}}"
    (book / "claims.yml").write_text(
        f"T1: {{title: A toy, chapter: chapters/toy/T1_toy, paper: {paper}, clauses: {clause}}}\n", encoding="utf-8"
    )


def test_run_gives_notebook_page_results_and_provenance(book: Path, tmp_path: Path) -> None:
    label(book, "li2024")
    out = tmp_path / "out {alpha}"  # papermill would fill in the braces
    done = icl(book, "run", "T1", "-p", "alpha=0.25", "-p", f"shape={CODE}", "--seeds", 5, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"exploratory: n_seeds = 5, alpha = 0.25, shape = {CODE}" in done.stdout
    assert "verdict: reproduced, which does not count slope (our result) (exploratory)" in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {"book", "out {alpha}"}
    assert not list(tmp_path.rglob("made"))
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert files == {"T1_toy.ipynb", "T1_toy.html", "provenance.json", "T1/curve.csv", "T1/result.json"}
    assert json.loads((out / "T1/result.json").read_text())["clauses"]["slope"]["value"]["estimate"] == 0.25
    record = json.loads((out / "provenance.json").read_text())
    assert record["exploratory"] and record["changed"] == {"alpha": 0.25, "shape": CODE, "n_seeds": 5}
    assert record["parameters"]["beta"] == 1 and {"commit", "date", "versions", "seconds", "code"} <= set(record)
    notebook = nbformat.read(out / "T1_toy.ipynb", as_version=4)
    top = notebook.cells[0].source
    assert top.startswith("# A toy, $x^2$\n\n**Exploratory run**, not at the ledger's setting: n_seeds = 5, alpha")
    assert "**Verdict of this run: reproduced.**" in top and "book's verdict" not in top  # nothing is committed
    page = (out / "T1_toy.html").read_text()
    assert "slope 0.250" in page and "<math" in page and not re.search(r'<script|<link|src="http|url\(.?http', page)
    assert "| `slope`, our result | 0.25 [0.15, 0.35], n = 5: reproduced | – |" in top
    assert str(out / "T1_toy.html") in done.stdout
    assert "<td>0.25 [0.15, 0.35], n = 5: reproduced</td>" in re.sub(r"</?p>", "", page)
    assert not (book / "figures").exists()

    chapter = books.find("T1", book)
    job = Job(str(book), "T1", record["parameters"], code_digest(chapter))
    assert read_record(out, job) == record
    assert read_record(out, Job(str(book), "T1", {**job.values, "beta": 2}, job.code)) is None
    with (out / "T1/curve.csv").open("a") as file:
        file.write("1,99\n")
    assert read_record(out, job) is None

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    refused = icl(book, "run", "T1", "--out", tmp_path / "mine")
    assert refused.returncode == 2 and "must be a new folder, or one that holds an earlier run" in refused.stderr


def test_a_run_replaces_an_untouched_run_and_nothing_else(book: Path, tmp_path: Path) -> None:
    chapter, out = books.find("T1", book), tmp_path / "out"
    runs.run(chapter, {"alpha": 0.25}, out)
    assert runs.run(chapter, {"alpha": 0.5}, out).record["changed"] == {}
    spoilt: list[tuple[str, Callable[[Path], object]]] = [
        ("notes.md", lambda folder: (folder / "notes.md").write_text("mine")),
        ("T1/curve.csv", lambda folder: (folder / "T1/curve.csv").write_text("seed,y\n0,9.9\n")),
        ("T1_toy.ipynb", lambda folder: (folder / "T1_toy.ipynb").open("a").write(" ")),
        ("empty", lambda folder: (folder / "empty").mkdir()),
        ("T1/gone", lambda folder: (folder / "T1/gone").symlink_to("nowhere")),
        ("provenance.json", lambda folder: edit(folder / "provenance.json", '"alpha": 0.5', '"alpha": 0.6')),
    ]
    for number, (_, spoil) in enumerate(spoilt):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(out, copy)
        spoil(copy)
        before = {path: path.is_file() and path.read_bytes() for path in copy.rglob("*")}
        with pytest.raises(ConfigError, match="must be a new folder, .* is not as a run wrote it"):
            runs.run(chapter, {"alpha": 0.75}, copy)
        assert {path: path.is_file() and path.read_bytes() for path in copy.rglob("*")} == before


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_run_that_was_only_looked_at_may_be_replaced(book: Path, tmp_path: Path) -> None:
    chapter, out = books.find("T1", book), tmp_path / "out"
    runs.run(chapter, {}, out)
    (out / ".ipynb_checkpoints").mkdir()
    (out / ".ipynb_checkpoints/T1_toy-checkpoint.ipynb").write_text("{}")
    (out / "T1/.DS_Store").touch()
    runs.run(chapter, {"alpha": 0.25}, out)
    with pytest.raises(ConfigError, match="out='/': must be a folder in another one"):
        runs.run(chapter, {}, Path("/"))


def test_what_comes_into_the_folder_during_a_run_is_kept_and_so_is_the_run(book: Path, tmp_path: Path) -> None:
    chapter, out = books.find("T1", book), tmp_path / "out"
    runs.run(chapter, {"alpha": 0.25}, out)
    with pytest.raises(runs.RunFailed, match="notes.md is not as a run wrote it\n  the run is in ") as failed:
        runs.run(chapter, {"alpha": 0.5}, out, on_cell=lambda: (out / "notes.md").write_text("mine"))
    assert (out / "notes.md").read_text() == "mine"
    kept = Path(str(failed.value).rpartition(" is in ")[2])
    assert json.loads((kept / "T1/result.json").read_text())["clauses"]["slope"]["value"]["estimate"] == 0.5


def test_a_run_that_was_killed_while_it_replaced_another_lost_nothing(book: Path, tmp_path: Path) -> None:
    """Between the two renames the older run has no name of its own; whoever comes next gives it back."""
    chapter, out = books.find("T1", book), tmp_path / "out"
    runs.run(chapter, {"alpha": 0.25}, out)
    out.rename(tmp_path / ".out.replaced")
    (book / "no-0.5").touch()
    with pytest.raises(runs.RunFailed):
        runs.run(chapter, {}, out)
    assert json.loads((out / "provenance.json").read_text())["changed"] == {"alpha": 0.25}
    assert {p.name for p in tmp_path.iterdir()} == {"book", "out", "out.failed.ipynb"}
    out.rename(tmp_path / "elsewhere")
    (tmp_path / ".out.replaced").mkdir()
    (tmp_path / ".out.replaced/notes.md").write_text("mine")  # a folder of that name that no run wrote is left alone
    with pytest.raises(runs.RunFailed):
        runs.run(chapter, {}, out)
    assert not out.exists() and (tmp_path / ".out.replaced/notes.md").is_file()
    shutil.rmtree(tmp_path / ".out.replaced")
    (tmp_path / "elsewhere").rename(out)
    (book / "no-0.5").unlink()
    out.rename(tmp_path / ".out.replaced")
    out.mkdir()
    (out / "notes.md").write_text("mine")  # what has come in the meantime does not take the older run's place
    with pytest.raises(ConfigError, match="notes.md"):
        runs.run(chapter, {}, out)
    assert (tmp_path / ".out.replaced/provenance.json").is_file()


@pytest.mark.parametrize(
    "shape", ['x"; open("made", "w")  #', "x'\nopen('made', 'w')\n#", "\\", "{alpha!r}", "$(touch made)"]
)
def test_what_looks_like_code_stays_a_text_in_the_notebook(book: Path, shape: str) -> None:
    """Papermill writes values into a cell: what stands there says the same text again."""
    from papermill.translators import PythonTranslator

    (line,) = PythonTranslator.codify(books.find("T1", book).values({"shape": shape})).splitlines()[4:5]
    name, _, literal = line.partition(" = ")
    assert (name, ast.literal_eval(literal)) == ("shape", shape)


def test_a_failed_run_names_the_cell_and_keeps_the_earlier_result(book: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "provenance.json").write_text('{"files": {}}')
    (book / "no-0.5").touch()
    done = icl(book, "run", "T1", "--out", out)
    assert done.returncode == 1
    first, second = lines(done.stderr)
    assert first == "icl: T1: failed in cell 4, In [3]: ValueError: no result at alpha = 0.5"
    assert second == f"  see {out}.failed.ipynb" and Path(f"{out}.failed.ipynb").is_file()
    before = Path(f"{out}.failed.ipynb").read_text()
    again = icl(book, "run", "T1", "--out", out)  # somebody may have worked in the first one
    assert lines(again.stderr)[1] == f"  see {out}-2.failed.ipynb"
    assert Path(f"{out}.failed.ipynb").read_text() == before
    Path(f"{out}-2.failed.ipynb").unlink()
    assert (out / "provenance.json").read_text() == '{"files": {}}'
    assert {p.name for p in tmp_path.iterdir()} == {"book", "out", "out.failed.ipynb"}


def test_the_page_leaves_out_what_only_the_book_can_resolve() -> None:
    text = "# A\n{cite}`kim2024transformers`, [K2](K2.ipynb), [](../softmax/L5_attention.ipynb), $\\dots$\n\n:::{dropdown} Proof\nTrivial.\n:::"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    page = html_page(notebook)
    assert (
        "(Kim 2024), K2," in page
        and "L5_attention" in page
        and "softmax" not in page
        and "Trivial" in page
        and 'class="system-message' not in page
    )


def test_the_page_folds_code_shows_a_caption_once_and_reads_short_fractions() -> None:
    says = '<small class="provenance">figures/T1/curve.csv · 3 seeds</small>'
    outputs = [nbformat.v4.new_output("display_data", data) for data in ({"text/plain": "F"}, {"text/markdown": says})]
    figure = nbformat.v4.new_code_cell("draw()", outputs=outputs, metadata={"mystnb": {"figure": {"caption": "Below"}}})
    given = nbformat.v4.new_code_cell("alpha = 1", metadata={"tags": ["injected-parameters"]})
    half = nbformat.v4.new_markdown_cell(r"$\tfrac12\mathrm{tr}\,x$")
    page = html_page(nbformat.v4.new_notebook(cells=[given, half, figure]), "T1: A toy")
    assert page.count("<details>") == 1 and page.index("alpha") < page.index("<details>") < page.index("draw")
    assert page.count("Below") == page.count(says) == 1 and page.index("Below") < page.index(says)
    assert re.search(r"<mfrac[^>]*>\s*<mn>1</mn>\s*<mn>2</mn>\s*</mfrac>", page)
    assert "<title>T1: A toy</title>" in page


@pytest.mark.parametrize("chapter", sorted(Path("chapters").glob("*/*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_a_chapter_is_read(chapter: Path) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    page = html_page(notebook)
    assert "<math" in page and re.findall(r'<(?!div)\w+ [^>]*class="[^"]*\bmath\b[^>]*>[^<]*', page) == []


def test_committed_and_new_result_side_by_side(book: Path, tmp_path: Path) -> None:
    value = {"estimate": 2.0, "low": 1.5, "high": 2.5, "n": 10}
    for folder, names in ((book / "figures", ("slope", "gone")), (tmp_path, ("slope", "new"))):
        clauses = {name: {"value": value, "verdict": "partly"} for name in names}
        (folder / "T1").mkdir(parents=True)
        (folder / "T1/result.json").write_text(json.dumps({"clauses": clauses}))
    shown = "2 [1.5, 2.5], n = 10: partly"
    assert headline(books.find("T1", book), tmp_path).splitlines()[2:5] == [
        f"| `slope` | {shown} | {shown} |",
        f"| `gone` | – | {shown} |",
        f"| `new` | {shown} | – |",
    ]
    assert headline(books.find("T1", book), tmp_path / "none") == ""
    label(book, "open")
    assert "our result" not in headline(books.find("T1", book), tmp_path)
    label(book, "li2024")
    assert f"| `slope`, our result | {shown} | {shown} |" in headline(books.find("T1", book), tmp_path)


def test_progress_says_where_the_run_is() -> None:
    with Progress("T1", 3, 90) as progress:
        progress()
        assert progress.line() == "T1: cell 1 of 3 for 0:00, 0:00 in all (about 1:30 at the book's setting)"
    assert clock(3725) == "62:05"
