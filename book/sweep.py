"""Many runs of one chapter in one folder: every combination of the values on its grids, computed, and taken up again.

Every point is a folder named by what it depends on, so the same command goes on where it was stopped, another grid adds to what
is there, and two sweeps into one folder share the work.
"""

import contextlib
import itertools
import json
import math
import shutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from book import workers
from book.parameters import Parameter, parse_value, unknown
from book.registry import ChapterFile
from book.run import Job, code_digest, read_record, require_device, with_seeds
from book.workers import Outcome, Request, read_failure
from icl_lib.locks import locked
from icl_lib.paths import write_json
from icl_lib.validate import ConfigError, require

SWEEP = "sweep.json"
TABLE, FIGURE, STAMP, REPORT = "table.csv", "figure", "table.json", "report.html"
GATHERED = (TABLE, *(f"{FIGURE}.{kind}" for kind in ("png", "svg", "csv", "json")))
# What would be written over in a folder that is somebody's.
WRITES = (*GATHERED, STAMP, REPORT, "failed", "work")
MOST = 100_000  # points of a sweep
MAX = sys.float_info.max


def grid_values(parameter: Parameter, text: str) -> list[object]:
    """The values that a grid names: ``0.2,0.4``, or ``1:4:7`` for seven from 1 to 4 at equal distances.

    Each is the float nearest to the fraction meant, so that it equals what one would type.

    Raises:
        ConfigError: for a range that is not low:high:number, or with more values than a sweep may have points.

    >>> from book.parameters import ANY
    >>> grid_values(Parameter("alpha", "float", 0.8, "", ANY, ""), "0:1:5")
    [0.0, 0.25, 0.5, 0.75, 1.0]
    >>> grid_values(Parameter("alpha", "float", 0.8, "", ANY, ""), "1:0.1:4")
    [1.0, 0.7, 0.4, 0.1]
    """
    if parameter.kind in ("int", "float") and ":" in text:
        parts: list[Any] = [parse_value(part, "float") for part in text.split(":")]
        numbers = all(
            isinstance(part, int | float) and not isinstance(part, bool) and -MAX <= part <= MAX for part in parts
        )
        good = len(parts) == 3 and numbers and isinstance(parts[2], int) and 2 <= parts[2] <= MOST
        require(good, parameter.name, text, f"low:high:number, with a number in [2, {MOST}]")
        low, high = (Fraction(str(part)) for part in parts[:2])
        n = parts[2]
        values = [float(low + (high - low) * i / (n - 1)) for i in range(n)]
        whole = parameter.kind == "int" and all(value == int(value) for value in values)
        return [int(value) for value in values] if whole else list(values)
    if parameter.kind == "str":
        words = [part.strip() for part in text.split(",")]
        require(all(words), parameter.name, text, "texts, with a comma between two of them")
        return list(words)
    value = parse_value(text, parameter.kind)
    found = value if isinstance(value, tuple) else (value,)
    return [number + 0.0 if isinstance(number, float) else number for number in found]  # -0 is 0


def combinations(
    chapter: ChapterFile, grids: Sequence[str], given: Mapping[str, object], n_seeds: int | None = None
) -> list[dict[str, object]]:
    """All parameters of every point, checked, each setting once and in the order of the grids.

    Args:
        grids: texts NAME=VALUES, see `grid_values`.
        given: values that all points share.
        n_seeds: the parameter ``n_seeds``; in a chapter that has a ``seed`` instead, so many of these.

    Raises:
        ConfigError: for anything that the chapter refuses, a name given twice, or too many points.
    """
    axes: dict[str, list[object]] = {}
    for grid in grids:
        name, _, text = grid.partition("=")
        if name not in chapter.parameters:
            raise unknown(name, text, chapter.parameters, f"{chapter.id}: ")
        if name in axes or name in given:
            raise ConfigError(f"{chapter.id}: --grid {grid}: must name each parameter once")
        axes[name] = grid_values(chapter.parameters[name], text)
    one_seed = "seed" in chapter.parameters and "n_seeds" not in chapter.parameters
    if n_seeds is not None and one_seed and "seed" not in {**axes, **given}:
        require(0 < n_seeds <= MOST, f"{chapter.id}: seeds", n_seeds, f"in [1, {MOST}]")
        axes["seed"], n_seeds = list(range(n_seeds)), None
    shared = with_seeds(chapter, {**given, **axes}, n_seeds)
    total = math.prod(map(len, axes.values()))
    require(0 < total <= MOST, f"{chapter.id}: points", total, f"in [1, {MOST}]")
    points = itertools.product(*axes.values())
    checked = [chapter.values({**shared, **dict(zip(axes, values))}) for values in points]
    return list({json.dumps(values, sort_keys=True): values for values in checked}.values())


