"""`icl new` makes a claim that can be read, run, judged and tested as it stands; nothing that exists is overwritten."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from book.claims import load_claims
from book.new import new
from book.notebooks import chapter_files
from book.parameters import load_table, read_parameters
from icl_lib.validate import ConfigError
from tests.book.toy import LIBRARY, environment

WRITTEN = ("claims.yml", "_toc.yml", "tools/new", "chapters/parameters.yml", "chapters/api", "chapters/softmax")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What `icl new` reads and writes of the real book."""
    for name in WRITTEN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (LIBRARY / name).is_dir() else shutil.copyfile
        copy(LIBRARY / name, tmp_path / name)
    return tmp_path


def free(letter: str) -> str:
    return f"{letter}{1 + sum(id[0] == letter for id in load_claims(LIBRARY))}"


@pytest.mark.parametrize(("letter", "part"), [("L", "softmax"), ("K", "mean_field"), ("Q", "open")])
def test_entries_stand_after_the_last_of_their_part(copied: Path, letter: str, part: str) -> None:
    id = free(letter)
    before = load_claims(copied), load_table(copied)
    new(f"{id}_width", copied)
    claims, table = load_claims(copied), load_table(copied)
    assert claims.pop(id).chapter == f"chapters/{part}/{id}_width" and claims == before[0]
    assert [name for name in load_claims(copied) if name[0] == letter][-1] == id
    notebook = copied / f"chapters/{part}/{id}_width.ipynb"
    known = read_parameters(notebook, table[f"{part}/{id}_width"])
    assert list(known) == list(table.pop(f"{part}/{id}_width")) and table == before[1]
    for parameter in known.values():
        parameter.check(parameter.default)
    groups = yaml.safe_load((copied / "_toc.yml").read_text())["parts"]
    under = {entry["file"]: entry.get("sections", []) for group in groups for entry in group["chapters"]}
    pages = under[f"chapters/{part}/part"]
    found = [page for entry in pages if "glob" in entry for page in copied.glob(f"{entry['glob']}.ipynb")]
    assert found.count(notebook) == 1
    assert f"automodule:: studies.{id}\n" in (copied / "chapters/api/studies.md").read_text()


def test_the_skeleton_runs_and_its_test_passes(copied: Path) -> None:
    id = free("L")
    for package in ("icl_lib", "book", "studies"):
        shutil.copytree(LIBRARY / package, copied / package, ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (("new", id), ("run", id, "-p", "n_draws=100", "--out", "run")):
        done = subprocess.run(
            [sys.executable, "-m", "book.cli", *arguments],
            cwd=copied,
            env={**environment(), "PYTHONPATH": str(copied)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "verdict: reproduced" in done.stdout and (copied / f"run/{id}/main.csv").is_file()
    scope: dict[str, object] = {}
    exec((copied / f"studies/{id}.py").read_text(), scope)
    test = (copied / f"tests/studies/test_{id}.py").read_text().replace(f"from studies.{id} import measure", "")
    exec(test, scope)
    for name in [name for name in scope if name.startswith("test_")]:
        scope[name]()  # type: ignore[operator]


def test_what_it_refuses_and_that_nothing_is_written_then(copied: Path) -> None:
    before = {file: file.read_bytes() for file in copied.rglob("*") if file.is_file()}
    (copied / "studies").mkdir()
    (copied / f"studies/{free('L')}.py").touch()
    for name, message in {
        "L1": f"claim='L1': must be the next one of its part, {free('L')}",
        "M1": "claim='M1': must be an id with a name",
        f"{free('L')}_../x": "must be an id with a name",
        f"{free('L')}_mine": f"must be another name, studies/{free('L')}.py exists",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(message)):
            new(name, copied)
    assert {f: f.read_bytes() for f in copied.rglob("*") if f.is_file() and f.stat().st_size} == before


def test_no_skeleton_is_left_unfilled() -> None:
    """A claim says what it says before it is merged: nothing in the book is TODO."""
    texts = {"claims.yml": (LIBRARY / "claims.yml").read_text()}
    for notebook in chapter_files(LIBRARY):
        cells = json.loads(notebook.read_text())["cells"]
        texts[notebook.name] = "\n".join("".join(cell["source"]) + json.dumps(cell["metadata"]) for cell in cells)
    written = (*(LIBRARY / "studies").glob("*.py"), *(LIBRARY / "tests/studies").glob("*.py"))
    texts |= {str(file): file.read_text() for file in written}
    assert [name for name, text in texts.items() if "TODO" in text] == []
