"""Show that code which has changed computes what it computed: ``python -m tools.vouch --since COMMIT [trainers | CHAPTER ...]``.

With ``--tests`` instead of a commit, chapters' tests run: what today's code says at the setting at which a chapter is tested is
compared with what is committed, by the tests' rule; once, and not to the letter. Where numbers are known to move, record anew.

With a commit, both run on this machine, its code and today's. Trainers run their probes (`tools.probes`, a minute): if all come out
to the bit, what was trained keeps its lineage, by a row of ``icl_lib/data/lineages.csv``. A chapter runs at its reduced setting,
where it has one: if all that its cells say is equal to the letter, a row of ``figures/vouched.csv`` says so, and its recorded
result is not stale. Without names, all that is not current is vouched for. What probes and reduced settings do not reach is not.
"""

import argparse
import contextlib
import datetime
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from book import execute, registry
from book.claims import load_claims
from book.compare import code_cells, texts
from book.identity import chapter_code, tables
from book.scoreboard import stale_because, vouched
from book.terminal import command
from icl_lib.lineage import TABLE, trigger
from icl_lib.paths import read_json, write_atomic
from icl_lib.source import WRITTEN
from icl_lib.validate import require
from tools import check, notebooks
from tools.probes import TRAINERS

FILE = Path("figures/vouched.csv")
STAMP = 'class="provenance"'  # in the line below a figure


def python(folder: Path, *arguments: str, quiet: bool = False) -> str:
    """What Python prints, run with the code of a checkout; ``quiet`` about what goes wrong."""
    environment = {**check.clean_environment(), "PYTHONPATH": str(folder)}
    run = [sys.executable, *arguments]
    done = subprocess.run(
        run,
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        encoding="utf-8",
        errors="replace",
    )
    return done.stdout.strip()


def said(folder: Path, chapter: Path, parameters: str) -> dict[str, str]:
    """What a chapter says and writes at these parameters, run by the code of a checkout: cells, tables, clauses.

    Pictures and the stamps of figures are left out.
    """
    target = folder / "_build" / "vouch" / chapter.name
    options = ("--parameters", parameters, "--out", str(target.with_suffix(".out")))
    python(folder, "-m", "tools.execute", str(chapter), str(target), *options)
    found: dict[str, str] = {}
    for cell in code_cells(notebooks.load(target)):  # numbered by those that say something: a cell may have been split
        spoken = [output for output in cell.outputs if STAMP not in output.get("data", {}).get("text/markdown", "")]
        number = len(found) + 1
        found |= {f"output {number}, {kind}": text for kind, text in texts(spoken).items()}
    for file in (file for kind in ("*.csv", "result.json") for file in sorted(target.with_suffix(".out").rglob(kind))):
        text = file.read_text(encoding="utf-8")
        found[file.name] = json.dumps(json.loads(text)["clauses"]) if file.suffix == ".json" else text
    return found


@contextlib.contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A checkout of that commit, for a while."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(folder), commit], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(folder)], check=True)


def add(file: Path, key: str, row: Mapping[str, str]) -> None:
    """Put a row into a table, in place of those that have the same `key`."""
    table = pd.DataFrame([{**row, "date": f"{datetime.date.today()}"}])
    if file.is_file():
        known = pd.read_csv(file, dtype=str)
        table = pd.concat([known[known[key] != row[key]], table])
    write_atomic(file, table.to_csv(index=False, lineterminator="\n").encode())


def probed(before: Path, moved: Sequence[str]) -> dict[str, dict[str, str]]:
    """Digests of the probes by the code of then: today's probes; where that cannot run those, as after a move, its own."""
    file = before / "tools" / "probes.py"
    own = file.read_text(encoding="utf-8")
    shutil.copyfile("tools/probes.py", file)
    try:
        said = python(before, "-m", "tools.probes", *moved, quiet=True)
    except subprocess.CalledProcessError:
        file.write_text(own, encoding="utf-8")
        said = python(before, "-m", "tools.probes", *moved)
    return dict(json.loads(said))


def trainers(before: Path, since: str) -> bool:
    """Vouch for all trainers whose trigger has moved; one that there was not then has nothing to be vouched for."""
    ask = (
        "import json; from icl_lib.lineage import lineage; from tools.probes import TRAINERS; "
        "print(json.dumps({name: lineage(trainer.entry) for name, trainer in TRAINERS.items()}))"
    )
    then = json.loads(python(before, "-c", ask))
    moved = [name for name in TRAINERS if name in then and trigger(TRAINERS[name].entry) != then[name]]
    if not moved:
        return True
    try:
        old, new = probed(before, moved), json.loads(python(Path(), "-m", "tools.probes", *moved))
    except subprocess.CalledProcessError:
        print(f"no probes run with the code of {since}: {', '.join(moved)} cannot be vouched for", file=sys.stderr)
        return False
    fine = True
    for name in moved:
        entry = TRAINERS[name].entry
        other = [probe for probe in {**old[name], **new[name]} if old[name].get(probe) != new[name].get(probe)]
        if other:
            print(f"{entry}: trains something else: {', '.join(other)}", file=sys.stderr)
            fine = False
            continue
        how = f"{len(new[name])} probes equal to the bit"
        row = {"trainer": entry, "trigger": trigger(entry), "lineage": then[name], "since": since, "how": how}
        add(TABLE, "trigger", row)
        print(f"{entry}: {how}")
    return fine


