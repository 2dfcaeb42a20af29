"""The command line of ``icl``: which commands there are, their options, and how values are given."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from book.parameters import parse_value
from book.registry import ChapterFile
from icl_lib.validate import ConfigError

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
