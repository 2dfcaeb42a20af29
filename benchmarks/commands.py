"""Time the front door: `make env`, `make book` of each part, `make html` and `make test` from nothing, in a fresh clone.

`python -m benchmarks.commands` clones the last commit into a temporary folder, runs the targets one
after the other, each with an empty `_build`, and writes commands.csv beside this file. The time of each
chapter within `make book` (two run at once) is a row of its own. The heavy chapter is timed with `--heavy` only;
otherwise its row is kept.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from icl_lib.paths import root, write_atomic

FILE = Path(__file__).with_name("commands.csv")
# Command, and the target set beforehand in seconds (without the environment's installation).
COMMANDS = {
    "make env": None,
    "make book CHAPTER=softmax": 720,
    "make book CHAPTER=mean_field": 720,
    "make book CHAPTER=open": None,
    "make html": 120,
    "make test": 1800,
}
HEAVY = "make book CHAPTER=K10_experiments"
CHAPTER = re.compile(r"^((?:\w+/)?\w+) +([\d.]+) s$", re.M)


def main() -> None:
    kept, commands = pd.read_csv(FILE), COMMANDS | ({HEAVY: 3600} if "--heavy" in sys.argv[1:] else {})
    rows = [] if HEAVY in commands else kept[kept["command"] == HEAVY].to_dict("records")
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(root()), str(clone)], check=True)
        for command, target in commands.items():
            shutil.rmtree(clone / "_build", ignore_errors=True)
            start = time.monotonic()
            done = subprocess.run(command.split(), cwd=clone, capture_output=True, text=True)
            rows.append({"command": command, "seconds": round(time.monotonic() - start), "target": target})
            print(rows[-1], flush=True)
            if command.startswith("make book") and command != HEAVY:
                rows += [{"command": name, "seconds": round(float(t))} for name, t in CHAPTER.findall(done.stdout)]
            if done.returncode:
                sys.exit(f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
            dirty = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True).stdout
            if dirty:
                sys.exit(f"{command} touched committed files:\n{dirty}")
    write_atomic(FILE, pd.DataFrame(rows).to_csv(index=False).encode())


if __name__ == "__main__":
    main()