def chapter(name: str, before: Path, since: str) -> bool:
    """Vouch for the recorded result of one chapter."""
    found = registry.find(name, Path.cwd())
    path = found.notebook.relative_to(Path.cwd())
    smaller = notebooks.reduced().get(path)
    parameters, setting = json.dumps(smaller or {}), "recorded" if smaller is None else "reduced"
    recorded = read_json(Path("figures") / found.id / "result.json")["code_hash"]
    there = (before / "book" / "identity.py").is_file()  # there was no book in the beginning
    where = "book.identity" if there else "icl_lib.lineage"
    ask = f"import sys; from pathlib import Path; from {where} import chapter_code; print(chapter_code(Path(sys.argv[1])))"
    if python(before, "-c", ask, str(path)) not in (recorded, vouched().get(recorded, ("",))[0]):
        print(f"{found.id}: its recorded result was stale at {since}, too", file=sys.stderr)
        return False
    now = chapter_code(path)
    old, new = (said(folder, path, parameters) for folder in (before, Path.cwd()))
    if chapter_code(path) != now:
        print(f"{path} {WRITTEN}", file=sys.stderr)
        return False
    if other := [what for what in {**old, **new} if old.get(what) != new.get(what)]:
        print(f"{found.id}: something else now: {', '.join(other)}; record it again", file=sys.stderr)
        return False
    how = f"{setting} setting, {len(new)} cells, tables and results equal to the letter"
    row = {"claim": found.id, "recorded": recorded, "now": now, "since": since, "how": how}
    add(FILE, "recorded", row)
    print(f"{found.id}: {how}")
    return True


def by_tests(names: Sequence[str]) -> bool:
    """Vouch for the recorded results of chapters all of whose tests pass, two at a time.

    Raises:
        ConfigError: for a claim without a recorded result, or whose result has read tables that are new: that is recorded again.
    """
    claims, smaller, tested = load_claims(), notebooks.reduced(), {}
    for name in names:
        path = registry.find(name, Path.cwd()).notebook.relative_to(Path.cwd())
        result = Path("figures") / name / "result.json"
        good = (
            name in claims
            and result.is_file()
            and read_json(result).get("tables", "") == tables(path.resolve(), Path.cwd())
        )
        require(good, "claim", name, "one with a recorded result that has read what is recorded today")
        tested[name] = path, notebooks.REFERENCES / path.name if path in smaller else path, chapter_code(path)
    if not tested:
        print("nothing is stale")
        return True
    told = check.by_cell([file for _, file, _ in tested.values()], {})
    passed = True
    for name, (path, file, now) in tested.items():
        bad = [cell for cell, same in told[file].items() if not same]
        if bad or chapter_code(path) != now:
            print(f"{name}: its tests did not pass, or its code {WRITTEN} {', '.join(bad)}".rstrip(), file=sys.stderr)
            passed = False
            continue
        how = f"{'reduced' if path in smaller else 'recorded'} setting, its tests passed"
        recorded = read_json(Path("figures") / name / "result.json")["code_hash"]
        add(FILE, "recorded", {"claim": name, "recorded": recorded, "now": now, "since": execute.commit(), "how": how})
        print(f"{name}: {how}")
    return passed


def stale() -> list[str]:
    """Claims whose recorded results are not of today's code."""
    files = [(claim, Path("figures") / claim.id / "result.json") for claim in load_claims().values()]
    return [claim.id for claim, file in files if file.is_file() and stale_because(claim, file)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="trainers | CHAPTER")
    against = parser.add_mutually_exclusive_group(required=True)
    against.add_argument("--since", help="a commit at which the recorded results were not stale")
    against.add_argument("--tests", action="store_true", help="by the chapters' tests")
    args = parser.parse_args()
    if args.tests:
        return int(not by_tests(args.names or stale()))
    known = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{args.since}^{{commit}}"], capture_output=True)
    require(known.returncode == 0, "since", args.since, "a commit of this repository")
    with checkout(args.since) as before:
        passed = [
            trainers(before, args.since) if name == "trainers" else chapter(name, before, args.since)
            for name in args.names or ["trainers", *stale()]
        ]
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(command(main)())
