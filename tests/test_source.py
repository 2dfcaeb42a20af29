"""The code on disk: as one text for all versions of Python, and whether it is still the code that runs."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from icl_lib.source import BEGUN, PACKAGE, PACKAGES, CodeChanged, canonical, check_unchanged, notebook_code, stamp

# Kept as text: versions of Python write f-strings differently, and differ in which empty fields a tree has.
CANONICAL = (
    "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='x')],kwonlyargs=[arg(arg='y')],"
    "kw_defaults=[Constant(value='\\xe9\\x85\\U0001fae8')]),body=[Return(value=Tuple(elts=[BinOp(left=JoinedStr("
    "values=[FormattedValue(value=Name(id='x',ctx=Load()),conversion=114,format_spec=JoinedStr(values=["
    "Constant(value='>'),FormattedValue(value=Name(id='y',ctx=Load()),conversion=-1)])),Constant(value=' \"q\" y='),"
    "FormattedValue(value=Name(id='y',ctx=Load()),conversion=114)]),op=Add(),right=Constant(value='ab')),"
    "List(ctx=Load()),Constant(),Constant(value=1e-07)],ctx=Load()))])])"
)


def test_a_tree_is_the_same_text_for_every_python() -> None:
    code = "def f(x, *, y='é\\x85\U0001fae8'):\n    return f'{x!r:>{y}} \"q\" {y=}' + 'a' 'b', [], None, 1e-7\n"
    assert canonical(ast.parse(code)) == CANONICAL
    nested = ast.JoinedStr([ast.Constant("a"), ast.Constant("")])  # as Python 3.12.1 has it in f"{x:{w}}"
    assert canonical(nested) == canonical(ast.JoinedStr([ast.Constant("a")]))


def test_the_code_of_a_notebook(tmp_path: Path) -> None:
    sources = {
        "x = 1  # one": [],
        "x = 5": ["injected-parameters"],
        "%matplotlib inline\ny = x": [],
        "z = (\n    x\n    % y\n)": [],
    }
    cells = [{"cell_type": "code", "metadata": {"tags": tags}, "source": [s]} for s, tags in sources.items()]
    file = tmp_path / "chapter.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# A"]}, *cells]}), encoding="utf-8")
    assert canonical(notebook_code(file)) == canonical(ast.parse("x = 1\ny = x\nz = x % y"))


def test_every_file_of_the_library_is_known() -> None:
    assert {file for folder in PACKAGES.values() for file in folder.rglob("*.py")} == set(BEGUN)
    check_unchanged(BEGUN)


@pytest.mark.parametrize("restored", [False, True])
def test_a_file_that_was_written_is_named_even_if_it_is_put_back(tmp_path: Path, restored: bool) -> None:
    file = tmp_path / "train.py"
    file.write_text("value = -1\n", encoding="utf-8")
    known, times = {file: stamp(file)}, (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    check_unchanged([file], known)
    file.write_text("value = -3\n", encoding="utf-8")
    if restored:
        file.write_text("value = -1\n", encoding="utf-8")
        os.utime(file, ns=times)
    with pytest.raises(CodeChanged, match=r"train\.py was written while its code ran"):
        check_unchanged([file], known)


RUN = "import sys; sys.path[:0] = [{place!r}]; import icl_lib.{name}; from icl_lib.lineage import trigger; print(trigger('icl_lib.rng.generator'))"


@pytest.mark.parametrize("when", ["in the same second", "put back to its time"])
def test_code_that_python_has_compiled_of_another_text_is_noticed(tmp_path: Path, when: str) -> None:
    """Python takes a compiled file for that of a source whose time, in seconds, and size agree."""
    place = tmp_path / "copy"
    shutil.copytree(PACKAGE, place / "icl_lib", ignore=shutil.ignore_patterns("__pycache__"))
    file = place / "icl_lib/rng.py"
    command = [sys.executable, "-c", RUN.format(place=str(place), name="rng")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, encoding="utf-8")

    assert run().returncode == 0
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.write_text(file.read_text(encoding="utf-8").replace(">> 1 |", ">> 2 |"), encoding="utf-8")
    os.utime(file, ns=times if when == "put back to its time" else (times[0], times[1] // 10**9 * 10**9 + 1))
    done = run()
    assert done.returncode == 1 and "rng.py is not what Python has compiled of it: remove" in done.stderr
    shutil.rmtree(file.parent / "__pycache__")
    assert run().returncode == 0


def test_a_file_whose_rights_changed_is_what_python_has_compiled(tmp_path: Path) -> None:
    """Or that was copied with its compiled file: that is then older than the file's entry, and its code is the same."""
    place = tmp_path / "copy"
    shutil.copytree(PACKAGE, place / "icl_lib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", RUN.format(place=str(place), name="rng")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        for file in (place / "icl_lib").rglob("*.py"):
            file.chmod(0o664)


def test_a_link_to_nothing_is_no_file_of_the_library(tmp_path: Path) -> None:
    """An editor's lock on a file that has not been saved."""
    place = tmp_path / "copy"
    shutil.copytree(PACKAGE, place / "icl_lib", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "icl_lib/.#train.py").symlink_to("user@host.1234")
    (place / "icl_lib/gone.py").symlink_to("nowhere")
    done = subprocess.run([sys.executable, "-c", RUN.format(place=str(place), name="rng")], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_a_file_that_is_new_or_gone_is_named(tmp_path: Path) -> None:
    for file in (tmp_path / "gone.py", PACKAGE / "nothing.py"):
        with pytest.raises(CodeChanged, match=file.name):
            check_unchanged([file])
