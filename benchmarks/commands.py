"""Time the front door: `make env`, `make book` of the two papers and of Part III, `make html` and `make test` from nothing, in a fresh clone.

`python -m benchmarks.commands` clones the last commit into a temporary folder, runs the targets one
after the other, each with an empty `_build`, and writes commands.csv beside this file. The time of each
chapter within `make book` (two run at once) is a row of its own. With words, only the commands that hold one of
them are timed, and the rows of the others stay: `python -m benchmarks.commands open`. The heavy chapter needs its word.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from book.terminal import command
from icl_lib.paths import root, write_atomic

FILE = Path(__file__).with_name("commands.csv")
# Command, and the target set beforehand in seconds (without the environment's installation).
COMMANDS = {
    "make env": None,
    "make book CHAPTER=softmax,mean_field": 900,
    "make book CHAPTER=open": None,
    "make html": 120,
    "make test": 1800,
    "make book CHAPTER=K10_experiments": 3600,
}
HEAVY = "make book CHAPTER=K10_experiments"
CHAPTER = re.compile(r"^((?:\w+/)?\w+) +([\d.]+) s$", re.M)


def by_command(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each command: its own, and those of the chapters that it ran."""
    parts = table.groupby(table["command"].str.startswith("make").cumsum())
    return {part["command"].iloc[0]: part for _, part in parts}


def timed(command: str, clone: Path) -> pd.DataFrame:
    """Run a command from nothing; stops where it fails or changes a committed file."""
    shutil.rmtree(clone / "_build", ignore_errors=True)
    start = time.monotonic()
    done = subprocess.run(command.split(), cwd=clone, capture_output=True, encoding="utf-8", errors="replace")
    rows: list[dict[str, object]] = [
        {"command": command, "seconds": round(time.monotonic() - start), "target": COMMANDS[command]}
    ]
    print(rows[0], flush=True)
    if command.startswith("make book") and command != HEAVY:
        rows += [{"command": name, "seconds": round(float(t))} for name, t in CHAPTER.findall(done.stdout)]
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    dirty = subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True, encoding="utf-8", errors="replace"
    ).stdout
    if dirty:
        sys.exit(f"{command} touched committed files:\n{dirty}")
    return pd.DataFrame(rows)


def main() -> None:
    words = sys.argv[1:]
    for word in words:
        if not any(word in command for command in COMMANDS):
            sys.exit(f"no command holds {word}; there are: {', '.join(COMMANDS)}")
    chosen = [c for c in COMMANDS if (any(word in c for word in words) if words else c != HEAVY)]
    found = by_command(pd.read_csv(FILE))
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(root()), str(clone)], check=True)
        if "make env" not in chosen:  # or the first command would install it, and be timed with it
            subprocess.run(["make", "env"], cwd=clone, check=True, capture_output=True)
        found |= {command: timed(command, clone) for command in chosen}
    table = pd.concat([found[command] for command in COMMANDS if command in found])
    write_atomic(FILE, table.to_csv(index=False).encode())


if __name__ == "__main__":
    command(main)()
