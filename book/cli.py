"""The command ``icl``: list chapters, run one with other parameters, sweep over many, verify what is committed, begin a new one."""

import argparse
import errno
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from book import registry, sweep
from book.gather import TABLE, gather, varied
from book.new import new
from book.options import pairs, parser
from book.point import code_digest, exploratory, require_device
from book.progress import Progress, clock
from book.report import setting, summary, write_report
from book.single import RunFailed, run, with_seeds
from book.story import in_words
from book.terminal import Ended, command
from book.verify import verify
from icl_lib.paths import root
from icl_lib.source import CodeChanged
from icl_lib.validate import ConfigError, require

NOT_HERE = (errno.EROFS, errno.EACCES, errno.EPERM)  # where nothing can be written


def list_command(args: argparse.Namespace, here: Path) -> int:
    """``icl list``: chapters with their run times, or their parameters too."""
    chosen = [registry.find(name, here) for name in args.chapters] or registry.chapters(here)
    for chapter in chosen:
        seconds = registry.run_seconds(chapter)
        took = "" if seconds is None else clock(seconds)
        print(f"{chapter.id:12}{took:>6}  {chapter.label:32} {chapter.title}")
        if args.chapters or args.all:
            for p in chapter.parameters.values():
                unit = f" {p.unit}" if p.unit else ""
                print(f"    {p.name}: {p.kind} = {p.default}\n        {p.meaning}; {p.allowed}{unit}")
    if not (args.chapters or args.all):
        print(
            "\nTimes are minutes:seconds of one core at the book's setting. `icl list L1` shows the parameters of a chapter."
        )
    return 0


def run_command(args: argparse.Namespace, here: Path) -> int:
    """``icl run``: one chapter with other parameters, into a folder of its own."""
    chapter = registry.find(args.chapter, here)
    require_device(chapter, args.device)
    given = with_seeds(chapter, pairs(chapter, args.given), args.seeds)
    values = chapter.values(given)
    other = exploratory(chapter, values, args.device)
    print(f"{chapter.id}: {chapter.title}" + (f"\n  exploratory: {in_words(other)}" if other else ""), flush=True)
    with Progress(
        chapter.id, registry.cell_count(chapter) + bool(chapter.injected(values)), registry.run_seconds(chapter)
    ) as progress:
        done = run(chapter, given, args.out, progress, args.device)
    verdict = f", verdict: {done.verdict}" if done.verdict else ""
    print(f"{chapter.id}: {done.record['seconds']} s{verdict}{' (exploratory)' if other else ''}\n  {done.page}")
    return 0


def sweep_command(args: argparse.Namespace, here: Path) -> int:
    """``icl sweep``: many settings; 1 as exit status unless every point is finished."""
    chapter = registry.find(args.chapter, here)
    require_device(chapter, args.device, here=args.scheduler == "local")
    require(args.jobs is None or args.jobs >= 1, "jobs", args.jobs, "at least 1")
    plan = sweep.plan(chapter, args.grid, pairs(chapter, args.given), args.seeds, args.out, args.device)
    names, total, started = varied(plan.jobs), len(plan.jobs), time.monotonic()
    before = sweep.state(plan.folder, plan.jobs)
    ready = len(before.finished)
    hint = " (--retry computes them again)" if before.failed and not args.retry else ""
    print(f"{chapter.id}: {total} points, {ready} finished, {len(before.failed)} failed before{hint}", flush=True)
    count = 0

    def report(job: sweep.Job, outcome: sweep.Outcome) -> None:
        nonlocal count
        count += 1
        passed = time.monotonic() - started
        left = passed / count * (total - ready - count)
        what = f"{outcome.seconds} s" if outcome.kind in ("done", "kept") else f"{outcome.kind}: {outcome.error}"
        at = f"{clock(passed)}, about {clock(left)} left" if left > 0 else clock(passed)
        print(f"[{ready + count}/{total}] {setting(job, names)}: {what} ({at})", flush=True)

    found = sweep.run(plan, args.scheduler, args.jobs, args.retry, report)
    gather(plan.folder, found)
    print(*summary(found), *([f"{plan.folder / TABLE}"] if (plan.folder / TABLE).is_file() else []), sep="\n")
    return 0 if len(found.finished) == total else 1


