"""One run of one chapter into a folder of its own."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.point import RECORD, Job, code_digest, compute, others, publish, recover, require_device
from book.registry import ChapterFile
from icl_lib.locks import workplace
from icl_lib.source import CodeChanged
from icl_lib.validate import ConfigError, require


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
    if "n_seeds" not in chapter.parameters or "n_seeds" in given:
        why = "n_seeds is given" if "n_seeds" in given else "this chapter has no parameter n_seeds"
        raise ConfigError(f"{chapter.id}: seeds={n_seeds}: must be left out, {why}")
    return {**given, "n_seeds": n_seeds}


def run(
    chapter: ChapterFile,
    given: Mapping[str, object],
    out: Path | None = None,
    on_cell: Callable[[], None] | None = None,
    device: str = "cpu",
) -> Run:
    """Execute a chapter with other parameters; ``out`` appears when the run is complete, and replaces an older run there.

    It replaces nothing else: an older run with a file that was added or changed since is refused, like any other folder.

    Without ``out`` the result goes to ``_build/runs``, under a name that follows from the chapter's code, the parameters
    and the device.

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
    found = others(final)
    if found:
        raise ConfigError(
            f"out={str(final)!r}: must be a new folder, or one that holds an earlier run and nothing else; "
            f"{found[0]} is not as a run wrote it"
        )
    with workplace(final) as place:  # beside the final folder, so that renaming it is one step
        work = place / final.name
        try:
            problem = compute(chapter, job, work, on_cell)
        except CodeChanged as error:
            raise RunFailed(f"{chapter.id}: {error}") from None
        if problem:
            names = (f"{final.name}{f'-{n}' if n > 1 else ''}.failed.ipynb" for n in itertools.count(1))
            failed = next(path for path in map(final.with_name, names) if not path.exists())
            kept = work / f"{chapter.notebook.stem}.failed.ipynb"
            if kept.is_file():
                kept.replace(failed)
            raise RunFailed(f"{chapter.id}: failed in {problem}" + (f"\n  see {failed}" if failed.is_file() else ""))
        try:
            publish(work, final)
        except OSError as error:
            names = (f"{final.name}-{job.key[:8]}{n or ''}" for n in itertools.count())
            kept = next(path for path in map(final.with_name, names) if not path.exists())
            work.rename(kept)
            raise RunFailed(f"{error}\n  the run is in {kept}") from None
    result = final / chapter.id / "result.json"
    verdict = json.loads(result.read_text(encoding="utf-8")).get("verdict") if result.is_file() else None
    page = final / f"{chapter.notebook.stem}.html"
    return Run(final, page, json.loads((final / RECORD).read_text(encoding="utf-8")), verdict)
