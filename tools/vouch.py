"""Show that code which has changed computes what it computed: ``python -m tools.vouch K10 --since COMMIT``.

For a chapter that takes too long to be recorded again. Its reduced setting runs twice on this machine, with the code of the
commit at which its result was current and with today's. If all that the cells say is equal to the letter, a row of
figures/vouched.csv says so, and the recorded result is not stale. What the reduced setting does not reach is not vouched for.
"""

import argparse
import datetime
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from icl_lib.paths import write_atomic
from icl_lib.provenance import chapter_hash
from icl_lib.rerun import book
from icl_lib.rerun.compare import code_cells
from icl_lib.rerun.near import texts
from icl_lib.rerun.terminal import command
from icl_lib.scoreboard import vouched
from tools import notebooks
from tools.check import clean_environment

FILE = Path("figures/vouched.csv")


def said(folder: Path, chapter: Path, parameters: str) -> list[dict[str, str]]:
    """What the cells of a chapter say at these parameters, run by the code of a checkout; figures' stamps are left out."""
    target = folder / "_build" / "vouch" / chapter.name
    run = [sys.executable, "-m", "tools.execute", str(chapter), str(target), "--parameters", parameters]
    run += ["--out", str(target.with_suffix(".out"))]
    environment = {**clean_environment(), "PYTHONPATH": str(folder)}
    subprocess.run(run, cwd=folder, env=environment, check=True)
    found = [texts(cell.outputs) for cell in code_cells(notebooks.load(target))]
    return [{kind: text for kind, text in cell.items() if "provenance" not in text} for cell in found]


def hash_by(folder: Path, chapter: Path) -> str:
    """The chapter's code hash as the code of a checkout computes it."""
    code = f"from pathlib import Path; from icl_lib.provenance import chapter_hash; print(chapter_hash(Path({str(chapter)!r}), numbers_only=True))"
    environment = {**clean_environment(), "PYTHONPATH": str(folder)}
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, cwd=folder, env=environment, check=True, capture_output=True, encoding="utf-8", errors="replace"
    )
    return done.stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("chapter")
    parser.add_argument("--since", required=True, help="a commit at which the recorded result was not stale")
    args = parser.parse_args()
    chapter = book.find(args.chapter, Path.cwd())
    path = chapter.notebook.relative_to(Path.cwd())
    smaller = notebooks.reduced().get(path)
    parameters, setting = json.dumps(smaller or {}), "recorded" if smaller is None else "reduced"
    recorded = json.loads((Path("figures") / chapter.id / "result.json").read_text(encoding="utf-8"))["code_hash"]
    with tempfile.TemporaryDirectory() as place:
        before = Path(place) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(before), args.since], check=True)
        try:
            then = hash_by(before, path)
            if then not in (recorded, vouched().get(recorded)):
                print(f"{chapter.id}: its recorded result was stale at {args.since}, too", file=sys.stderr)
                return 1
            old, new = (said(folder, path, parameters) for folder in (before, Path.cwd()))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(before)], check=True)
    if old != new:
        cells = [number for number, (a, b) in enumerate(zip(old, new), 1) if a != b]
        print(
            f"{chapter.id}: code cells {cells or 'in other numbers'} say something else: record it again",
            file=sys.stderr,
        )
        return 1
    row = {"claim": chapter.id, "recorded": recorded, "now": chapter_hash(path, numbers_only=True), "since": args.since}
    row |= {
        "date": f"{datetime.date.today()}",
        "how": f"{setting} setting, {sum(map(bool, new))} cells equal to the letter",
    }
    table = pd.DataFrame([row])
    if FILE.is_file():
        known = pd.read_csv(FILE, dtype=str)
        table = pd.concat([known[known["recorded"] != recorded], table])
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_atomic(FILE, text.getvalue().encode())
    print(f"{chapter.id}: {row['how']}")
    return 0


if __name__ == "__main__":
    sys.exit(command(main)())