def other_code(folder: Path, here: Path) -> list[str]:
    """A line if a sweep was computed with other code, ledger or versions than those that are here."""
    name, jobs = sweep.known_jobs(folder, here)
    job = next(iter(jobs), None)
    try:
        if job is None or job.code == code_digest(registry.find(name, here), job.device):
            return []
    except (ConfigError, SyntaxError, OSError) as error:
        return [f"whether these results come from the present code cannot be told: {error}"]
    return ["these results come from other code, versions or entries of the ledger; the same sweep computes them anew"]


def status_command(args: argparse.Namespace, here: Path) -> int:
    """``icl status``: what a sweep's folder holds."""
    print(*summary(sweep.whole(args.folder, here)), *other_code(args.folder, here), sep="\n")
    return 0


def report_command(args: argparse.Namespace, here: Path) -> int:
    """``icl report``: a sweep's folder as one HTML file."""
    chapter = registry.find(sweep.known_jobs(args.folder, here)[0], here)
    found = sweep.whole(args.folder, here)
    gather(args.folder, found)
    print(write_report(args.folder, chapter.id, chapter.title, found, other_code(args.folder, here)))
    return 0


def verify_command(args: argparse.Namespace, here: Path) -> int:
    """``icl verify``: chapters executed again and compared with what is committed; 1 as exit status if they differ."""
    chosen = [registry.find(name, here) for name in args.chapters] or registry.chapters(here)
    different = 0
    for chapter in chosen:
        started = time.monotonic()
        with Progress(chapter.id, registry.cell_count(chapter)) as progress:
            found = verify(chapter, full=args.full, on_cell=progress)
        different += bool(found.differences)
        told = f"{found.compared} results compared, {clock(time.monotonic() - started)}"
        remarks = "".join(f"; {remark}" for remark in found.remarks)
        print(f"{chapter.id}: {'DIFFERS' if found.differences else 'same'} ({told}{remarks})", flush=True)
        print(*(f"  {line}" for line in found.differences), sep="\n", end="\n" if found.differences else "")
    return int(different > 0)


def new_command(args: argparse.Namespace, here: Path) -> int:
    """``icl new``: the skeleton of a claim."""
    for file in new(args.claim, here):
        print(file.relative_to(here))
    print("Fill in what says TODO; CONTRIBUTING.md goes on from here.")
    return 0


COMMANDS = {
    "list": list_command,
    "run": run_command,
    "sweep": sweep_command,
    "status": status_command,
    "report": report_command,
    "verify": verify_command,
    "new": new_command,
}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, which ``icl --help`` explains."""
    args = parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"icl: {message}", file=sys.stderr)
    goes_on = "the same command goes on from" if args.command == "sweep" else ""
    try:
        return COMMANDS[args.command](args, root())
    except (ConfigError, FileNotFoundError) as error:
        print(f"icl: {error}", file=sys.stderr)
        return 2
    except (RunFailed, CodeChanged) as error:
        print(f"icl: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise  # nobody reads what we print: no fault of ours
    except sweep.Stopped as error:
        print(f"icl: stopped: {error}; {goes_on} here", file=sys.stderr)
        return 1
    except OSError as error:
        hint = f"; {goes_on} here" if goes_on else ""
        if error.errno in NOT_HERE and "out" in args:
            hint = "; --out DIR names another folder"
        print(f"icl: stopped: {error}{hint}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = "cluster" if error.name == "distributed" else "book"
        print(f"icl: {error.name} is not installed: pip install -e '.[{extra}]' in the book's folder", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        how = f"ended by {error}" if isinstance(error, Ended) else "interrupted"
        kept = f"; what is finished is kept, {goes_on} there" if goes_on else ""
        nothing = "; no result was written" if args.command == "run" else ""
        print(f"\nicl: {how}{kept}{nothing}", file=sys.stderr)
        raise


if __name__ == "__main__":
    sys.exit(main())
