"""What a sweep has finished: one tidy table and a figure, made anew only when a point has changed; a few lines, or one HTML file."""

import base64
import csv
import hashlib
import html
import itertools
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.render import STYLE
from book.run import Job, sha, unused
from book.sweep import FIGURE, GATHERED, REPORT, STAMP, SWEEP, TABLE, State, whole
from book.terminal import clock
from book.words import in_words
from icl_lib.locks import locked
from icl_lib.paths import write_json

MEASURED = ("clause", "quantity", "estimate", "low", "high", "n", "verdict", "exploratory", "folder")


def varied(jobs: Sequence[Job]) -> list[str]:
    """Names of the parameters that are not the same at all points."""
    names = jobs[0].values if jobs else {}
    return [name for name in names if len({json.dumps(job.values[name]) for job in jobs}) > 1]


def setting(job: Job, names: Sequence[str]) -> str:
    """A point as messages call it."""
    return in_words({name: job.values[name] for name in names}) or "the shared setting"


def _order(job: Job, names: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Numbers by size, other values by their text."""
    values = [job.values[name] for name in names]
    return [(True, float(v), "") if isinstance(v, int | float) else (False, 0.0, json.dumps(v)) for v in values]


def rows(folder: Path, found: State) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of the table: one interval for every finished point, clause and quantity (value or control)."""
    names, table = varied(found.jobs), []
    for job in sorted((j for j in found.jobs if j.key in found.finished), key=lambda j: _order(j, names)):
        setting = {n: json.dumps(v) if isinstance(v, list) else v for n, v in job.values.items() if n in names}
        point = f"points/{job.key}"
        setting |= {"exploratory": found.finished[job.key]["exploratory"], "folder": point}
        file = folder / point / job.chapter / "result.json"
        clauses = json.loads(file.read_text(encoding="utf-8")).get("clauses", {}) if file.is_file() else {}
        for clause, entry in sorted(clauses.items()):
            for quantity in ("value", "control"):
                of = {"clause": clause, "quantity": quantity, "verdict": entry["verdict"]}
                table.append(setting | of | {name: entry[quantity].get(name) for name in MEASURED[2:6]})
        if not clauses:  # a chapter that measures no claim: the point is not to be missed all the same
            table.append(setting)
    return [*names, *MEASURED], table


def gather(folder: Path, found: State) -> None:
    """Write the table, and a figure if a number was varied, where anything has changed.

    Both are about all points of the folder, those of earlier grids, too. Where no point is finished there is neither. What
    somebody has changed is kept under another name.

    Raises:
        OSError: if they cannot be written.
    """
    if found.jobs and (folder / SWEEP).is_file():
        found = whole(folder, Path(found.jobs[0].book))
    names, results = varied(found.jobs), {key: record["files"] for key, record in found.finished.items()}
    digest = hashlib.sha256(json.dumps([MEASURED, names, results], sort_keys=True).encode()).hexdigest()
    if not found.finished and not (folder / STAMP).is_file():
        return
    with locked(folder / "locks" / "sweep.lock"):
        known, written = _stamp(folder)
        there = [name for name in GATHERED if (folder / name).is_file()]
        as_written = all(sha(folder / name) in written.get(name, ()) for name in there)
        if known == digest and as_written and TABLE in there:
            return
        with tempfile.TemporaryDirectory(prefix=".table-", dir=folder) as new:
            if found.finished:
                columns, content = rows(folder, found)
                with (Path(new) / TABLE).open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, columns, lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(content)
                _draw(Path(new), found, names)
            _replace(folder, {name: Path(new) / name for name in GATHERED}, written, digest)


def _stamp(folder: Path) -> tuple[str, dict[str, list[str]]]:
    """Of which results table and figure are, and by file the digests of what was written; empty if nothing says so."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return str(stamp["results"]), dict(stamp["written"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}


def _replace(folder: Path, new: Mapping[str, Path], written: dict[str, list[str]], digest: str) -> None:
    """Give files their names, those that are there; of the others, none is left. Interrupted, it can be done again."""
    for name in new:
        file = folder / name
        if file.is_file() and sha(file) not in written.get(name, ()):
            kept = unused(file.with_name(f"changed{n or ''}-{name}") for n in itertools.count())
            file.rename(kept)
            warnings.warn(f"{file} is not as it was written; it is kept as {kept.name}", stacklevel=3)
    made = {name: [sha(file)] for name, file in new.items() if file.is_file()}
    both = {**written, **{name: [*written.get(name, ()), *shas] for name, shas in made.items()}}
    write_json(folder / STAMP, {"results": "", "written": both})
    for name, file in new.items():
        if name in made:
            os.replace(file, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    rest = {name: shas for name, shas in written.items() if name not in new}
    write_json(folder / STAMP, {"results": digest, "written": {**rest, **made}})


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
    others = ({name: row[name] for name in names if name != x} for row in table.to_dict("records"))
    table["curve"] = [in_words(setting) or "measured" for setting in others]
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


MOST_ROWS = 2000  # of the table that the page shows


def summary(found: State) -> list[str]:
    """How many points are finished, how long they took, and every failure."""
    names = varied(found.jobs)
    seconds = sorted(record["seconds"] for record in found.finished.values())
    lines = [
        f"{len(seconds)} of {len(found.jobs)} points finished, {len(found.failed)} failed, {len(found.missing)} missing"
    ]
    if seconds:
        middle = seconds[len(seconds) // 2]
        lines.append(
            f"run time {clock(sum(seconds))} in all; a point {seconds[0]}, {middle}, {seconds[-1]} s (least, median, most)"
        )
    failed = (job for job in found.jobs if job.key in found.failed)
    return lines + [f"failed at {setting(job, names)}: {found.failed[job.key]}" for job in failed]


def write_report(folder: Path, chapter: str, title: str, found: State, remarks: Sequence[str] = ()) -> Path:
    """One page: what ran and what failed, remarks, the figure, the table and where it all comes from.

    One that somebody has changed is kept under another name.

    Raises:
        OSError: if the page cannot be written.
    """
    import pandas as pd

    parts = [f"<h1>Sweep of {html.escape(chapter)}: {html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in [*summary(found), *remarks]]
    left = [f"failed/{key}.ipynb" for key in found.failed]
    parts += [f'<p>As far as it came: <a href="{at}">{at}</a></p>' for at in left if (folder / at).is_file()]
    picture, table = folder / f"{FIGURE}.png", folder / TABLE
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode()
        alt = f"Measured intervals against {html.escape(', '.join(varied(found.jobs)))}, from the table below"
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    if table.is_file():
        content = pd.read_csv(table, dtype=str, keep_default_na=False)
        shown = content.head(MOST_ROWS).map(html.escape)
        points = [folder / point for point in shown.pop("folder")]
        pages = [next(point.glob("*.html"), point).relative_to(folder) for point in points]
        shown.insert(0, "page", [f'<a href="{at}">{point.name[:8]}</a>' for at, point in zip(pages, points)])
        for name in ("estimate", "low", "high"):
            shown[name] = [f"{float(x):.4g}" if x else "" for x in shown[name]]
        with pd.option_context("display.max_colwidth", None):  # or long lists are cut
            parts.append(shown.to_html(index=False, border=0, justify="left", escape=False))
        if len(content) > MOST_ROWS:
            parts.append(f"<p>{len(content) - MOST_ROWS} more rows are in {TABLE}.</p>")
    for record in list(found.finished.values())[:1]:
        shared = {name: value for name, value in record["parameters"].items() if name not in varied(found.jobs)}
        text = f"{record['machine']}; commit {record['commit']}, {record['date']}; shared parameters {shared}"
        parts.append(f"<p><small>{html.escape(text)}</small></p>")
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(chapter)}</title>{STYLE}'
    with locked(folder / "locks" / "sweep.lock"), tempfile.TemporaryDirectory(prefix=".table-", dir=folder) as new:
        (Path(new) / REPORT).write_text(f"{head}<body>{''.join(parts)}</body></html>", encoding="utf-8")
        known, written = _stamp(folder)
        _replace(folder, {REPORT: Path(new) / REPORT}, written, known)
    return folder / REPORT
