"""One run of a chapter as a folder: named by what it depends on, complete or absent, and checked when it is read.

A folder holds the executed notebook, what the chapter wrote, and ``provenance.json`` with the hash of every file. It is made
under another name and then renamed, so that nobody sees half of one; nothing in it is ever unpickled.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.identity import chapter_code, check_trains, library_data
from book.notebooks import declared, declared_files
from book.registry import ChapterFile, asked, find
from book.render import html_page, tell
from icl_lib import provenance
from icl_lib.device import check_device
from icl_lib.locks import locked, workplace
from icl_lib.paths import own_temporary, write_atomic, write_json
from icl_lib.source import WRITTEN, CodeChanged, check_unchanged, stamp
from icl_lib.validate import require

RECORD = "provenance.json"
OTHER_CODE = "the code, the ledger or the versions here are not those that the run was planned with"
LEFT_BY_LOOKING = {".ipynb_checkpoints", ".DS_Store"}


@dataclass(frozen=True)
class Job:
    """Everything needed to run one point, in plain values: it goes to other processes as JSON."""

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
    files = [sha(file) for file in _files(chapter)]
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


def unused(paths: Iterable[Path]) -> Path:
    """The first of the paths where there is nothing."""
    return next(path for path in paths if not path.exists())


def sha(file: Path) -> str:
    """The digest of a file."""
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
    files = {str(f.relative_to(work)): [f.stat().st_size, sha(f)] for f in sorted(work.rglob("*")) if f.is_file()}
    record = {"chapter": chapter.id, "parameters": job.values, "changed": other, "exploratory": bool(other)}
    record |= {"key": job.key, "code": job.code, **ran, "files": files}
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
        return name == RECORD in files or (name in files and [path.stat().st_size, sha(path)] == files[name])

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
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _aside(final: Path) -> Path:
    """Where an older run is while a new one takes its place."""
    return final.with_name(f".{final.name}.replaced")


def _discard(old: Path) -> None:
    """Remove a folder; while that lasts it lies where nobody takes it for a whole one."""
    with workplace(old) as place:
        old.rename(place / old.name)


def recover(final: Path) -> None:
    """Give a folder its name back if a process was killed while it replaced it; remove what it left if it had finished."""
    old = _aside(final)
    if _own(old) and not final.exists():
        old.rename(final)
    elif _own(old) and _own(final):
        _discard(old)


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


def read_record(folder: Path, job: Job) -> dict[str, Any] | None:
    """What ``provenance.json`` says of a finished run, or None if it is another run or a file is not as it was written.

    Tables and results are compared by hash, pictures and notebooks by size: a sweep of a thousand points is read in a second.
    """

    def as_written(file: Path, size: int, digest: str) -> bool:
        return file.stat().st_size == size and (file.suffix not in (".json", ".csv") or sha(file) == digest)

    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        ours = (record["key"], record["code"], record["parameters"]) == (job.key, job.code, job.values)
        return record if ours and all(as_written(folder / at, *is_) for at, is_ in record["files"].items()) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class RunFailed(RuntimeError):
    """A chapter stopped with an error; the message says in which cell and where the notebook is."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, the page in it, what ``provenance.json`` says, and the verdict if the chapter records one."""

    folder: Path
    page: Path
    record: dict[str, Any]
    verdict: str | None


def with_seeds(chapter: ChapterFile, given: Mapping[str, object], n_seeds: int | None) -> dict[str, object]:
    """The given values, with the number of seeds as the chapter calls it.

    Raises:
        ConfigError: if the chapter has no number of seeds, or it is among the given values.
    """
    if n_seeds is None:
        return dict(given)
    why = "n_seeds is given" if "n_seeds" in given else "this chapter has no parameter n_seeds"
    free = "n_seeds" in chapter.parameters and "n_seeds" not in given
    require(free, f"{chapter.id}: seeds", n_seeds, f"left out, {why}")
    return {**given, "n_seeds": n_seeds}


def run(
    chapter: ChapterFile,
    given: Mapping[str, object],
    out: Path | None = None,
    on_cell: Callable[[], None] | None = None,
    device: str = "cpu",
) -> Run:
    """Execute a chapter with other parameters; ``out`` appears when the run is complete, and replaces an older run there.

    It replaces nothing else: an older run with a file that was added or changed since is refused, like any other folder. Without
    ``out`` the result goes to ``_build/runs``, under a name that follows from the chapter's code, the parameters and the device.

    Args:
        device: on which Part I's networks train; with another one than the CPU a run is exploratory.

    Raises:
        ConfigError: for parameters or a device that the chapter refuses, before anything is started, and for a folder with
            other things.
        RunFailed: if a cell stops with an error, or something else has come into the folder meanwhile.
        OSError: if the results cannot be written.
    """
    require_device(chapter, device)
    job = Job(str(chapter.book), chapter.id, chapter.values(given), code_digest(chapter, device), device)
    final = (out or chapter.book / "_build" / "runs" / f"{chapter.id}-{job.key[:8]}").resolve()
    require(final.name != "", "out", str(final), "a folder in another one")
    recover(final)
    found = "".join(others(final)[:1])
    new = f"a new folder, or one that holds an earlier run and nothing else; {found} is not as a run wrote it"
    require(not found, "out", str(final), new)
    with workplace(final) as place:  # beside the final folder, so that renaming it is one step
        work = place / final.name
        try:
            problem = compute(chapter, job, work, on_cell)
        except CodeChanged as error:
            raise RunFailed(f"{chapter.id}: {error}") from None
        if problem:
            names = (f"{final.name}{f'-{n}' if n > 1 else ''}.failed.ipynb" for n in itertools.count(1))
            failed = unused(map(final.with_name, names))
            kept = work / f"{chapter.notebook.stem}.failed.ipynb"
            if kept.is_file():
                kept.replace(failed)
            raise RunFailed(f"{chapter.id}: failed in {problem}" + (f"\n  see {failed}" if failed.is_file() else ""))
        try:
            publish(work, final)
        except OSError as error:
            kept = unused(final.with_name(f"{final.name}-{job.key[:8]}{n or ''}") for n in itertools.count())
            work.rename(kept)
            raise RunFailed(f"{error}\n  the run is in {kept}") from None
    result = final / chapter.id / "result.json"
    verdict = json.loads(result.read_text(encoding="utf-8")).get("verdict") if result.is_file() else None
    page = final / f"{chapter.notebook.stem}.html"
    return Run(final, page, json.loads((final / RECORD).read_text(encoding="utf-8")), verdict)
