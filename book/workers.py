"""Where the points of a sweep are computed: on this machine, or on the workers of a Dask scheduler."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from book.worker import Outcome, Request, request_text
from icl_lib.validate import ConfigError, require

if TYPE_CHECKING:
    import distributed

Done = tuple[Request, Outcome]
ANSWERS_WITHIN = 10  # seconds that a scheduler has to answer


def processors() -> int:
    """How many this process may use; where the system does not say, as on macOS, how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_point(request: Request, running: set[subprocess.Popen[bytes]] | None = None) -> Outcome:
    """Compute one point in a process of its own; ``running`` holds that process for as long as it lives."""
    running = set() if running is None else running
    command, pipe = [sys.executable, "-m", "book.worker"], subprocess.PIPE
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


def local(requests: Iterable[Request], jobs: int) -> Generator[Done, None, None]:
    """Points as they end, ``jobs`` at a time; when the caller stops asking, the running ones are ended."""
    running: set[subprocess.Popen[bytes]] = set()
    stop = threading.Event()

    def one(request: Request) -> Outcome:
        return Outcome("stopped") if stop.is_set() else run_point(request, running)

    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(one, request): request for request in requests}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):  # again and again: one may be starting just now
            for process in list(running):
                process.kill()
            time.sleep(0.05)
        pool.shutdown()


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


def dask(requests: Iterable[Request], address: str) -> Generator[Done, None, None]:
    """The same on the workers of an existing scheduler, which have to see the same folders under the same names.

    What was asked for when the connection to the scheduler was lost is asked for once more, over a new one.

    Raises:
        ConfigError, ModuleNotFoundError: as `connected`.
    """
    lost: list[Request] = []
    with _quiet(), connected(address) as client:
        yield from _on(client, requests, lost)
    if not lost:
        return
    try:
        client = connected(address)
    except ConfigError as error:
        yield lost[0], Outcome("stopped", f"the connection to the scheduler was lost: {error}")
        return
    with _quiet(), client:
        yield from _on(client, lost)


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


def _on(
    client: "distributed.Client", requests: Iterable[Request], lost: list[Request] | None = None
) -> Generator[Done, None, None]:
    """Points as they end; those that were cancelled, as by a lost connection, are put into ``lost`` if it is given."""
    import distributed

    name = uuid.uuid4().hex[:8]  # two sweeps on one scheduler are not one task
    futures = {client.submit(run_point, r, key=f"icl-{r.job.key}-{name}", pure=False): r for r in requests}
    try:
        for future in distributed.as_completed(futures):
            try:
                yield futures[future], future.result()
            except distributed.scheduler.KilledWorker as error:
                yield futures[future], Outcome("killed", str(error).splitlines()[0])
            except distributed.client.FutureCancelledError as error:
                if lost is None:
                    yield futures[future], Outcome("killed", str(error).splitlines()[0])
                else:
                    lost.append(futures[future])
    finally:
        with contextlib.suppress(distributed.client.ClosedClientError):  # it gave up the scheduler meanwhile
            client.cancel(list(futures))
