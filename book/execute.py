"""One notebook executed by papermill, and the stamp that says on what it ran."""

import datetime
import logging
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icl_lib import provenance
from icl_lib.locks import workplace
from icl_lib.paths import cache_dir, root
from icl_lib.source import WRITTEN, CodeChanged, canonical, notebook_code
from icl_lib.validate import require

THREADS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Training frees and asks for the same blocks at every step: not handing them back saves a tenth of its time.
    "MALLOC_MMAP_THRESHOLD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
logging.getLogger("papermill").addHandler(logging.NullHandler())  # what goes wrong is returned
# Two kernels that start at the same moment, of two processes, may pick the same ports; one of them then dies before any cell
# has run, and is started once more.
STILLBORN = "Kernel died before replying"


def commit(folder: Path | None = None) -> str:
    """The commit that is checked out, with "+ changes" if files differ from it; or "unknown" and why."""
    # Variables of a git that started us, as in a hook, speak of another repository. Who owns the files does not matter: their
    # code is running already.
    here = root(folder)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}

    def git(*arguments: str) -> str:
        command = ["git", "-c", "safe.directory=*", *arguments]
        environment = {**ours, "GIT_OPTIONAL_LOCKS": "0"}  # nothing is written
        done = subprocess.run(command, capture_output=True, check=True, cwd=here, env=environment)
        return done.stdout.decode(errors="replace").strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here:
            return "unknown (not a checkout of its own)"
        return git("rev-parse", "--short=10", "HEAD") + (" + changes" if git("status", "--porcelain") else "")
    except OSError:
        return "unknown (git cannot be run)"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"unknown ({said[0] if said else f'git ended with {error.returncode}'})"


def machine(versions: Mapping[str, str] | None = None, processor: str | None = None) -> str:
    """System, processors and versions, by default those of this process, in one line."""
    known = provenance.versions("cpu") if versions is None else versions
    words = ", ".join(f"{name} {version}" for name, version in known.items())
    processor = processor or provenance.processor()
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} x {processor}, {words}"


def variables(folder: Path, cache: Path, out: Path | None, device: str = "cpu", twin: bool = False) -> dict[str, str]:
    """Those of a kernel (`kernel.environment`): one thread, where networks train, what a chapter writes to."""
    from book import kernel

    kept = {**kernel.environment(folder), **THREADS, "ICL_BOOK_CACHE": str(cache)}
    kept |= {"ICL_DEVICE": device, "ICL_TWIN": "1" if twin else "", "ICL_BOOK_OUT": str(out.resolve()) if out else ""}
    return kept


def run(
    source: Path,
    target: Path,
    out: Path | None,
    parameters: Mapping[str, Any] | None = None,
    *,
    cwd: Path | None = None,
    device: str = "cpu",
    twin: bool = False,
    on_cell: Callable[[], None] | None = None,
) -> str | None:
    """Execute a copy of ``source`` into ``target``; returns what went wrong, if anything.

    ``target`` appears when all cells have run; of a failed run the notebook is kept beside it as ``<name>.failed.ipynb``.

    Args:
        out: the folder of results; by default the committed ones are read.
        cwd: the kernel's working directory, by default that of ``target``; it has to lie in the book.
        device: on which Part I's networks train.
        twin: move every initial weight by 1e-7 of its size (``icl_lib.twin``).
        on_cell: called when a cell of code starts.
    """
    import nbformat
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from papermill.exceptions import PapermillExecutionError

    from book import kernel

    started, cache = time.monotonic(), cache_dir()  # which may have something to say
    require(not cache.exists() or cache.is_dir(), "ICL_BOOK_CACHE", str(cache), "a folder, for trained models")
    about: dict[str, object] = {"commit": commit(source.parent), "date": f"{datetime.datetime.now():%Y-%m-%d %H:%M}"}
    running, failed = target.with_suffix(".running.ipynb"), target.with_suffix(".failed.ipynb")
    target.parent.mkdir(parents=True, exist_ok=True)
    failed.unlink(missing_ok=True)

    def starts(cell: Any, cell_index: int) -> None:
        if on_cell and cell.cell_type == "code" and cell.source.strip():  # prose "starts" too
            on_cell()

    def execute(environment: Mapping[str, str]) -> None:
        papermill.execute_notebook(
            # papermill fills in {names} in a path from the parameters: a path is not to depend on them
            *(str(path).replace("{", "{{").replace("}", "}}") for path in (source, running)),
            dict(parameters) if parameters else None,
            kernel_name="python3",
            kernel_manager_class=kernel.manager(environment),
            start_timeout=kernel.PATIENCE,
            cwd=cwd or target.parent,
            progress_bar=False,
            on_cell_start=starts,
        )

    try:
        with workplace(Path(tempfile.gettempdir()) / "icl-kernel") as folder:
            environment = variables(folder, cache, out, device, twin)
            try:
                execute(environment)
            except RuntimeError as error:
                if STILLBORN not in str(error):
                    raise
                execute(environment)
            except (
                KeyboardInterrupt
            ):  # what the cell was still waiting for, a kernel that has died, ends without a word
                ensure_event_loop().set_exception_handler(lambda loop, context: None)
                raise
            versions, processor = kernel.said(folder) or (provenance.versions(device), None)
    except Exception as error:
        if running.is_file():
            running.rename(failed)
        if isinstance(error, PapermillExecutionError):
            what = f"{error.ename}: {error.evalue}".strip()
            last = re.sub(r"\x1b\[[0-9;]*m", "", what).splitlines()[-1]
            where = f"cell {error.cell_index + 1}, In [{error.exec_count}]"
            return f"{where}: {last if last.startswith(error.ename) else f'{error.ename}: {last}'}"
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    try:
        same = canonical(notebook_code(running)) == canonical(notebook_code(source))
    except (OSError, ValueError, KeyError):  # half of a file, or none
        same = False
    if not same:
        running.rename(failed)
        return f"its end: {CodeChanged.__name__}: {source} {WRITTEN}"
    done = nbformat.read(running, as_version=4)
    about |= {"seconds": round(time.monotonic() - started, 1), "machine": machine(versions, processor)}
    done.metadata["icl_book"] = {**about, "versions": versions}
    nbformat.write(done, target)
    running.unlink()
    return None
