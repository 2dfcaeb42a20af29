"""A chapter computes in this Python, and nothing that a user or a machine has configured reaches it."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest

from book import kernel
from book.execute import run
from book.registry import find
from icl_lib import figures, provenance
from tests.book.toy import LIBRARY, environment, icl, make_book

CODE = """import sys
import matplotlib
from icl_lib.paths import out_dir, root, write_json
import time
folder = out_dir() / "T1"
foreign = [name for name in globals() if name.startswith("from_")]
assert not foreign, foreign
assert not matplotlib.rcParams["text.usetex"], "a matplotlibrc was read"
assert __debug__, "asserts are switched off"
print(sys.executable)"""
NBVAL = ("-p", "conftest", "-p", "no:cacheprovider", "--nbval-lax", "--import-mode=importlib", "-q")


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book whose chapter stops where anything reaches it from outside."""
    return make_book(tmp_path_factory.mktemp("strict") / "book", code=CODE)


def configured(home: Path) -> dict[str, str]:
    """The variables of somebody who has configured Python, IPython and matplotlib, and has another kernel called python3."""
    profile, kernel = home / ".ipython/profile_default", home / "jupyter/kernels/python3"
    for folder in (profile / "startup", home / ".config/matplotlib", kernel):
        folder.mkdir(parents=True)
    (home / "startup.py").write_text("from_pythonstartup = 'history'\n")
    (profile / "startup/00.py").write_text("from_startup = 1\n")
    (profile / "ipython_config.py").write_text("c.InteractiveShellApp.exec_lines = ['from_profile = 1']\n")
    (home / ".config/matplotlib/matplotlibrc").write_text("text.usetex: True\n")
    argv = [sys.executable, "-c", "raise SystemExit('another Python')", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    variables = {"HOME": home, "PYTHONSTARTUP": home / "startup.py", "JUPYTER_PATH": home / "jupyter"}
    dropped = ("IPYTHONDIR", "MATPLOTLIBRC", "MPLCONFIGDIR", "XDG_CONFIG_HOME")
    kept = {name: value for name, value in environment().items() if name not in dropped}
    return {**kept, **{name: str(value) for name, value in variables.items()}, "PYTHONOPTIMIZE": "1"}


@pytest.mark.parametrize("name", ["run", "sweep", "verify", "nbval", "build"])
def test_nothing_from_outside_reaches_a_chapter(strict: Path, tmp_path: Path, name: str) -> None:
    variables, notebook = configured(tmp_path / "home"), strict / "chapters/toy/T1_toy.ipynb"
    command = {
        "run": ["book.cli", "run", "T1", "--out", tmp_path / "out"],
        "sweep": ["book.cli", "sweep", "T1", "--out", tmp_path / "out"],
        "verify": ["book.cli", "verify", "T1"],
        "nbval": ["pytest", *NBVAL, "--rootdir", LIBRARY, notebook],
        "build": ["tools.execute", notebook, strict / "_build/T1_toy.ipynb", "--out", tmp_path / "out"],
    }[name]
    cwd = strict if command[0] == "book.cli" else LIBRARY
    options = {"cwd": cwd, "env": variables, "capture_output": True, "encoding": "utf-8"}
    done = subprocess.run([sys.executable, "-m", *map(str, command)], **options)  # type: ignore[call-overload]
    said = done.stdout + done.stderr
    if name == "verify":  # there is nothing to compare with; the cells have all run
        assert "failed in" not in said and "says something else" in said, said
    else:
        assert done.returncode == 0, said


def test_the_kernel_is_this_python_and_says_its_versions(
    strict: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda device=None: {"python": "of another process"})
    target = tmp_path / "T1_toy.ipynb"
    assert run(find("T1", strict).notebook, target, tmp_path, cwd=strict) is None
    notebook = nbformat.read(target, as_version=4)
    assert notebook.metadata["icl_book"]["versions"] == versions
    assert notebook.cells[2].outputs[0].text.strip() == sys.executable


def test_figures_look_the_same_with_a_matplotlibrc(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in the working directory is read before all others."""
    with mpl.rc_context({"text.usetex": True, "lines.linewidth": 9.0}):
        figures.use_theme()
        assert not mpl.rcParams["text.usetex"] and mpl.rcParams["lines.linewidth"] < 3


def test_a_kernel_needs_no_home(strict: Path, tmp_path: Path) -> None:
    (tmp_path / "home").touch()  # in a file nothing can be written
    done = icl(strict, "run", "T1", "--out", tmp_path / "out", env={**environment(), "HOME": str(tmp_path / "home")})
    assert done.returncode == 0 and not done.stderr, done.stderr
    text = (tmp_path / "out/T1_toy.ipynb").read_text(encoding="utf-8")
    assert '"name": "stderr"' not in text


@pytest.mark.parametrize("deep", [False, True])
def test_a_kernel_speaks_through_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep: bool) -> None:
    """Not through ports, which another program may take between the search and the start; unless the name is too long."""
    folder = Path(tempfile.mkdtemp(prefix="k")) / ("long" * 30 if deep else "own")
    manager = kernel.manager(kernel.environment(folder))(kernel_name="python3")
    assert manager.transport == ("tcp" if deep else "ipc")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    source = tmp_path / "n.ipynb"
    nbformat.write(notebook, source)
    (tmp_path / "claims.yml").write_text("{}", encoding="utf-8")
    if deep:
        monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 30)))
        monkeypatch.setattr(tempfile, "tempdir", None)
        (tmp_path / ("long" * 30)).mkdir()
    assert run(source, tmp_path / "ran.ipynb", tmp_path / "out") is None
    assert nbformat.read(tmp_path / "ran.ipynb", 4).cells[0].outputs[0].text == "42\n"
