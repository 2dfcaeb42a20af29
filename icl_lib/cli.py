"""The command ``icl``: list chapters, run one with other parameters, sweep over many settings, verify what is committed."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from icl_lib.parameters import parse_value
from icl_lib.paths import root
from icl_lib.rerun import book
from icl_lib.rerun.progress import Progress, clock
from icl_lib.rerun.single import RunFailed, run, with_seeds
from icl_lib.validate import ConfigError

EXAMPLES = """examples:
  icl list L1                                   the parameters of a chapter
  icl run L1 -p alpha=0.5 -p n_seeds=20         one chapter with other parameters
  icl run L1 -p batch_sizes=[2,128]             a list
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

    sub = commands.add_parser("run", help="run one chapter with other parameters")
    _chapter_options(sub)
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the result (default: a new one in _build/runs)")
    return top


def _chapter_options(sub: argparse.ArgumentParser) -> None:
    """What `run` and `sweep` have in common."""
    sub.add_argument("chapter", metavar="CLAIM", help="a claim (L1) or a chapter's file name")
    sub.add_argument("-p", dest="given", action="append", default=[], metavar="NAME=VALUE", help="a parameter's value")
    sub.add_argument("--seeds", type=int, metavar="N", help="number of seeds, the parameter n_seeds")
    sub.add_argument("--device", default="cpu", help="cpu; the chapters have no other device today")


def pairs(chapter: book.ChapterFile, texts: Sequence[str]) -> dict[str, object]:
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


def require_cpu(chapter: book.ChapterFile, device: str) -> None:
    """Refuse every device but the CPU: the chapters have no parameter for it.

    Raises:
        ConfigError: naming the device.
    """
    if device != "cpu":
        raise ConfigError(
            f"{chapter.id}: device={device!r}: must be 'cpu', the chapters of this book run on the CPU only"
        )


def settings(changed: Mapping[str, object]) -> str:
    """Changed values for people."""
    return ", ".join(f"{name} = {value}" for name, value in changed.items())


def list_command(args: argparse.Namespace, here: Path) -> int:
    chosen = [book.find(name, here) for name in args.chapters] or book.chapters(here)
    for chapter in chosen:
        seconds = book.run_seconds(chapter)
        time = "      " if seconds is None else f"{clock(seconds):>6}"
        print(f"{chapter.id:12}{time}  {chapter.label:32} {chapter.title}")
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
    chapter = book.find(args.chapter, here)
    require_cpu(chapter, args.device)
    given = with_seeds(chapter, pairs(chapter, args.given), args.seeds)
    changed = chapter.changed(chapter.values(given))
    print(f"{chapter.id}: {chapter.title}" + (f"\n  exploratory: {settings(changed)}" if changed else ""), flush=True)
    with Progress(chapter.id, book.cell_count(chapter) + bool(changed), book.run_seconds(chapter)) as progress:
        done = run(chapter, given, args.out, progress)
    verdict = f", verdict: {done.verdict}" if done.verdict else ""
    print(f"{chapter.id}: {done.record['seconds']} s{verdict}{' (exploratory)' if changed else ''}\n  {done.folder}")
    return 0


COMMANDS = {"list": list_command, "run": run_command}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 well, 1 a run failed or differs, 2 refused before anything ran, 130 interrupted."""
    args = parser().parse_args(arguments)
    try:
        return COMMANDS[args.command](args, root())
    except (ConfigError, FileNotFoundError) as error:
        print(f"icl: {error}", file=sys.stderr)
        return 2
    except (RunFailed, OSError) as error:
        print(f"icl: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"icl: {error.name} is not installed: pip install -e '.[book]' in the book's folder", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nicl: interrupted; what was trained so far is kept, the same command goes on from there", file=sys.stderr
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
