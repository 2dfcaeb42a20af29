"""What a sweep's folder holds, for people: a few lines, or one HTML file with everything in it."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from book.gather import FIGURE, TABLE, put, varied
from book.page import STYLE
from book.point import Job
from book.progress import clock
from book.story import in_words
from book.sweep import State

MOST_ROWS = 2000  # of the table that the page shows


def setting(job: Job, names: Sequence[str]) -> str:
    """A point as messages call it."""
    return in_words({name: job.values[name] for name in names}) or "the shared setting"


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
        shown.insert(0, "page", [_link(folder, point) for point in shown.pop("folder")])
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
    return put(folder, "report.html", f"{head}<body>{''.join(parts)}</body></html>".encode())


def _link(folder: Path, point: str) -> str:
    """A link from the report to the page of a point; to its folder, if that was computed before points had pages."""
    page = next((file.relative_to(folder) for file in (folder / point).glob("*.html")), point)
    return f'<a href="{page}">{Path(point).name[:8]}</a>'
