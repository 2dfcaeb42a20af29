"""Chapters with two threads, in double precision, with other versions of the packages, on another machine: the same verdicts.

Each of the first three is compared, clause by clause, with a run on one thread, in the chapter's own precision, with the locked versions,
at the settings of ``chapter.FEW``. What `make book` has computed on this machine is compared with the committed results, which another
processor computed. That needs the built book, so it runs only when it is named: ``python -m reliability rebuilt``.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from book.compare import same_file
from icl_lib.paths import root
from icl_lib.provenance import processor
from reliability.chapter import FEW, copy_of_book, run
from reliability.outcome import Row

KIND = "threads, precision, versions"
BUILT = "built on "  # and where: each processor, instruction set and Python is a kind of its own
CHAPTERS = [path for path in FEW if "data_model" not in path]  # which has no verdict
FLOAT64 = [path for path in CHAPTERS if "K1" in path]  # it trains on prompts whose precision can be chosen
# From the ranges in pyproject.toml, where torch is pinned; the locked versions are the newest. numpy 2 needs pandas 2.2.2,
# and pandas 2 needs pytz.
VERSIONS = {
    "oldest": ("numpy==2.2.0", "scipy==1.15.0", "pandas==2.2.2", "scikit-learn==1.6.0", "pytz"),
    "middle": ("numpy==2.3.*", "scipy==1.16.*", "pandas==2.3.*", "scikit-learn==1.7.*", "pytz"),
}


def install(names: tuple[str, ...], folder: Path) -> Path:
    """Packages in a folder of their own, without what they depend on."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, "--only-binary=:all:", "--target", str(folder), *names], check=True)
    return folder


def installed(folder: Path) -> str:
    """What was installed there."""
    names = sorted(path.name.removesuffix(".dist-info") for path in folder.glob("*.dist-info"))
    return ", ".join(name.replace("_", "-").rpartition("-")[0] + " " + name.rpartition("-")[2] for name in names)


def verdicts(folder: Path) -> dict[str, str]:
    """The verdict on the claim, and on each clause."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {"claim": result["verdict"]} | {name: clause["verdict"] for name, clause in result["clauses"].items()}


def compared(case: str, base: Mapping[str, str], other: Mapping[str, str], detail: str = "") -> Row:
    """n is the number of verdicts that are the same, or that are not."""
    moved = [f"{name}: {base[name]}, then {other.get(name)}" for name in base if base[name] != other.get(name)]
    if moved:
        return Row(KIND, case, "other verdicts", len(moved), False, "; ".join(moved))
    return Row(KIND, case, "same verdicts", len(base), True, detail)


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        sets = {name: install(names, Path(place) / name) for name, names in VERSIONS.items()}
        for chapter in CHAPTERS:

            def verdicts_with(name: str, chapter: str = chapter, **setting: Any) -> dict[str, str]:
                book = copy_of_book(Path(place) / f"{Path(chapter).stem} {name}")
                return verdicts(run(book, chapter, **setting))

            base, label = verdicts_with("as recorded"), Path(chapter).stem
            settings: dict[str, dict[str, Any]] = {"two threads": {"threads": 2}}
            settings |= {"float64": {"dtype": "float64"}} if chapter in FLOAT64 else {}
            settings |= {f"{name} versions": {"packages": folder} for name, folder in sets.items()}
            for name, setting in settings.items():
                detail = installed(setting["packages"]) if "packages" in setting else ""
                try:
                    yield compared(f"{label}: {name}", base, verdicts_with(name, **setting), detail)
                except RuntimeError as error:
                    yield Row(KIND, f"{label}: {name}", "stopped", 1, False, f"{error} ({detail})")


def largest_move(known: Path, folder: Path) -> float:
    """By how much an estimate moved at most, in half-widths of its committed interval."""
    moves = [0.0]
    before, after = (
        json.loads((place / "result.json").read_text(encoding="utf-8"))["clauses"] for place in (known, folder)
    )
    for name, clause in before.items():
        old, half = clause["value"], (clause["value"]["high"] - clause["value"]["low"]) / 2
        move = abs(after[name]["value"]["estimate"] - old["estimate"])
        moves.append(move / half if half else math.inf if move else 0.0)
    return max(moves)


def rebuilt(committed: Path | None = None) -> Iterator[Row]:
    """One row per chapter that was built; stops where none was."""
    built, committed = Path(os.environ.get("BUILD") or "_build/book") / "figures", committed or root() / "figures"
    here = f"{processor()}, Python {'.'.join(platform.python_version_tuple()[:2])}"
    results = sorted(built.glob("*/result.json"))
    if not results:
        sys.exit(f"no chapter has been built in {built}: make book does it")
    for folder in (result.parent for result in results):
        known, tables = committed / folder.name, list(folder.rglob("*.csv"))
        same = sum(same_file(known / table.relative_to(folder), table) for table in tables)
        moved = largest_move(known, folder)
        detail = f"{same} of {len(tables)} tables equal, estimates moved by {moved:.2g} half-widths"
        row = compared(folder.name, verdicts(known), verdicts(folder))
        yield row._replace(kind=BUILT + here, detail="; ".join(filter(None, (detail, row.detail))))
