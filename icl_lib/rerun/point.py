"""One run of a chapter as a folder: named by what it depends on, complete or absent, and checked when it is read.

A folder holds the executed notebook, what the chapter wrote, and ``provenance.json`` with the hash of every file. It is made
under another name and then renamed, so that nobody sees half of one; nothing in it is ever unpickled.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_lib import provenance
from icl_lib.device import check_device
from icl_lib.paths import write_atomic, write_json
from icl_lib.rerun.book import ChapterFile
from icl_lib.rerun.page import html_page
from icl_lib.rerun.story import tell

RECORD = "provenance.json"


@dataclass(frozen=True)
class Job:
    """What it takes to run a point, in plain values: it goes to other processes as JSON."""

    book: str
    chapter: str
    values: dict[str, Any]
    code: str  # digest of what the run depends on beside the values, the device included
    device: str = "cpu"

    @property
    def key(self) -> str:
        """The name of this run."""
        return hashlib.sha256(json.dumps([self.code, self.values], sort_keys=True).encode()).hexdigest()[:20]


def code_digest(chapter: ChapterFile, device: str = "cpu") -> str:
    """Changes with the chapter's code, the library code and data under it, its entry in the ledger, versions and device."""
    data = {f.name: _sha(f) for f in sorted((provenance.PACKAGE / "data").glob("*.csv"))}
    parts = [provenance.chapter_hash(chapter.notebook), data, dict(chapter.entry), provenance.versions(device)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def require_device(chapter: ChapterFile, device: str, here: bool = True) -> None:
    """Refuse a device on which the chapter cannot train or, with ``here``, one that this machine does not have.

    Raises:
        ConfigError: naming chapter, device and what is allowed.
    """
    prefix = f"{chapter.id}: "
    check_device(device, prefix, here=False)
    provenance.check_trains(chapter.notebook, device, prefix)
    check_device(device, prefix, here)


def exploratory(chapter: ChapterFile, values: Mapping[str, object], device: str) -> dict[str, object]:
    """What is not as in the ledger's setting, which is on the CPU; empty for a run that is."""
    return {**chapter.changed(values), **({} if device == "cpu" else {"device": device})}


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def compute(chapter: ChapterFile, job: Job, work: Path, on_cell: Callable[[], None] | None = None) -> str | None:
    """Run a chapter into the folder ``work``, with its page; returns what went wrong, if anything.

    Raises:
        OSError: if its files cannot be written.
    """
    import nbformat

    from icl_lib.rerun.execute import run

    changed = chapter.changed(job.values)
    other = exploratory(chapter, job.values, job.device)
    work.mkdir(parents=True)
    target = work / chapter.notebook.name
    problem = run(chapter.notebook, target, work, changed, cwd=chapter.book, device=job.device, on_cell=on_cell)
    if problem:
        return problem
    notebook = nbformat.read(target, as_version=4)
    stamp = notebook.metadata["icl_book"]
    tell(notebook, chapter, other, work)
    write_atomic(target, nbformat.writes(notebook).encode())
    write_atomic(target.with_suffix(".html"), html_page(notebook, f"{chapter.id}: {chapter.title}").encode())
    files = {str(f.relative_to(work)): [f.stat().st_size, _sha(f)] for f in sorted(work.rglob("*")) if f.is_file()}
    asked = {"chapter": chapter.id, "parameters": job.values, "changed": other, "exploratory": bool(other)}
    identity = {"key": job.key, "code": job.code}
    write_json(work / RECORD, {**asked, **identity, **stamp, "files": files})
    return None


def publish(work: Path, final: Path) -> None:
    """Give a complete folder its name; an older one of that name is replaced."""
    final.parent.mkdir(parents=True, exist_ok=True)
    old = work.with_name(work.name + ".old")
    if final.exists():
        final.rename(old)
    try:
        os.replace(work, final)
    except BaseException:  # a signal, too
        if old.exists() and not final.exists():
            old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def read_record(folder: Path, job: Job) -> dict[str, Any] | None:
    """What ``provenance.json`` says of a finished run, or None if it is another run or a file is not as it was written.

    Tables and results are compared by hash, pictures and notebooks by size: a sweep of a thousand points is read in a second.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        ours = (record["key"], record["code"], record["parameters"]) == (job.key, job.code, job.values)
        intact = all(_as_written(folder / name, *is_) for name, is_ in record["files"].items())
        return record if ours and intact else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _as_written(file: Path, size: int, digest: str) -> bool:
    return file.stat().st_size == size and (file.suffix not in (".json", ".csv") or _sha(file) == digest)
