"""What a sweep's folder holds, for people: a few lines, or one HTML file with everything in it."""

import base64
import csv
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from icl_lib.paths import write_atomic
from icl_lib.rerun.gather import FIGURE, TABLE, varied
from icl_lib.rerun.page import STYLE
from icl_lib.rerun.point import Job
from icl_lib.rerun.progress import clock
from icl_lib.rerun.sweep import State

MOST_ROWS = 2000  # of the table that the page shows


def setting(job: Job, names: Sequence[str]) -> str:
    """A point as messages call it."""
    return ", ".join(f"{name} = {job.values[name]}" for name in names) or "the book's setting"


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


def _table(rows: Iterable[Sequence[str]]) -> str:
    head, *body = ([html.escape(cell) for cell in row] for row in rows)
    first = "".join(f"<th>{cell}</th>" for cell in head)
    rest = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in body)
    return f"<table><tr>{first}</tr>{rest}</table>"


def write_report(folder: Path, chapter: str, title: str, found: State) -> Path:
    """One page: what ran and what failed, the figure, the table and where it all comes from.

    Raises:
        OSError: if the page cannot be written.
    """
    parts = [f"<h1>Sweep of {html.escape(chapter)}: {html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(line)}</p>" for line in summary(found)]
    picture, table = folder / f"{FIGURE}.png", folder / TABLE
    if picture.is_file():
        data = base64.b64encode(picture.read_bytes()).decode()
        alt = f"Measured intervals against {html.escape(', '.join(varied(found.jobs)))}, from the table below"
        parts.append(f'<img alt="{alt}" src="data:image/png;base64,{data}">')
    if table.is_file():
        with table.open() as file:
            content = list(csv.reader(file))
        parts.append(_table(content[: MOST_ROWS + 1]))
        if len(content) > MOST_ROWS + 1:
            parts.append(f"<p>{len(content) - 1 - MOST_ROWS} more rows are in {TABLE}.</p>")
    for record in list(found.finished.values())[:1]:
        shared = {name: record["parameters"][name] for name in record["parameters"] if name not in varied(found.jobs)}
        text = f"{record['machine']}; commit {record['commit']}, {record['date']}; shared parameters {shared}"
        parts.append(f"<p><small>{html.escape(text)}</small></p>")
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(chapter)}</title>{STYLE}'
    page = folder / "report.html"
    write_atomic(page, f"{head}<body>{''.join(parts)}</body></html>".encode())
    return page
