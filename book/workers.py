"""Where the points of a sweep are computed: in processes of this machine, or on the workers of a Dask scheduler.

Each point is a process of its own, ``python -m book.workers`` with a request on its standard input, so that one that runs out of
memory or is killed takes nothing else with it. It ends when its parent does: then its standard input is closed.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import Timeout

from book.registry import find
from book.run import Job, compute, publish, read_record
from icl_lib.device import check_device
from icl_lib.locks import locked
from icl_lib.paths import write_json
from icl_lib.source import CodeChanged
from icl_lib.validate import ConfigError, require

if TYPE_CHECKING:
    import distributed

NOT_THE_POINTS_FAULT = re.compile(r"\[Errno (28|30|122)\][^:]*")  # no space, read-only, quota
ANSWERS_WITHIN = 10  # seconds that a scheduler has to answer


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


Done = tuple[Request, Outcome]


def work_on(request: Request) -> Outcome:
    """Compute a point unless it is there; at most one process at a time, whoever asks."""
    job, folder = request.job, Path(request.folder)
    try:
        with locked(folder / "locks" / f"{job.key}.lock", timeout=-1 if request.wait else 0):
            return _locked(job, folder, request.retry)
    except Timeout:
        return Outcome("busy")
    except CodeChanged as error:
        return Outcome("stopped", str(error))
    except OSError as error:
        return Outcome("stopped", f"{error.strerror or error}: {error.filename or folder}")


def _locked(job: Job, folder: Path, retry: bool) -> Outcome:
    final, failure = folder / "points" / job.key, folder / "failed" / f"{job.key}.json"
    if record := read_record(final, job):
        return Outcome("kept", seconds=record["seconds"])
    if failure.is_file() and not retry:
        return Outcome("failed", read_failure(failure))
    chapter = find(job.chapter, Path(job.book))
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
        problem = compute(chapter, job, parent / "run") or ""
        if CodeChanged.__name__ in problem:
            return Outcome("stopped", problem)
        if outside := NOT_THE_POINTS_FAULT.search(problem):
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


def processors() -> int:
    """How many this process may use; where the system does not say, as on macOS, how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def request_text(request: Request) -> str:
    """A request as one line."""
    return json.dumps(asdict(request)) + "\n"


def _request(text: str) -> Request:
    content = json.loads(text)
    return Request(**{**content, "job": Job(**content["job"])})


def run_point(request: Request, running: set[subprocess.Popen[bytes]] | None = None) -> Outcome:
    """Compute one point in a process of its own; ``running`` holds that process for as long as it lives."""
    running = set() if running is None else running
    command, pipe = [sys.executable, "-m", "book.workers"], subprocess.PIPE
    # A session of its own: Ctrl-C in the terminal goes to the sweep, which then ends its processes itself. Without a buffer:
    # of a process that ends before it reads, nothing is left that closing the pipe would try to write again.
    with subprocess.Popen(
        command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, cwd=request.job.book, start_new_session=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        running.add(process)
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(request_text(request).encode())  # left open: when we end, the process sees it
            said, complaint = process.stdout.read(), process.stderr.read()
            status = process.wait()
        finally:
            running.discard(process)
    if said:
        return Outcome(**json.loads(said))
    last = complaint.decode(errors="replace").strip().splitlines()[-1:] or [f"its process ended with status {status}"]
    return Outcome("killed", last[0])


def local(requests: Sequence[Request], jobs: int) -> Generator[Done, None, None]:
    """Points as they end, ``jobs`` at a time; when the caller stops asking, the running ones are ended."""
    running: set[subprocess.Popen[bytes]] = set()
    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(run_point, request, running): request for request in requests}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):  # again and again: one may be starting just now
            for process in list(running):
                process.kill()
            time.sleep(0.05)


def connected(address: str) -> "distributed.Client":
    """A client of an existing scheduler.

    Raises:
        ConfigError: for an address that is none, at which nothing answers, or one of an encrypted scheduler without
            certificates for it.
        ModuleNotFoundError: without the package distributed.
    """
    require(address.startswith(("tcp://", "tls://")), "scheduler", address, "local, tcp://host:port or tls://host:port")
    import distributed

    secret = distributed.Security().get_connection_args("client")["ssl_context"]
    known = "tcp://, unless Dask's configuration names certificates (distributed.comm.tls, see chapters/reproduce.md)"
    require(address.startswith("tcp://") or secret is not None, "scheduler", address, known)
    try:
        return distributed.Client(address, timeout=ANSWERS_WITHIN)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scheduler={address!r}: must be the address of one that answers ({error})") from error


def dask(requests: Sequence[Request], address: str) -> Generator[Done, None, None]:
    """The same on the workers of an existing scheduler, which have to see the same folders under the same names.

    What was asked for when the connection to the scheduler was lost is asked for once more, over a new one.

    Raises:
        ConfigError, ModuleNotFoundError: as `connected`.
    """
    with _quiet():
        with connected(address) as client:
            lost = yield from _on(client, requests)
        if not lost:
            return
        try:
            client = connected(address)
        except ConfigError as error:
            yield lost[0][0], Outcome("stopped", f"the connection to the scheduler was lost: {error}")
            return
        with client:
            lost = yield from _on(client, [request for request, _ in lost])
        yield from lost


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what Dask's client logs meanwhile: what it has to say, outcomes say in a line."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _on(client: "distributed.Client", requests: Sequence[Request]) -> Generator[Done, None, list[Done]]:
    """Points as they end; returns those that were cancelled, as by a lost connection."""
    import distributed

    lost: list[Done] = []
    name = uuid.uuid4().hex[:8]  # two sweeps on one scheduler are not one task
    futures = {client.submit(run_point, r, key=f"icl-{r.job.key}-{name}", pure=False): r for r in requests}
    try:
        for future in distributed.as_completed(futures):
            try:
                yield futures[future], future.result()
            except distributed.scheduler.KilledWorker as error:
                yield futures[future], Outcome("killed", str(error).splitlines()[0])
            except distributed.client.FutureCancelledError as error:
                lost.append((futures[future], Outcome("killed", str(error).splitlines()[0])))
    finally:
        with contextlib.suppress(distributed.client.ClosedClientError):  # it gave up the scheduler meanwhile
            client.cancel(list(futures))
    return lost


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
