"""Would a test notice a bug? Plant plausible ones, one at a time, and write down which test fails first.

``python -m tools.mutants`` plants every bug of ``mutants.yml`` in a copy of the book in a temporary folder, runs the tests
named there, and writes ``benchmarks/mutants.csv``: one row per bug, with the test that caught it, or nothing if none did.
With names of bugs only these run; the other rows are kept.
"""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from book import terminal
from icl_lib.paths import read_yaml, root, write_atomic
from icl_lib.validate import require

COLUMNS = ("name", "part", "file", "bug", "missed_at_first", "caught_by")
LIMIT = 300  # seconds that the tests of one bug may take; no answer by then is no catch
COPIED = ("icl_lib", "book", "studies", "tests", "benchmarks", "tools")  # folders that are copied; the others are links
LEFT_OUT = (".git", ".venv", "_build", "__pycache__")
# By folder of the library, or by first letter of a study.
PARTS = {"softmax": "Part I", "mean_field": "Part II", "L": "Part I", "K": "Part II"}
FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.M)


@dataclass(frozen=True)
class Mutant:
    """One bug: the text it replaces, what it is in words, the tests that should notice, and whether none did at first."""

    name: str
    file: str
    old: str
    new: str
    bug: str
    tests: list[str]
    missed: bool = False

    def row(self, caught_by: str) -> dict[str, str]:
        """The row of the table."""
        missed = "yes" if self.missed else "no"
        return dict(zip(COLUMNS, (self.name, self.part, self.file, self.bug, missed, caught_by), strict=True))

    @property
    def part(self) -> str:
        """Where the code belongs: Part I, Part II, the book around the library, or what all share."""
        package, name = Path(self.file).parts[:2]
        return "the book" if package == "book" else PARTS.get(name[0] if package == "studies" else name, "shared")

    def planted(self, text: str) -> str:
        """The file's text with the bug in it.

        Raises:
            ConfigError: unless the old text occurs exactly once, and the new one is another.
        """
        require(
            text.count(self.old) == 1,
            f"{self.name}: old",
            self.old,
            f"found once in {self.file}, not {text.count(self.old)} times",
        )
        require(self.new != self.old, f"{self.name}: new", self.new, "another text than the old one")
        return text.replace(self.old, self.new)


def load(folder: Path | None = None) -> list[Mutant]:
    """The bugs of ``tools/mutants.yml``."""
    entries = read_yaml((folder or root()) / "tools" / "mutants.yml")
    return [Mutant(name, **entry) for name, entry in entries.items()]


def table_file() -> Path:
    """Where the outcome is kept."""
    return root() / "benchmarks" / "mutants.csv"


def read_table() -> list[dict[str, str]]:
    """The committed rows, by ``COLUMNS``; none before the first run."""
    if not table_file().is_file():
        return []
    with table_file().open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(rows: Sequence[dict[str, str]]) -> None:
    """Write all rows, atomically."""
    write_atomic(table_file(), pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False).encode())


@contextlib.contextmanager
def copy_of_the_book() -> Iterator[Path]:
    """A folder in which code can be changed: the library and its tests are copies."""
    with tempfile.TemporaryDirectory(prefix="icl-mutants-") as name:
        folder = Path(name)
        for path in root().iterdir():
            if path.name in LEFT_OUT:
                continue
            if path.name in COPIED:
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_dir():
                (folder / path.name).symlink_to(path)
            else:
                shutil.copy(path, folder / path.name)
        yield folder


def first_failure(folder: Path, tests: Sequence[str], limit: float | None = LIMIT) -> str | None:
    """The first test that fails there, or None if all pass or there is no answer within the limit.

    Raises:
        RuntimeError: if the tests cannot be run at all.
    """
    # Without byte code: two versions of a file of one size within a second would share it. CI: hypothesis draws the same.
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", *tests]
    run = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return None
    finally:  # whatever tests have started ends with them, interrupted or not
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    found = FAILED.search(said)
    if run.returncode == 0:
        return None
    if run.returncode != 1 or found is None:
        raise RuntimeError(f"pytest ended with {run.returncode}:\n{said}")
    return found[1]


def caught(folder: Path, mutant: Mutant) -> str:
    """The test that catches a bug; an empty text if none does."""
    file = folder / mutant.file
    text = file.read_text(encoding="utf-8")
    try:
        file.write_text(mutant.planted(text), encoding="utf-8")
        return first_failure(folder, mutant.tests) or ""
    finally:
        file.write_text(text, encoding="utf-8")


def main(names: Sequence[str]) -> int:
    mutants = load()
    unknown = sorted(set(names) - {m.name for m in mutants})
    require(not unknown, "names", unknown, "names in tools/mutants.yml")
    found = {row["name"]: row["caught_by"] for row in read_table()}
    chosen = [m for m in mutants if not names or m.name in names]
    with copy_of_the_book() as folder:
        for mutant in chosen:  # before the first run: all of them apply
            mutant.planted((folder / mutant.file).read_text(encoding="utf-8"))
        tests = sorted({test for mutant in chosen for test in mutant.tests})
        broken = first_failure(folder, tests, limit=None) if not names else None
        require(broken is None, "tests", broken, "such that all pass before a bug is planted")
        for mutant in chosen:
            found[mutant.name] = caught(folder, mutant)
            print(f"{mutant.name:44} {found[mutant.name] or 'NOT CAUGHT'}", flush=True)
            write_table([m.row(found[m.name]) for m in mutants if m.name in found])
    left = [m.name for m in mutants if not found.get(m.name)]
    print(f"{len(mutants) - len(left)} of {len(mutants)} caught; not caught: {', '.join(left) or 'none'}")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(terminal.command(main)(sys.argv[1:]))
