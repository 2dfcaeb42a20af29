"""Render the book: ``python -m tools.render`` from the committed outputs; ``make book`` from this machine's."""

import base64
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import yaml

from book import compare, execute, terminal, words
from book.notebooks import COPY
from book.render import provenance_as_legend
from icl_lib.figures import DPI
from icl_lib.locks import locked
from icl_lib.source import PACKAGES
from tools import notebooks

BOOK = ("_toc.yml", "references.bib", "index.ipynb", "_ext", "_static", "chapters", "figures")

CHECKED = "# NBVAL_CHECK_OUTPUT"
FONTS = "'DejaVu Sans', Verdana, sans-serif"  # Verdana has the widths of the font that the figures were laid out with

# Of a public copy of the book; binder/ holds what they install.
LAUNCH = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}


def stage(source: Path, executed: Mapping[Path, Path], marked: Mapping[Path, str]) -> None:
    """Copy the book to ``source``, with the outputs of the executed notebooks and notes on the marked ones."""
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    ignored = shutil.ignore_patterns(".*", "__pycache__", COPY)
    for name in BOOK:
        if Path(name).is_dir():
            shutil.copytree(name, source / name, ignore=ignored, copy_function=shutil.copyfile)
        elif Path(name).is_file():
            shutil.copyfile(name, source / name)
    for path in [*notebooks.chapters(), *notebooks.summaries()]:
        notebook = notebooks.load(path)
        if path in executed:
            run = notebooks.load(executed[path])
            notebook = notebooks.with_outputs(notebook, run)
            stamp = run.metadata["icl_book"]
            text = (
                f"computed at commit {stamp['commit']} on {stamp['date']} in {stamp['seconds']} s ({stamp['machine']})"
            )
            notebook.cells.append(nbformat.v4.new_markdown_cell(f"---\n*Outputs of this page: {text}.*", id="stamp"))
        if path in marked:
            title, line, rest = notebook.cells[0].source.partition("\n")
            notebook.cells[0].source = f"{title}\n\n:::{{important}}\n{marked[path]}\n:::\n{line}{rest}"
        drawn = executed[path].with_suffix(".out") if path in executed else Path("figures")
        for cell in compare.code_cells(notebook):
            cell.source = cell.source.removeprefix(f"{CHECKED}\n")  # for the tests, not for readers
            picture_as_svg(cell, drawn)
            provenance_as_legend(cell)
        notebooks.save(notebook, source / path)


def picture_as_svg(cell: Any, drawn: Path) -> None:
    """Show a figure as the SVG that was saved with it, in the same size, where that is smaller than the PNG."""
    for picture, line in zip(cell.outputs, cell.outputs[1:]):
        named = re.search(r"figures/(\S+)\.csv", line.get("data", {}).get("text/markdown", ""))
        file = drawn / f"{named[1]}.svg" if named else None
        png = picture.get("data", {}).get("image/png")
        if file and png and file.is_file() and file.stat().st_size < len(base64.b64decode(png)):
            svg = re.sub(r"(?s)^.*?(?=<svg)|<metadata>.*?</metadata>\s*", "", file.read_text(encoding="utf-8"))
            svg = re.sub(r'(width|height)="([\d.]+)pt"', lambda m: f'{m[1]}="{float(m[2]) * DPI / 72:.0f}"', svg)
            svg = re.sub(r"font-family: [^;\"]*", f"font-family: {FONTS}", svg)
            picture.data = type(picture.data)({"image/svg+xml": svg})


def build(source: Path, html: Path, footer: str) -> bool:
    """Build the staged book, warnings as errors, unless ``html`` shows just this already; says whether it went well."""
    library = [file for folder in PACKAGES for file in sorted(Path(folder).rglob("*.py"))]  # whose docstrings are shown
    facts = [Path("claims.yml"), Path("benchmarks/commands.csv"), words.TWINS]  # which stand below a chapter's title
    files = [*sorted(source.rglob("*")), *library, *facts, Path("_config.yml"), Path("requirements.lock")]
    stamp, done = html.with_suffix(".digest"), notebooks.digest(files) + footer
    if not (html.is_dir() and stamp.is_file() and stamp.read_text(encoding="utf-8") == done):
        config = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))
        config["html"]["extra_footer"] = f"<p>{footer}. {datetime.datetime.now():%Y-%m-%d %H:%M}</p>"
        if config["repository"]["url"]:
            config["launch_buttons"] = LAUNCH
        (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        # A new folder each time: what a killed build left is never taken up, nor is what its Sphinx, if it lives on, still writes.
        for left in source.parent.glob(f"{source.name}_out*"):
            shutil.rmtree(left, ignore_errors=True)
        output = Path(tempfile.mkdtemp(prefix=f"{source.name}_out", dir=source.parent))
        program = str(Path(sys.executable).with_name("jupyter-book"))
        # Without --all, a failed build can be followed by one that finds nothing to do and passes.
        strict = ["--all", "-n", "-W", "--keep-going", "-q"]
        command = [program, "build", str(source), "--path-output", str(output), *strict]
        environment = {**os.environ, "PYTHONUTF8": "1"}  # it reads its files as the locale says
        process = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", errors="replace")
        if process.returncode:
            print(process.stdout, process.stderr, "The pages have errors or warnings, see above.", sep="\n")
            return False
        shutil.rmtree(html, ignore_errors=True)
        shutil.move(output / "_build/html", html)
        shutil.rmtree(output)
        stamp.write_text(done, encoding="utf-8")
    print(f"Open {html / 'index.html'}")
    return True


def book(folder: Path, executed: Iterable[Path], marked: Mapping[Path, str]) -> bool:
    """Render what this machine has computed into ``folder/html``."""
    stage(folder / "src", {path: folder / "run" / path for path in executed}, marked)
    if (folder / "figures").is_dir():  # the data of what has just run, instead of the committed ones
        shutil.copytree(folder / "figures", folder / "src/figures", dirs_exist_ok=True, copy_function=shutil.copyfile)
    footer = f"Computed by make book at commit {execute.commit()} ({execute.machine()})"
    return build(folder / "src", folder / "html", footer)


def pages() -> bool:
    """Render the committed outputs into ``_build/html``; of two at once, the second waits and finds it done."""
    with locked(Path("_build/html.lock")):
        stage(Path("_build/html_src"), {}, {})
        footer = f"Rendered from the committed outputs at commit {execute.commit()}"
        return build(Path("_build/html_src"), Path("_build/html"), footer)


if __name__ == "__main__":
    sys.exit(terminal.command(lambda: not pages())())
