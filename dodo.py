"""What `make book` and `make record` run, two at a time; what is out of date is decided by content, not file times."""

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doit.exceptions import UnmetDependency

from book import registry, terminal, words
from book.notebooks import declared, read_cells
from icl_lib.source import CodeChanged, stamp
from icl_lib.validate import ConfigError, require
from tools import execute, notebooks, render

BUILD = Path(os.environ.get("BUILD") or "_build/book")
CHAPTER, HEAVY = os.environ.get("CHAPTER"), os.environ.get("HEAVY") == "1"

terminal.print_anything()
terminal.need_no_home()
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
ALL = notebooks.chapters()
LEFT_OUT = {
    path: "This chapter takes too long for every reader's machine: it shows its committed outputs. `make book HEAVY=1` runs it."
    for path in ALL
    if notebooks.heavy(path) and not HEAVY
}
try:
    for path in [*ALL, *notebooks.summaries()]:
        read_cells(path)  # all of them are pages
    if CHAPTER:
        PARTS = list(dict.fromkeys(path.parent.name for path in ALL if path.parent.parent.name))
        chosen = []
        for name in CHAPTER.split(","):
            part = [path for path in ALL if name in PARTS and name == path.parent.name and path not in LEFT_OUT]
            found = part or [registry.find_file(name, Path(), PARTS)]
            require(
                set(found) <= set(ALL), "CHAPTER", name, "a chapter: this page shows the results of all, at the end"
            )
            chosen += found
        note = "This chapter was not run in this build: it shows its committed outputs."
        LEFT_OUT = dict.fromkeys([path for path in ALL if path not in chosen], note)
except ConfigError as error:
    sys.exit(str(error))
# What takes longest comes first, so that no core waits for a long chapter at the end; what was never timed comes before it.
SECONDS = {chapter.notebook.resolve(): registry.recorded_seconds(chapter) for chapter in registry.chapters(Path.cwd())}
RUN = [path for path in ALL if path not in LEFT_OUT]
# Heavy chapters stand beside their twins at the smaller setting (reliability/twins.py).
REDUCED_TWINS = [path for path in notebooks.reduced() if notebooks.heavy(path) and not CHAPTER]
RUN.sort(key=lambda path: -(SECONDS.get(path.resolve()) or math.inf))


class Reporter:
    """One line per notebook: a run prints its own, this adds those that were not needed or did not come about."""

    desc = "one line per notebook"

    def __init__(self, outstream: Any, options: Any) -> None:
        self.failed = 0

    def skip_uptodate(self, task: Any) -> None:
        print(f"{task.doc:40} unchanged ({execute.seconds(Path(task.targets[0])).strip()} when it ran)", flush=True)

    def add_failure(self, task: Any, failure: Any) -> None:
        self.failed += 1
        if not task.doc and not isinstance(failure, UnmetDependency):  # a notebook has said itself why it failed
            print("".join(failure.traceback), end="", file=sys.stderr)

    def runtime_error(self, message: str) -> None:
        print(message, file=sys.stderr)

    def complete_run(self) -> None:
        if self.failed:
            print("Not finished, see above.", file=sys.stderr)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


DOIT_CONFIG = {
    "dep_file": str(BUILD / "state.json"),
    "backend": "json",
    "continue": True,
    "verbosity": 2,
    "reporter": Reporter,
}
BUILD.mkdir(parents=True, exist_ok=True)


def without_stamp(depends_on: str) -> str:
    """What has to be the same next time; the time at which the notebook was written does not."""
    return json.dumps(json.loads(depends_on)[:2]) if depends_on else ""


def notebook_task(
    source: Path, target: Path, depends_on: Callable[[Path], str], *options: str, **more: Any
) -> dict[str, Any]:
    """A doit task that runs a notebook when what it depends on is not what it was at the last success."""

    def now() -> str:
        try:
            return json.dumps([depends_on(source), options, stamp(source)])
        except (CodeChanged, OSError, ValueError):  # since this command began: whatever runs now runs again next time
            return ""

    def unchanged(task: Any, values: dict[str, str]) -> bool:
        before = now()
        task.value_savers.append(lambda: {"depends_on": without_stamp(before) if now() == before else ""})
        return bool(before) and values.get("depends_on") == without_stamp(before)

    command = [sys.executable, "-m", "tools.execute", str(source), str(target), *options]
    task = {"name": source.stem, "actions": [command], "targets": [str(target)], "uptodate": [unchanged]}
    return {**task, "doc": notebooks.label(source), **more}


def output_folder(path: Path) -> Path:
    """Where a chapter writes; of its own, so that a failed run leaves no half of a result among the others."""
    return (BUILD / "run" / path).with_suffix(".out")


def task_run_chapters() -> Iterator[dict[str, Any]]:
    for path in RUN:
        yield notebook_task(path, BUILD / "run" / path, notebooks.fingerprint, "--out", str(output_folder(path)))


def task_run_reference() -> Iterator[dict[str, Any]]:
    """Chapters at the smaller setting at which they are tested."""
    for path, parameters in notebooks.reduced().items():
        if path not in RUN and path not in REDUCED_TWINS:
            continue
        target = BUILD / "reference" / path.name
        options = ("--parameters", json.dumps(parameters), "--out", str(target.with_suffix(".out")))
        yield notebook_task(path, target, notebooks.fingerprint, *options)


def task_run_twins() -> Iterator[dict[str, Any]]:
    """Chapters with every initial weight moved by 1e-7 of its size; where they take too long, at the smaller setting."""
    for path in ALL:
        target, more = BUILD / "twins" / path.name, []
        if any(name.startswith("figures/") for name in declared(path)["reads"]):
            continue  # it draws nothing of its own
        if path in REDUCED_TWINS:
            more = ["--parameters", json.dumps(notebooks.reduced()[path])]
        elif path not in RUN or notebooks.heavy(path):
            continue
        options = (*more, "--out", str(target.with_suffix(".out")), "--twin")
        yield notebook_task(path, target, notebooks.fingerprint, *options)


def task_collect() -> dict[str, Any]:
    """Bring together what the chapters wrote: the index reads it."""

    def collect() -> None:
        shutil.rmtree(BUILD / "figures", ignore_errors=True)
        (BUILD / "figures").mkdir(parents=True)
        for path in RUN:
            if output_folder(path).is_dir():
                shutil.copytree(
                    output_folder(path), BUILD / "figures", dirs_exist_ok=True, copy_function=shutil.copyfile
                )
        (BUILD / "ran.json").write_text(json.dumps([str(path) for path in RUN]), encoding="utf-8")

    return {"actions": [collect], "task_dep": ["run_chapters"], "doc": ""}


def task_run_index() -> Iterator[dict[str, Any]]:
    """The pages that show all results: the scoreboard and its companions."""

    def depends_on(page: Path) -> str:
        results = [
            Path("claims.yml"),
            Path("figures/vouched.csv"),
            words.TWINS,
            *sorted((BUILD / "figures").rglob("*.json")),
            *sorted(Path("figures").rglob("*.json")),
        ]
        return notebooks.fingerprint(page) + notebooks.digest(results)

    figures = str(BUILD / "figures")
    for path in notebooks.summaries():
        yield notebook_task(path, BUILD / "run" / path, depends_on, "--results", figures, task_dep=["collect"])


def task_book() -> dict[str, Any]:
    def pages() -> bool:
        return render.book(BUILD, [*RUN, *notebooks.summaries()], LEFT_OUT)

    return {"actions": [pages], "task_dep": ["run_index"], "doc": ""}
