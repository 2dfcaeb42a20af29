"""Commands in any terminal: letters that its encoding lacks, a pipe that is closed, text files in UTF-8 whatever the locale."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.toy import LIBRARY, command, environment, icl, lines, make_book

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TITLE = "{T1: {title: 'Wärme η → 0', chapter: chapters/toy/T1_toy}}"
PARAMETERS = "alpha: float = 0.5  # α′, größer als 0\nbeta: int = 1  # β\nn_seeds: int = 3\npause: float = 0.0"


@pytest.fixture(scope="module")
def greek(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of letters that few encodings have."""
    book = make_book(tmp_path_factory.mktemp("greek") / "book", parameters=PARAMETERS)
    (book / "claims.yml").write_text(TITLE, encoding="utf-8")
    (book / "chapters/parameters.yml").write_text("toy/T1_toy: {alpha: '[0, 1] π'}\n", encoding="utf-8")
    return book


@pytest.mark.parametrize("variables", [ASCII, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "iso-8859-1"}])
def test_what_the_terminal_cannot_show_is_a_question_mark(greek: Path, variables: dict[str, str]) -> None:
    done = subprocess.run(command("list", "T1"), cwd=greek, env={**environment(), **variables}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"rme ? ? 0" in done.stdout and b"a number in [0, 1] ?" in done.stdout and not done.stderr


def test_a_run_in_a_locale_of_ascii(greek: Path, tmp_path: Path) -> None:
    done = icl(greek, "run", "T1", "-p", "alpha=0.25", "--out", tmp_path / "out", env={**environment(), **ASCII})
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "Wärme η → 0" in (tmp_path / "out/T1_toy.html").read_text(encoding="utf-8")


def test_every_text_file_is_read_and_written_with_its_encoding() -> None:
    """`read_text()` and its like take that of the locale."""
    folders = ("icl_lib", "book", "studies", "tools", "benchmarks", "reliability", "_ext")
    files = [
        LIBRARY / "dodo.py",
        LIBRARY / "conftest.py",
        *(f for name in folders for f in (LIBRARY / name).rglob("*.py")),
    ]
    found = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and not any(k.arg == "encoding" for k in node.keywords)
                and locale_decides(node)
            ):
                found.append(f"{file.relative_to(LIBRARY)}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert not found


def locale_decides(call: ast.Call) -> bool:
    """Whether a call reads or writes text and, without an encoding, leaves it to the locale."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if any(k.arg in ("text", "universal_newlines") for k in call.keywords):
        return True
    if name != "open" or ast.unparse(call.func) == "os.open":
        return name in ("read_text", "write_text")
    modes = call.args[isinstance(call.func, ast.Name) :][:1] + [k.value for k in call.keywords if k.arg == "mode"]
    return not any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


@pytest.mark.parametrize("module", [["book.cli", "list", "--all"], ["doit", "list", "--all"]])
def test_a_pipe_that_is_closed_ends_a_command_quietly(module: list[str]) -> None:
    """``icl list --all | head -1``, with a reader that has gone before all is written."""
    reader, writer = os.pipe()
    os.close(reader)
    options = {"stdout": writer, "stderr": subprocess.PIPE, "cwd": LIBRARY, "env": environment(), "encoding": "utf-8"}
    done = subprocess.run([sys.executable, "-m", *module], **options)  # type: ignore[call-overload]
    os.close(writer)
    assert done.returncode in (141, -signal.SIGPIPE) and not lines(done.stderr), done.stderr