class Stopped(RuntimeError):
    """A sweep that cannot go on, such as on a full disk; what is finished stays, the same command goes on from there."""


@dataclass(frozen=True)
class Plan:
    """A sweep's folder, and its points in the order of the grids."""

    folder: Path
    chapter: ChapterFile
    jobs: tuple[Job, ...]


@dataclass(frozen=True)
class State:
    """What is in the folder of a sweep: the records of finished points by key, the errors of failed ones, and what is missing."""

    jobs: tuple[Job, ...]
    finished: Mapping[str, dict[str, Any]]
    failed: Mapping[str, str]

    @property
    def missing(self) -> list[Job]:
        """Points that have neither finished nor failed."""
        return [job for job in self.jobs if job.key not in self.finished and job.key not in self.failed]


def plan(
    chapter: ChapterFile,
    grids: Sequence[str],
    given: Mapping[str, object] | None = None,
    n_seeds: int | None = None,
    out: Path | None = None,
    device: str = "cpu",
) -> Plan:
    """All points of a sweep, checked, before anything is started or written; see `combinations` for the arguments.

    Args:
        device: on which Part I's networks train. Its points are others than the CPU's. Whether it is there shows where
            the points are computed.

    Raises:
        ConfigError: for anything that the chapter refuses, and for a folder with other things.
    """
    require_device(chapter, device, here=False)
    code = code_digest(chapter, device)
    settings = combinations(chapter, grids, given or {}, n_seeds)
    jobs = tuple(Job(str(chapter.book), chapter.id, values, code, device) for values in settings)
    names = "-".join([chapter.id, *(grid.partition("=")[0] for grid in grids)])
    names += "" if device == "cpu" else f"-{device.replace(':', '')}"
    folder = (out or chapter.book / "_build" / "sweeps" / names).resolve()
    if (folder / SWEEP).is_file():
        _read(folder / SWEEP)  # refused before anything is written
    elif not [*folder.glob("points/*/provenance.json"), *folder.glob("failed/*.json")]:  # it is no sweep's so far
        taken = [folder.name] if folder.is_file() else [name for name in WRITES if (folder / name).exists()]
        require(not taken, "out", str(folder), f"another folder: this is no sweep's, and {''.join(taken[:1])} is in it")
    return Plan(folder, chapter, jobs)


def state(folder: Path, jobs: Sequence[Job]) -> State:
    """What of some points is there; one whose files are not as they were written counts as missing, with a warning."""
    finished, failed = {}, {}
    for job in jobs:
        record = read_record(folder / "points" / job.key, job)
        if record:
            finished[job.key] = record
            continue
        if (folder / "points" / job.key).exists():
            warnings.warn(f"{folder / 'points' / job.key} is not as it was written and does not count", stacklevel=2)
        failure = folder / "failed" / f"{job.key}.json"
        if failure.is_file():
            failed[job.key] = read_failure(failure)
    return State(tuple(jobs), finished, failed)


def known_jobs(folder: Path, book: Path) -> tuple[str, list[Job]]:
    """The chapter of a sweep's folder, and all points that were ever asked for with the same code.

    Raises:
        ConfigError: for a folder that holds no sweep.
    """
    file = folder / SWEEP
    require(file.is_file(), "folder", str(folder), f"the folder of a sweep, with a file {SWEEP}")
    content = _read(file)
    chapter, code, device = content["chapter"], content["code"], content.get("device", "cpu")
    jobs = [Job(str(book), chapter, values, code, device) for values in content["points"]]
    return chapter, list({job.key: job for job in jobs}.values())


