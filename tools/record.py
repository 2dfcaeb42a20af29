"""Rewrite committed outputs where what the chapters say has moved: ``python -m tools.record``, after they have run.

Nothing else writes to committed notebooks, figures/ and tests/reference/. A file whose numbers are within
tolerance of the recorded ones stays as it is, so that a diff shows what changed.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from book import compare, execute
from book.identity import tables
from book.terminal import command
from icl_lib.paths import read_json
from tools import notebooks

NEVER = {"run.json"}  # wall times and dates: of one run on one machine
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def moved_files(out: Path, figures: Path) -> set[Path]:
    """Files below ``out`` that say something else than those below ``figures``, as paths relative to both."""
    files = {p.relative_to(out) for p in out.rglob("*") if p.is_file() and p.name not in NEVER}
    moved = {f for f in files if not compare.same_file(figures / f, out / f)}
    for picture in (f for f in files if f.suffix == ".png" and (figures / f).is_file()):
        # Pixels do not tell how far a number moved: a picture follows the drawing and the table beside it.
        others = {picture.with_suffix(suffix) for suffix in (".svg", ".csv")} & files
        if others and not others & moved:
            moved.discard(picture)
        elif others:
            moved.add(picture)
    return moved


def other_settings(out: Path, figures: Path) -> dict[str, str]:
    """By claim, in words, how the setting of what has run differs from the recorded one."""
    found: dict[str, str] = {}
    for file in sorted(out.glob("*/result.json")):
        known = figures / file.parent.name / file.name
        if known.is_file():
            new, old = (read_json(f).get("parameters", {}) for f in (file, known))
            names = [name for name in {**old, **new} if new.get(name) != old.get(name)]  # new ones and lost ones, too
            other = [f"{name} = {new.get(name)} (recorded: {old.get(name)})" for name in names]
            found |= {file.parent.name: ", ".join(other)} if other else {}
    return found


def record_figures(out: Path, figures: Path, *, complete: bool = True) -> set[Path]:
    """Bring ``figures`` to what ``out`` says; returns what moved.

    If all chapters have run (``complete``), files that are no longer written are removed.
    """
    moved = moved_files(out, figures)
    for file in moved:
        (figures / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / file, figures / file)
    written = {p.name for p in out.iterdir()} if complete else set()
    for old in (p for name in written for p in (figures / name).rglob("*") if p.is_file()):
        if not (out / old.relative_to(figures)).is_file():
            old.unlink()
            moved.add(old.relative_to(figures))
    return moved


def reads_older(path: Path, out: Path) -> bool:
    """Whether a chapter read what has been recorded anew since it ran."""
    result = next(out.glob("*/result.json"), None)
    return result is not None and read_json(result).get("tables", "") != tables(path.resolve(), Path.cwd())


def failed(path: Path, executed: Path, out: Path | None) -> bool:
    """Run a notebook once more; whether that failed, which is then said."""
    problem = execute.run(path, executed, out)
    if problem:
        print(f"{notebooks.label(path)}: failed in {problem}", file=sys.stderr)
    return problem is not None


def tidy(notebook: Any) -> Any:
    """Drop what would change from run to run or editor to editor."""
    declared = {"icl": notebook.metadata["icl"]} if "icl" in notebook.metadata else {}
    notebook.metadata = type(notebook.metadata)({**declared, "kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        for key in ("papermill", "execution", "ExecuteTime", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
    return notebook


def record_notebook(path: Path, executed: Path, *, pictures: bool = True) -> bool:
    """Give a committed notebook the outputs of its executed copy, if they say something else."""
    old = notebooks.load(path)
    new = tidy(notebooks.with_outputs(old, notebooks.load(executed)))
    if compare.same_notebook(old, new, pictures=pictures):
        return False
    notebooks.save(new, path)
    return True


def record_reference(path: Path, executed: Path) -> bool:
    """Keep the code and the text outputs of a reduced run: nbval compares no pictures and needs no prose."""
    new = tidy(notebooks.load(executed))
    new.cells = [cell for cell in new.cells if cell.cell_type == "code"]
    for cell in new.cells:
        cell.outputs = compare.joined_streams(cell.outputs)
        for data in (output.data for output in cell.outputs if "data" in output):
            for mime in [key for key in data if key.startswith("image/")]:
                del data[mime]
    if path.is_file():
        old = notebooks.load(path)
        same_code = [cell.source for cell in old.cells] == [cell.source for cell in new.cells]
        if same_code and compare.same_notebook(old, new, pictures=False):
            return False
    notebooks.save(new, path)
    return True


def main() -> int:
    build = Path(os.environ.get("BUILD") or "_build/book")
    figures = Path("figures")
    ran = [Path(path) for path in json.loads((build / "ran.json").read_text(encoding="utf-8"))]
    meant = os.environ.get("SETTING", "").split(",")
    refused = {
        claim: other for claim, other in other_settings(build / "figures", figures).items() if claim not in meant
    }
    for claim, other in refused.items():
        told = f"another setting than the ledger's, {other}; to record it all the same: make record SETTING={claim}"
        print(f"{claim}: {told}", file=sys.stderr)
    if refused:
        return 1
    moved = record_figures(build / "figures", figures, complete=set(ran) == set(notebooks.chapters()))
    for path in ran:
        out = (build / "run" / path).with_suffix(".out")
        if reads_older(path, out):
            shutil.rmtree(out)
            if failed(path, build / "run" / path, out):
                return 1
            shutil.copytree(out, build / "figures", dirs_exist_ok=True, copy_function=shutil.copyfile)
            moved |= record_figures(out, figures, complete=False)
    for page in (path for path in notebooks.chapters() if path not in ran):
        result = next((f for f in figures.glob("*/result.json") if page.stem.startswith(f"{f.parent.name}_")), None)
        if result and read_json(result).get("tables", "") != tables(page.resolve(), Path.cwd()):
            print(f"{notebooks.label(page)} reads what is new now: make record CHAPTER={page.stem}", file=sys.stderr)
    touched = [figures / file for file in sorted(moved)]
    for path in ran:
        out = (build / "run" / path).with_suffix(".out")
        drawn = {p.relative_to(out) for p in out.rglob("*.svg")}
        pictures = not drawn or any(file.parts[0] in {p.parts[0] for p in drawn} for file in moved)
        if record_notebook(path, build / "run" / path, pictures=pictures):
            touched.append(path)
    for path in notebooks.reduced():
        reference, executed = notebooks.REFERENCES / path.name, build / "reference" / path.name
        # A heavy chapter's test is recorded although the chapter has not run.
        alone = notebooks.heavy(path) and not os.environ.get("CHAPTER") and executed.is_file()
        if (path in ran or alone) and record_reference(reference, executed):
            touched.append(reference)
    for path in notebooks.summaries():  # last, and without the folder of this run: they read what is committed
        executed = build / "record" / path
        if failed(path, executed, None):
            return 1
        if record_notebook(path, executed):
            touched.append(path)
    print(*(f"recorded {path}" for path in touched), f"{len(touched)} files rewritten", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(command(main)())
