"""Code that is written while it runs: nothing that comes out gets a name that is not its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.book.toy import CODE, environment, icl, make_book

LIBRARY = Path(__file__).parents[2] / "icl_lib"
WRITTEN = "was written while its code ran: nothing is kept under its name, start again"
TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from icl_lib.softmax import cache, training
from icl_lib.softmax.tasks import uniform_cover
config = training.TrainConfig(tasks=uniform_cover(6, 3, 0), n_steps=12, batch_size=8)
file = Path(training.__file__)
def edit():
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("value=-1", "value=-3"), encoding="utf-8")
    if RESTORED:
        file.write_text(text, encoding="utf-8")
if WHEN == "before":
    edit()
save = cache.save_state
def edited(*arguments):
    save(*arguments)
    edit()
if WHEN == "in between":
    cache.save_state = edited
cache.trained([config], Path(sys.argv[1]), save_every=8)
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library that tests may write into; its parent is for ``PYTHONPATH``."""
    copy = tmp_path / "copy" / "icl_lib"
    for package in ("icl_lib", "book"):
        source = LIBRARY.with_name(package)
        shutil.copytree(source, copy.with_name(package), ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def surroundings(library: Path) -> dict[str, str]:
    found = environment()
    return {**found, "PYTHONPATH": f"{library.parent}:{found['PYTHONPATH']}", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("in between", 1)])
def test_no_training_is_kept_under_the_key_of_other_code(
    library: Path, tmp_path: Path, when: str, kept: int, restored: bool
) -> None:
    code = TRAIN.replace("RESTORED", str(restored)).replace("WHEN", repr(when))
    command = [sys.executable, "-c", code, tmp_path / "cache"]
    done = subprocess.run(command, cwd=tmp_path, env=surroundings(library), capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and f"training.py {WRITTEN}" in done.stderr
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == kept  # of the steps before the edit


def editing(file: str, restored: bool) -> str:
    """Cells that write a file, once."""
    back = "_file.write_text(_text, encoding='utf-8')" if restored else ""
    return f"""from pathlib import Path
_file = {file}
_text = _file.read_text(encoding='utf-8')
_file.write_text(_text.replace('alpha', 'alphas') + '\\n', encoding='utf-8')
{back}"""


USED = "Path(__import__('icl_lib').__file__).parent / 'stats.py'"
UNUSED = "Path(__import__('icl_lib').__file__).parent / 'locks.py'"
NOTEBOOK = "root() / 'chapters/toy/T1_toy.ipynb'"
LEDGER = "root() / 'claims.yml'"
DATA = "Path(__import__('icl_lib').__file__).parent / 'data/search.csv'"


def reading(book: Path, pattern: str) -> None:
    """Declare that the chapter reads some of the library's data."""
    file = book / "chapters/toy/T1_toy.ipynb"
    chapter = nbformat.read(file, as_version=4)
    chapter.metadata["icl"] = {"reads": [pattern]}
    nbformat.write(chapter, file)


@pytest.mark.parametrize(
    ("file", "named", "restored"),
    [
        (USED, "stats.py", False),
        (USED, "stats.py", True),
        (NOTEBOOK, "T1_toy.ipynb", False),
        (LEDGER, "claims.yml", False),
        (LEDGER, "claims.yml", True),
        (DATA, "search.csv", False),
        (DATA, "search.csv", True),
    ],
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_no_result_is_kept_of_what_was_written_while_it_ran(
    library: Path, tmp_path: Path, command: str, file: str, named: str, restored: bool
) -> None:
    code = f"from icl_lib.stats import mean_interval as used\nused\n{CODE}\n{editing(file, restored)}"
    book, out = make_book(tmp_path / "book", code=code), tmp_path / "out"
    reading(book, "icl_lib/data/search*.csv")
    grid = ("--grid", "alpha=0.25") if command == "sweep" else ()
    done = icl(book, command, "T1", *grid, "--out", out, env=surroundings(library))
    assert done.returncode == 1 and f"{named} {WRITTEN}" in done.stdout + done.stderr
    assert not list(out.rglob("result.json")) and not list(out.glob("failed/*"))


@pytest.mark.parametrize("restored", [False, True])
def test_a_failure_of_edited_code_is_not_remembered(library: Path, tmp_path: Path, restored: bool) -> None:
    """It would stand under the key of the code before, and the point would not be computed again."""
    error = f"{editing(USED, restored)}\nraise ValueError('of the edited code')"
    code = f"from icl_lib.stats import mean_interval as used\nused\n{CODE}\n{error}"
    book, out = make_book(tmp_path / "book", code=code), tmp_path / "out"
    done = icl(book, "sweep", "T1", "--grid", "alpha=0.25", "--out", out, env=surroundings(library))
    assert done.returncode == 1 and f"stats.py {WRITTEN}" in done.stderr and "Traceback" not in done.stderr
    assert not list(out.glob("failed/*")) and not list(out.rglob("result.json"))


@pytest.mark.parametrize(("file", "restored"), [(UNUSED, False), (NOTEBOOK, True)])
def test_what_a_chapter_does_not_reach_may_be_written(library: Path, tmp_path: Path, file: str, restored: bool) -> None:
    """And a notebook that is as it was: what runs was read before."""
    book, out = make_book(tmp_path / "book", code=f"{CODE}\n{editing(file, restored)}"), tmp_path / "out"
    done = icl(book, "run", "T1", "--out", out, env=surroundings(library))
    assert done.returncode == 0 and (out / "T1/result.json").is_file(), done.stderr


def test_defaults_that_were_typed_into_the_notebook_are_exploratory(book: Path, tmp_path: Path) -> None:
    recorded = {"n_seeds": 3, "alpha": 0.5, "beta": 1, "shape": "line", "pause": 0.0}
    (book / "figures/T1").mkdir(parents=True)
    (book / "figures/T1/result.json").write_text(json.dumps({"parameters": recorded}), encoding="utf-8")
    notebook = book / "chapters/toy/T1_toy.ipynb"
    typed = nbformat.read(notebook, as_version=4)
    typed.cells[1].source = typed.cells[1].source.replace("n_seeds: int = 3", "n_seeds: int = 2")
    nbformat.write(typed, notebook)
    done = icl(book, "run", "T1", "--out", tmp_path / "out")
    assert done.returncode == 0 and "exploratory: n_seeds = 2" in done.stdout
    record = json.loads((tmp_path / "out/provenance.json").read_text(encoding="utf-8"))
    assert record["exploratory"] and record["changed"] == {"n_seeds": 2} and record["parameters"]["n_seeds"] == 2
    assert "n_seeds = 2" in (tmp_path / "out/T1_toy.html").read_text(encoding="utf-8")
    done = icl(book, "run", "T1", "-p", "n_seeds=3", "--out", tmp_path / "other")
    assert "exploratory" not in done.stdout
