"""A book of one tiny chapter, whose kernel imports nothing heavy: what is tested is the machinery around it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat import v4

from book import sweep

LIBRARY = Path(__file__).parents[2]
# of the sweeps here: four points, long enough to be killed in
GRID = ("--grid", "alpha=0.25,0.5", "--grid", "beta=1,2", "-p", "pause=0.5")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
PARAMETERS = """n_seeds: int = 3  # how many
alpha: float = 0.5  # a factor
beta: int = 1  # another
shape: str = "line"  # its name
pause: float = 0.0  # length of the run"""
CODE = """import time
from icl_lib.paths import out_dir, root, write_json
folder = out_dir() / "T1"
folder.mkdir(parents=True, exist_ok=True)
(folder / "curve.csv").write_text(f"seed,y\\n0,{alpha * beta}\\n")"""
RESULT = """time.sleep(pause)
if (root() / f"no-{alpha}").exists():
    raise ValueError(f"no result at alpha = {alpha}")
def interval(x):
    return {"estimate": x, "low": x - 0.1, "high": x + 0.1, "n": n_seeds}
clause = {"value": interval(alpha * beta), "control": interval(-1.0), "verdict": "reproduced"}
write_json(folder / "result.json", {"claim": "T1", "verdict": "reproduced", "clauses": {"slope": clause}})
print(f"slope {alpha * beta:.3f}")"""
TABLE = """toy/T1_toy:
  n_seeds: "[2, 100] seeds"
  alpha: "[0, 1]"
  beta: "[1, 10]"
  pause: "[0, 600] seconds"
"""


def make_book(folder: Path, id: str = "T1", parameters: str = PARAMETERS, table: str = TABLE, code: str = CODE) -> Path:
    """A book with the one chapter."""
    path = folder / "chapters" / "toy" / f"{id}_toy.ipynb"
    path.parent.mkdir(parents=True)
    first = v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [v4.new_code_cell(source.replace("T1", id)) for source in (code, RESULT)]
    nbformat.write(
        v4.new_notebook(cells=[v4.new_markdown_cell("# A toy, $x^2$"), first, *cells], metadata=KERNEL), path
    )
    (folder / "claims.yml").write_text(f"{id}: {{title: A toy, chapter: chapters/toy/{id}_toy}}\n", encoding="utf-8")
    (folder / "chapters" / "parameters.yml").write_text(table, encoding="utf-8")
    return folder


def finished(plan: sweep.Plan) -> None:
    """Give every point of a plan a result, without computing it."""
    for job in plan.jobs:
        point = plan.folder / "points" / job.key
        (point / "T1").mkdir(parents=True)
        text = json.dumps({"clauses": {"slope": {"value": {"estimate": 1}, "control": {}, "verdict": "partly"}}})
        (point / "T1/result.json").write_text(text, encoding="utf-8")
        files = {"T1/result.json": [len(text), hashlib.sha256(text.encode()).hexdigest()]}
        known = {"key": job.key, "code": job.code, "parameters": job.values, "files": files, "seconds": 1.0}
        stamp = {"exploratory": True, "chapter": "T1", "commit": "x", "versions": {}, "machine": "m", "date": "d"}
        (point / "provenance.json").write_text(json.dumps({**known, **stamp}), encoding="utf-8")


def environment() -> dict[str, str]:
    """That of the tests, with the library under test found first."""
    paths = [str(LIBRARY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def command(*arguments: object) -> list[str]:
    """``icl`` with arguments, as a process."""
    return [sys.executable, "-m", "book.cli", *map(str, arguments)]


def icl(book: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command inside a book."""
    options = {"env": environment(), **options}
    return subprocess.run(  # type: ignore[call-overload]
        command(*arguments),
        cwd=book,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        **options,
    )


def lines(text: str) -> Sequence[str]:
    return text.strip().splitlines()
