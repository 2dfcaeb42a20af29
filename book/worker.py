"""The process that computes one point of a sweep: ``python -m book.worker``, a request on its standard input.

A process of its own, so that a point that runs out of memory or is killed takes nothing else with it. It ends when its parent
does: then its standard input is closed.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from book.point import OTHER_CODE, Job, code_digest, compute, publish, read_record
from book.registry import find
from icl_lib.device import check_device
from icl_lib.locks import locked
from icl_lib.paths import write_json
from icl_lib.source import CodeChanged
from icl_lib.validate import ConfigError

NOT_THE_POINTS_FAULT = re.compile(r"\[Errno (28|30|122)\][^:]*")  # no space, read-only, quota


@dataclass(frozen=True)
class Outcome:
    """How a point ended: ``done``, ``kept`` (it was there), ``busy`` (another sweep has it), ``failed``, ``killed`` or ``stopped``.

    A failure is the point's own and recorded; ``stopped`` would befall every other point too, and nothing is recorded.
    """

    kind: str
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """A point to compute in the folder of a sweep; ``wait`` for another process that has it, ``retry`` what has failed."""

    job: Job
    folder: str
    wait: bool = False
    retry: bool = False


def work_on(request: Request) -> Outcome:
    """Compute a point unless it is there; at most one process at a time, whoever asks."""
    job, folder = request.job, Path(request.folder)
    try:
        with locked(folder / "locks" / f"{job.key}.lock", timeout=-1 if request.wait else 0):
            return _locked(job, folder, request.retry)
    except Timeout:
        return Outcome("busy")
    except OSError as error:
        return Outcome("stopped", f"{error.strerror or error}: {error.filename or folder}")


def _locked(job: Job, folder: Path, retry: bool) -> Outcome:
    final, failure = folder / "points" / job.key, folder / "failed" / f"{job.key}.json"
    record = read_record(final, job)
    if record:
        return Outcome("kept", seconds=record["seconds"])
    if failure.is_file() and not retry:
        return Outcome("failed", read_failure(failure))
    chapter = find(job.chapter, Path(job.book))
    if code_digest(chapter, job.device) != job.code:
        return Outcome("stopped", OTHER_CODE)
    try:
        check_device(job.device)  # a Dask worker may have no GPU, or another number of them
    except ConfigError as error:
        return Outcome("stopped", str(error))
    # Under a name that nobody else has: the kernel of a killed process lives on for a second and may still write.
    (folder / "work").mkdir(exist_ok=True)
    for left in (folder / "work").glob(f"{job.key}-*"):
        shutil.rmtree(left, ignore_errors=True)
    parent = Path(tempfile.mkdtemp(prefix=f"{job.key}-", dir=folder / "work"))
    try:
        try:
            problem = compute(chapter, job, parent / "run")
        except CodeChanged as error:
            return Outcome("stopped", str(error))
        if CodeChanged.__name__ in (problem or ""):
            return Outcome("stopped", problem or "")
        outside = NOT_THE_POINTS_FAULT.search(problem or "")
        if outside:
            return Outcome("stopped", f"{outside[0].partition('] ')[2]}: {folder}")
        if problem:
            (folder / "failed").mkdir(exist_ok=True)
            notebook = parent / "run" / f"{chapter.notebook.stem}.failed.ipynb"
            if notebook.is_file():
                notebook.replace(failure.with_suffix(".ipynb"))
            write_json(failure, {"parameters": job.values, "error": problem})
            return Outcome("failed", problem)
        if final.exists():  # what was found there is not what had been written: somebody's
            (folder / "changed").mkdir(exist_ok=True)
            final.rename(tempfile.mkdtemp(prefix=f"{job.key}-", dir=folder / "changed"))
        publish(parent / "run", final)
        for old in (failure, failure.with_suffix(".ipynb")):
            old.unlink(missing_ok=True)
        record = read_record(final, job)
        return Outcome("done", seconds=record["seconds"] if record else 0.0)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def read_failure(file: Path) -> str:
    """The recorded error of a point that failed."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["error"])
    except (ValueError, KeyError, TypeError):
        return f"unknown: {file} is not as it was written"


def request_text(request: Request) -> str:
    """A request as one line."""
    return json.dumps(asdict(request)) + "\n"


def _request(text: str) -> Request:
    content: dict[str, Any] = json.loads(text)
    return Request(**{**content, "job": Job(**content["job"])})


def _end_with_parent() -> None:
    """Wait until standard input is closed, which our parent does by ending, and end too."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Read a request, answer with an outcome; what kernels print goes nowhere."""
    answer = os.dup(1)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    text = sys.stdin.readline()
    if not text.endswith("\n"):  # the parent has ended already
        os._exit(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.write(answer, json.dumps(asdict(work_on(_request(text)))).encode())
    sys.stderr.flush()
    os._exit(0)  # at once: the thread still waits for the parent


if __name__ == "__main__":
    main()
