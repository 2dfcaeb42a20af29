"""One run of a chapter as a folder: named by what it depends on, complete or absent, and checked when it is read.

A folder holds the executed notebook, what the chapter wrote, and ``provenance.json`` with the hash of every file. It is made
under another name and then renamed, so that nobody sees half of one; nothing in it is ever unpickled.
"""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.identity import chapter_code, check_trains, library_data
from book.notebooks import declared, declared_files
from book.page import html_page
from book.registry import ChapterFile, asked, find
from book.story import tell
from icl_lib import provenance
from icl_lib.device import check_device
from icl_lib.locks import locked
from icl_lib.paths import own_temporary, write_atomic, write_json
from icl_lib.source import WRITTEN, CodeChanged, check_unchanged, stamp

RECORD = "provenance.json"
OTHER_CODE = "the code, the ledger or the versions here are not those that the run was planned with"
LEFT_BY_LOOKING = {".ipynb_checkpoints", ".DS_Store"}


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


def _files(chapter: ChapterFile) -> list[Path]:
    """What a chapter declares to read, of the library and of its book."""
    return list(dict.fromkeys([*library_data(chapter.notebook), *declared_files(chapter.notebook, chapter.book)]))


def code_digest(chapter: ChapterFile, device: str = "cpu") -> str:
    """Changes with the chapter's code, the library code under it, files that it declares to read, its entry in the ledger, versions and device.

    Raises:
        icl_lib.source.CodeChanged: if code of the library was written since this process began.
    """
    versions = provenance.versions(device, declared(chapter.notebook)["packages"])
    files = [_sha(file) for file in _files(chapter)]
    parts = [chapter_code(chapter.notebook, drawn=True), files, asked(chapter.entry), versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def require_device(chapter: ChapterFile, device: str, here: bool = True) -> None:
    """Refuse a device on which the chapter cannot train or, with ``here``, one that this machine does not have.

    Raises:
        ConfigError: naming chapter, device and what is allowed.
    """
    prefix = f"{chapter.id}: "
    check_device(device, prefix, here=False)
    check_trains(chapter.notebook, device, prefix)
    check_device(device, prefix, here)


def exploratory(chapter: ChapterFile, values: Mapping[str, object], device: str) -> dict[str, object]:
    """What is not as in the ledger's setting, which is on the CPU; empty for a run that is."""
    return {**chapter.changed(values), **({} if device == "cpu" else {"device": device})}


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def compute(chapter: ChapterFile, job: Job, work: Path, on_cell: Callable[[], None] | None = None) -> str | None:
    """Run a chapter into the folder ``work``, with its page; returns what went wrong, if anything.

    Raises:
        CodeChanged: if what it depends on is not what the job was planned with, or was written while it ran.
        OSError: if its files cannot be written.
    """
    import nbformat

    from book.execute import run

    tables = (chapter.book / "claims.yml", chapter.book / "chapters" / "parameters.yml")
    read = {file: stamp(file) for file in (*tables, *_files(chapter)) if file.is_file()}
    if code_digest(find(chapter.id, chapter.book), job.device) != job.code:
        raise CodeChanged(OTHER_CODE)
    injected = chapter.injected(job.values)
    other = exploratory(chapter, job.values, job.device)
    work.mkdir(parents=True)
    target = work / chapter.notebook.name
    problem = run(chapter.notebook, target, work, injected, cwd=chapter.book, device=job.device, on_cell=on_cell)
    check_unchanged(read, read)
    if code_digest(chapter, job.device) != job.code:  # this looks at the library's files, too
        raise CodeChanged(f"{chapter.notebook} {WRITTEN}")
    if problem:  # of this code, and no other
        return problem
    notebook = nbformat.read(target, as_version=4)
    ran = notebook.metadata["icl_book"]
    tell(notebook, chapter, other, work)
    write_atomic(target, nbformat.writes(notebook).encode())
    write_atomic(target.with_suffix(".html"), html_page(notebook, f"{chapter.id}: {chapter.title}").encode())
    files = {str(f.relative_to(work)): [f.stat().st_size, _sha(f)] for f in sorted(work.rglob("*")) if f.is_file()}
    asked = {"chapter": chapter.id, "parameters": job.values, "changed": other, "exploratory": bool(other)}
    identity = {"key": job.key, "code": job.code}
    record = {**asked, **identity, **ran, "files": files}
    write_json(work / RECORD, {**record, "seal": _seal(json.loads(json.dumps(record)))})
    return None


def others(folder: Path) -> list[str]:
    """What stands where a run is to go and is not as a run wrote it: files of others, and its own that were changed since.

    Empty if there is nothing, an empty folder, or an earlier run that nobody has touched: only that may be replaced. What
    Jupyter and file managers put beside a file that is only looked at does not count.
    """
    if not folder.is_dir():
        return [folder.name] if folder.exists() or folder.is_symlink() else []
    files = _own(folder)

    def own(path: Path) -> bool:
        name = str(path.relative_to(folder))
        if path.is_symlink():
            return False
        if path.is_dir():
            return any(file.startswith(f"{name}/") for file in files)
        return name == RECORD in files or (name in files and [path.stat().st_size, _sha(path)] == files[name])

    looked_at = (path for path in folder.rglob("*") if not LEFT_BY_LOOKING & set(path.relative_to(folder).parts))
    return sorted(str(path.relative_to(folder)) for path in looked_at if not own(path))


def _own(folder: Path) -> dict[str, Any]:
    """The files of a run in a folder, by what its record says; none if that is not as it was written."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {**record["files"], RECORD: None} if record.pop("seal", _seal(record)) == _seal(record) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _seal(record: Mapping[str, object]) -> str:
    rest = {name: value for name, value in record.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def recover(final: Path) -> None:
    """Give a folder its name back if a process was killed while it replaced it; remove what it left if it had finished."""
    old = _aside(final)
    if _own(old) and not final.exists():
        old.rename(final)
    elif _own(old) and _own(final):
        _discard(old)
    for left in final.parent.glob(f".{glob.escape(final.name)}.discarded-*"):
        shutil.rmtree(left, ignore_errors=True)


def publish(work: Path, final: Path) -> None:
    """Give a complete folder its name; an older run of that name, untouched since, is replaced.

    Raises:
        OSError: if something else stands there, or it cannot be renamed; ``work`` is then left as it is.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(os.fsencode(final)).hexdigest()[:24]
    with locked(own_temporary() / f"{name}.lock"):
        recover(final)
        old = _aside(final)
        if final.exists() or final.is_symlink():
            _refuse(others(final), final)
            final.rename(old)
        try:
            _refuse(others(old), final)  # what came in between
            os.replace(work, final)
        except BaseException:  # a signal, too
            if old.exists() and not final.exists():
                old.rename(final)
            raise
        if old.exists():
            _discard(old)


def _refuse(found: list[str], final: Path) -> None:
    if found:
        raise FileExistsError(f"{final}: {found[0]} is not as a run wrote it")


def _aside(final: Path) -> Path:
    """Where an older run is while a new one takes its place."""
    return final.with_name(f".{final.name}.replaced")


def _discard(old: Path) -> None:
    """Remove a folder; while that lasts it has a name that nobody takes for a whole one."""
    doomed = Path(tempfile.mkdtemp(prefix=f"{old.name.removesuffix('.replaced')}.discarded-", dir=old.parent))
    old.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


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
