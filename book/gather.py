"""The results of a sweep as one tidy table and a figure; made anew only when a point has been added or has changed."""

import csv
import hashlib
import io
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.point import Job
from book.story import in_words
from book.sweep import SWEEP, State, whole
from icl_lib.locks import locked
from icl_lib.paths import write_json

TABLE, FIGURE, STAMP = "table.csv", "figure", "table.json"
NAMES = (TABLE, *(f"{FIGURE}.{kind}" for kind in ("png", "svg", "csv", "json")))
MEASURED = ("clause", "quantity", "estimate", "low", "high", "n", "verdict", "exploratory", "folder")


def varied(jobs: Sequence[Job]) -> list[str]:
    """Names of the parameters that are not the same at all points."""
    names = jobs[0].values if jobs else {}
    return [name for name in names if len({json.dumps(job.values[name]) for job in jobs}) > 1]


def _order(job: Job, names: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Numbers by size, other values by their text."""
    values = [job.values[name] for name in names]
    return [(True, float(v), "") if isinstance(v, int | float) else (False, 0.0, json.dumps(v)) for v in values]


def rows(folder: Path, found: State) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table: for every finished point, clause and quantity (value, control) one interval."""
    names, table = varied(found.jobs), []
    for job in sorted((j for j in found.jobs if j.key in found.finished), key=lambda j: _order(j, names)):
        setting = {n: json.dumps(v) if isinstance(v, list) else v for n, v in job.values.items() if n in names}
        point = f"points/{job.key}"
        setting |= {"exploratory": found.finished[job.key]["exploratory"], "folder": point}
        file = folder / point / job.chapter / "result.json"
        clauses = json.loads(file.read_text(encoding="utf-8")).get("clauses", {}) if file.is_file() else {}
        for clause, entry in sorted(clauses.items()):
            for quantity in ("value", "control"):
                interval = {name: entry[quantity].get(name) for name in ("estimate", "low", "high", "n")}
                table.append(
                    {**setting, "clause": clause, "quantity": quantity, **interval, "verdict": entry["verdict"]}
                )
        if not clauses:  # a chapter that measures no claim: the point is not to be missed all the same
            table.append(setting)
    return [*names, *MEASURED], table


def gather(folder: Path, found: State) -> bool:
    """Write the table, and a figure if a number was varied; says whether anything had changed.

    Both are about all points of the folder, those of earlier grids, too. Where no point is finished there is neither. What
    somebody has changed is kept under another name.

    Raises:
        OSError: if they cannot be written.
    """
    if found.jobs and (folder / SWEEP).is_file():
        found = whole(folder, Path(found.jobs[0].book), found)
    results = {key: record["files"] for key, record in found.finished.items()}
    about = [MEASURED, varied(found.jobs), results]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    if not found.finished and not (folder / STAMP).is_file():
        return False
    with locked(folder / "locks" / "sweep.lock"):
        known, written = _stamp(folder)
        there = [name for name in NAMES if (folder / name).is_file()]
        as_written = all(_sha(folder / name) in written.get(name, ()) for name in there) or (
            known == digest and not written
        )
        if known == digest and as_written and TABLE in there:
            return False
        with tempfile.TemporaryDirectory(prefix=".table-", dir=folder) as new:
            if found.finished:
                columns, content = rows(folder, found)
                text = io.StringIO()
                writer = csv.DictWriter(text, columns, lineterminator="\n")
                writer.writeheader()
                writer.writerows(content)
                (Path(new) / TABLE).write_text(text.getvalue(), encoding="utf-8", newline="")
                _draw(Path(new), found, varied(found.jobs))
            _replace(folder, {name: Path(new) / name for name in NAMES}, written, digest)
    return True


def put(folder: Path, name: str, content: bytes) -> Path:
    """Write another file of a sweep's, such as its report; one that somebody has changed is kept under another name."""
    with locked(folder / "locks" / "sweep.lock"), tempfile.TemporaryDirectory(prefix=".table-", dir=folder) as new:
        (Path(new) / name).write_bytes(content)
        known, written = _stamp(folder)
        _replace(folder, {name: Path(new) / name}, written, known)
    return folder / name


def _stamp(folder: Path) -> tuple[str, dict[str, list[str]]]:
    """Of which results table and figure are, and by file the digests of what was written; empty in sweeps of version 0.1."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return (stamp, {}) if isinstance(stamp, str) else (str(stamp["results"]), dict(stamp["written"]))
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}


def _replace(folder: Path, new: Mapping[str, Path], written: dict[str, list[str]], digest: str) -> None:
    """Give files their names, those that are there; of the others, none is left. Interrupted, it can be done again."""
    for name in new:
        file = folder / name
        if file.is_file() and _sha(file) not in written.get(name, ()):
            _keep(file)
    made = {name: _sha(file) for name, file in new.items() if file.is_file()}
    both = {**written, **{name: [*written.get(name, ()), sha] for name, sha in made.items()}}
    write_json(folder / STAMP, {"results": "", "written": both})
    for name, file in new.items():
        if name in made:
            os.replace(file, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    rest = {name: shas for name, shas in written.items() if name not in new}
    write_json(folder / STAMP, {"results": digest, "written": {**rest, **{name: [sha] for name, sha in made.items()}}})


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _keep(file: Path) -> None:
    """Rename a file that is not as it was written, and say so."""
    names = (file.with_name(f"changed{n or ''}-{file.name}") for n in itertools.count())
    kept = next(name for name in names if not name.exists())
    file.rename(kept)
    warnings.warn(f"{file} is not as it was written; it is kept as {kept.name}", stacklevel=4)


def _draw(folder: Path, found: State, names: Sequence[str]) -> None:
    """Every clause against the varied number with the most values; other varied parameters are the curves."""
    import pandas as pd

    table = pd.read_csv(folder / TABLE, float_precision="round_trip").dropna(subset=["estimate"])
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(table[name])]
    if table.empty or not numbers:
        return
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt
    import seaborn as sns

    from icl_lib.figures import CONTROL, band, save_figure, use_theme

    use_theme()
    x = max(numbers, key=lambda name: table[name].nunique())
    others = [name for name in names if name != x]
    settings = ({name: row[name] for name in others} for row in table.to_dict("records"))
    table["curve"] = [in_words(setting) or "measured" for setting in settings]
    clauses = sorted(table["clause"].unique())
    fig, axes = plt.subplots(len(clauses), figsize=(6, 3.2 * len(clauses)), squeeze=False)
    curves = list(dict.fromkeys(table["curve"]))
    colours = dict(zip(curves, sns.color_palette("viridis" if len(curves) > 1 else "colorblind", len(curves))))
    for ax, clause in zip(axes[:, 0], clauses):
        part = table[table["clause"] == clause]
        for curve in curves:
            here = part[part["curve"] == curve]
            band(ax, here[here["quantity"] == "value"], x, colours[curve], curve, marker="o")
            control = here[here["quantity"] == "control"].sort_values(x)
            label = "control" if curve == curves[0] else None
            ax.plot(control[x], control["estimate"], ":", color=CONTROL, label=label, linewidth=1)
        ax.set(xlabel=x, ylabel=clause)
    axes[0, 0].legend(loc="best")
    first = next(iter(found.finished.values()))
    stamp = {name: first[name] for name in ("chapter", "code", "versions", "commit")}
    save_figure(fig, folder, FIGURE, table, {**stamp, "varied": list(names), "points": len(found.finished)})
    plt.close(fig)
