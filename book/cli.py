"""The command ``icl``: list chapters, run one with other parameters, sweep over many, verify what is committed, begin a new one."""

import argparse
import errno
import itertools
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from book import registry, sweep
from book.gather import gather, setting, summary, varied, write_report
from book.new import new
from book.parameters import parse_value
from book.registry import ChapterFile
from book.run import RunFailed, code_digest, exploratory, require_device, run, with_seeds
from book.terminal import Ended, Progress, clock, command
from book.verify import verify
from book.words import in_words
from icl_lib.paths import root
from icl_lib.source import CodeChanged
from icl_lib.validate import ConfigError, require

EXAMPLES = """examples:
  icl list L1                                   the parameters of a chapter
  icl run L1 -p alpha=0.5 -p n_seeds=20         one chapter with other parameters
  icl run L1 -p batch_sizes=[2,128]             a list
  icl sweep L1 --grid alpha=0.2,0.4,0.8 --grid beta=1:4:4 --seeds 10
  icl verify L5                                 does a committed result come out again?
  icl new L10_width                             the skeleton of a new claim

Interrupted, a sweep is taken up by the same command. Exit status: 0 well, 1 a run failed or
differs, 2 refused before anything ran, 130 interrupted. `icl COMMAND --help` says more.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="icl",
        description="Re-execute chapters of the book with other parameters. Run it inside a checkout of the book.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    sub = commands.add_parser("list", help="chapters with measured run time; with names, their parameters")
    sub.add_argument("chapters", nargs="*", metavar="CLAIM", help="a claim (L1) or a chapter's file name")
    sub.add_argument("--all", action="store_true", help="the parameters of all chapters")

    sub = commands.add_parser(
        "run",
        help="run one chapter with other parameters",
        description="Run one chapter, with other parameters than the book's if any are given. The result is a folder with the "
        "executed notebook, the same as one HTML file, figures with their data, the verdict, and where it all comes from. "
        "Nothing that is committed changes.",
    )
    _chapter_options(sub)
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the result (default: a new one in _build/runs)")

    sub = commands.add_parser(
        "sweep",
        help="run a chapter at every combination of values; the same command resumes",
        description="Run a chapter at every combination of the values on the grids. What is finished is kept: the same "
        "command goes on where it was stopped, and another grid in the same folder adds to its table.",
    )
    _chapter_options(sub)
    sub.add_argument("--grid", action="append", default=[], metavar="NAME=VALUES", help="0.2,0.4 or low:high:number")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep (default: one in _build/sweeps)")
    sub.add_argument(
        "--jobs", type=int, metavar="N", help="points at a time (default: one for every processor; 1 on a GPU)"
    )
    sub.add_argument("--retry", action="store_true", help="also compute again what has failed before")
    sub.add_argument(
        "--scheduler",
        default="local",
        metavar="ADDRESS",
        help="local, or tcp://host:port of a Dask scheduler whose workers see the same folders",
    )

    sub = commands.add_parser("status", help="what a sweep has finished, how long it took, and what failed")
    sub.add_argument("folder", type=Path, metavar="DIR", help="the folder of a sweep")
    sub = commands.add_parser(
        "report",
        help="the same with table and figure, as one HTML file in the folder",
        description="Gather what a sweep has finished so far: table.csv, a figure, and both in one HTML file, report.html.",
    )
    sub.add_argument("folder", type=Path, metavar="DIR", help="the folder of a sweep")

    sub = commands.add_parser(
        "verify",
        help="execute chapters again and compare with the committed results",
        description="Execute chapters again and compare text and numbers with what is committed, within tolerance. Long "
        "chapters run at the smaller setting of the tests. The exit status is 1 if anything differs.",
    )
    sub.add_argument("chapters", nargs="*", metavar="CLAIM", help="claims or chapters (default: all)")
    sub.add_argument("--full", action="store_true", help="run long chapters at the book's setting too")

    sub = commands.add_parser(
        "new",
        help="make the skeleton of a new claim, see CONTRIBUTING.md",
        description="Make the skeleton of a new claim: entries in the ledger and the tables, a notebook that runs, a module for the "
        "measurement, a test. Nothing that exists is overwritten.",
    )
    sub.add_argument("claim", metavar="CLAIM", help="the next id of its part, and a name for its files: L10_width")
    return top


def _chapter_options(sub: argparse.ArgumentParser) -> None:
    """What `run` and `sweep` have in common."""
    sub.add_argument("chapter", metavar="CLAIM", help="a claim (L1) or a chapter's file name")
    sub.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter's value")
    sub.add_argument("--seeds", type=int, metavar="N", help="number of seeds, the parameter n_seeds")
    sub.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N: where the networks of Part I train")


def pairs(chapter: ChapterFile, texts: Sequence[str]) -> dict[str, object]:
    """Values given as NAME=VALUE, read as literals of the parameter's type.

    Raises:
        ConfigError: for a text without "=", or a name given twice.
    """
    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            raise ConfigError(f"{chapter.id}: -p {text}: must be NAME=VALUE, each name once")
        found[name] = parse_value(value, chapter.parameters[name].kind if name in chapter.parameters else "")
    return found


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
    ours = registry.ours(chapter.entry)
    counts = f", which does not count {', '.join(f'{key} ({label})' for key, label in ours.items())}" if ours else ""
    verdict = f", verdict: {done.verdict}{counts}" if done.verdict else ""
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
    counter = itertools.count(1)

    def report(job: sweep.Job, outcome: sweep.Outcome) -> None:
        count = next(counter)
        passed = time.monotonic() - started
        left = passed / count * (total - ready - count)
        what = f"{outcome.seconds} s" if outcome.kind in ("done", "kept") else f"{outcome.kind}: {outcome.error}"
        at = f"{clock(passed)}, about {clock(left)} left" if left > 0 else clock(passed)
        print(f"[{ready + count}/{total}] {setting(job, names)}: {what} ({at})", flush=True)

    found = sweep.run(plan, args.scheduler, args.jobs, args.retry, report)
    gather(plan.folder, found)
    table = plan.folder / sweep.TABLE
    print(*summary(found), *([table] if table.is_file() else []), sep="\n")
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
    print(*(file.relative_to(here) for file in new(args.claim, here)), sep="\n")
    print("Fill in what says TODO; CONTRIBUTING.md goes on from here.")
    return 0


OF = (list_command, run_command, sweep_command, status_command, report_command, verify_command, new_command)
COMMANDS = {function.__name__.removesuffix("_command"): function for function in OF}


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, which ``icl --help`` explains."""
    args = parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_, **__: print(f"icl: {message}", file=sys.stderr)
    goes_on, status = "the same command goes on from" if args.command == "sweep" else "", 1
    try:
        return COMMANDS[args.command](args, root())
    except (ConfigError, FileNotFoundError) as error:
        said, status = str(error), 2
    except (RunFailed, CodeChanged) as error:
        said = str(error)
    except BrokenPipeError:
        raise  # nobody reads what we print: no fault of ours
    except (sweep.Stopped, OSError) as error:
        hint = f"; {goes_on} here" if goes_on else ""
        if isinstance(error, OSError) and error.errno in NOT_HERE and "out" in args:
            hint = "; --out DIR names another folder"
        said = f"stopped: {error}{hint}"
    except ModuleNotFoundError as error:
        extra = "cluster" if error.name == "distributed" else "book"
        said = f"{error.name} is not installed: pip install -e '.[{extra}]' in the book's folder"
    except KeyboardInterrupt as error:
        how = f"ended by {error}" if isinstance(error, Ended) else "interrupted"
        kept = f"; what is finished is kept, {goes_on} there" if goes_on else ""
        nothing = "; no result was written" if args.command == "run" else ""
        print(f"\nicl: {how}{kept}{nothing}", file=sys.stderr)
        raise
    print(f"icl: {said}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
