"""Run one notebook: ``python -m tools.execute source.ipynb target.ipynb``."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from book.execute import run
from book.terminal import command
from tools import notebooks


def seconds(target: Path) -> str:
    """How long the run took that made ``target``."""
    return f"{notebooks.load(target).metadata['icl_book']['seconds']:6.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--out", type=Path, help="folder to write to, emptied first")
    parser.add_argument("--results", type=Path, help="folder of results to read from")
    parser.add_argument("--parameters", type=json.loads)
    parser.add_argument("--twin", action="store_true", help="move every initial weight by 1e-7 of its size")
    args = parser.parse_args()
    name = notebooks.label(args.source)
    if args.out:
        shutil.rmtree(args.out, ignore_errors=True)
    problem = run(args.source, args.target, args.out or args.results, args.parameters, twin=args.twin)
    if problem:
        print(f"{name}: failed in {problem}\n  see {args.target.with_suffix('.failed.ipynb')}", file=sys.stderr)
        return 1
    print(f"{name:40} {seconds(args.target)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(command(main)())