def whole(folder: Path, book: Path) -> State:
    """The state of all points that a folder's table is about."""
    return state(folder, known_jobs(folder, book)[1])


def _read(file: Path) -> dict[str, Any]:
    """What ``sweep.json`` says.

    Raises:
        ConfigError: if it is not what a sweep writes.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    good = isinstance(content, dict) and all(isinstance(content.get(name), str) for name in ("chapter", "code"))
    good = good and isinstance(content.get("points"), list) and all(isinstance(p, dict) for p in content["points"])
    good = good and len({frozenset(point) for point in content["points"]}) <= 1  # all with the same parameters
    require(good, "file", str(file), "as a sweep wrote it; it can be deleted, the points are kept")
    return dict(content)


def _register(plan: Plan) -> None:
    """Add the points to what the folder's table is about; points of other code are dropped from it."""
    file, code, device = plan.folder / SWEEP, plan.jobs[0].code, plan.jobs[0].device
    with locked(plan.folder / "locks" / "sweep.lock"):
        old = _read(file) if file.is_file() else {}
        whose = old.get("chapter", plan.chapter.id)
        require(whose == plan.chapter.id, "out", str(plan.folder), f"another folder: this one holds a sweep of {whose}")
        before = old["points"] if old.get("code") == code else []
        points = {json.dumps(p, sort_keys=True): p for p in [*before, *(job.values for job in plan.jobs)]}
        new = {"chapter": plan.chapter.id, "code": code, "device": device, "points": list(points.values())}
        if new != old:
            write_json(file, new)


def run(
    plan: Plan,
    scheduler: str = "local",
    jobs: int | None = None,
    retry: bool = False,
    report: Callable[[Job, Outcome], None] | None = None,
) -> State:
    """Compute the points that are missing; ``report`` is told of each as it ends.

    Args:
        scheduler: ``local``, or the address of a Dask scheduler.
        jobs: points at a time on this machine, by default one for every processor; on a GPU one.
        retry: also compute again what has failed before.

    Raises:
        ConfigError: if the scheduler does not answer.
        Stopped: if no point can be computed, as on a full disk.
        OSError: if the folder cannot be written.
    """
    found = state(plan.folder, plan.jobs)
    waiting = [job for job in plan.jobs if job.key not in found.finished and (retry or job.key not in found.failed)]
    if not waiting and (plan.folder / SWEEP).is_file():
        known = {job.key for job in known_jobs(plan.folder, plan.chapter.book)[1]}
        if known >= {job.key for job in plan.jobs}:
            return found
    if scheduler != "local":
        workers.connected(scheduler).close()  # refused before anything is written
    _register(plan)

    at_once = jobs or (workers.processors() if plan.jobs[0].device == "cpu" else 1)
    # First what nobody else has in hand; then, waiting for it, the rest. A Dask worker always waits: the process that holds a
    # point may be the one that has just been killed there.
    for wait in (False, True) if scheduler == "local" else (True,):
        requests = [Request(job, str(plan.folder), wait, retry) for job in waiting]
        if not requests:
            break
        waiting = []
        outcomes = workers.local(requests, at_once) if scheduler == "local" else workers.dask(requests, scheduler)
        with contextlib.closing(outcomes) as ended:  # so that an error here ends what is running
            for request, outcome in ended:
                if outcome.kind == "stopped":
                    raise Stopped(outcome.error)
                if outcome.kind == "busy":
                    waiting.append(request.job)
                elif report:
                    report(request.job, outcome)
    for left in (plan.folder / "work").glob("*"):  # by killed processes, of points that are finished by now
        if (plan.folder / "points" / left.name.partition("-")[0]).is_dir():
            shutil.rmtree(left, ignore_errors=True)
    return state(plan.folder, plan.jobs)
