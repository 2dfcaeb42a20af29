"""`make env` on machines and in checkouts that are not like ours: a small checkout, a Python that is a stub where one is missing, a pip that notes what it is asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from book import workers
from book.cli import main
from icl_lib import paths

PIP = """import sys
from pathlib import Path
here = Path(__file__).resolve().parents[1]
with open(here.parents[2] / "asked", "a") as log:
    print(*sys.argv[1:], file=log)
if "-e" in sys.argv:
    (here / "checkout.pth").write_text(sys.argv[-1])
"""


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def checkout(folder: Path, lock: str = "one==1\n") -> Path:
    """What `make env` reads of a checkout."""
    (folder / "tools").mkdir(parents=True)
    (folder / "icl_lib").mkdir()
    for name in ("env.sh", "install.py"):
        shutil.copyfile(f"tools/{name}", folder / "tools" / name)
    (folder / "icl_lib/__init__.py").touch()
    for package in ("book", "studies"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    (folder / "claims.yml").touch()
    (folder / "requirements.lock").write_text(lock)
    return folder


def environment(folder: Path, pip: bool = True) -> Path:
    """One that holds nothing but the pip that notes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    if pip:
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "pip").mkdir()
        (site / "pip/__main__.py").write_text(PIP)
    return folder


def make_env(book: Path, venv: str | Path = ".venv", path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "tools/env.sh", str(venv)]
    return subprocess.run(command, cwd=book, capture_output=True, text=True, env={"PATH": path})


def asked(venv: Path) -> list[str]:
    """What pip was asked since the last look."""
    log = venv / "asked"
    said = log.read_text().splitlines() if log.is_file() else []
    log.unlink(missing_ok=True)
    return said


def library(python: Path) -> Path:
    """The library that a program of an environment imports."""
    code = "import icl_lib; print(icl_lib.__file__)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()).parent


OLD = 'case "$3" in *3,*11*) exit 1;; esac'
NO_VENV = 'case "$3" in *ensurepip*) exit 1;; esac'
NEEDED = "Python 3.11, 3.12, 3.13 or 3.14 is needed and was not found: "


@pytest.mark.parametrize(
    ("pythons", "apt", "said"),
    [
        # Debian 13, without and with the interpreter; a version of one's own beside an old system.
        ({}, "*3.13-venv", NEEDED + "apt-get install python3.13-venv"),
        ({"python3": NO_VENV, "python3.13": NO_VENV}, "*3.13-venv", "Ubuntu: apt-get install python3-venv)"),
        ({"python3": OLD, "python3.12": NO_VENV}, "*3.12-venv", "Ubuntu: apt-get install python3.12-venv)"),
        # Too old a system has no remedy of its own; one without package lists has to fetch them; others are not asked.
        (
            {"python3": OLD},
            "python3-venv",
            NEEDED + "uv (https://docs.astral.sh/uv) brings its own: uv venv --python 3.13",
        ),
        ({}, "nothing", NEEDED + "apt-get update, and try again"),
        ({}, None, NEEDED + "uv (https://docs.astral.sh/uv)"),
    ],
)
def test_a_missing_python_is_one_line_with_a_remedy_that_exists(
    tmp_path: Path, pythons: dict[str, str], apt: str | None, said: str
) -> None:
    for name, stub in pythons.items():
        executable(tmp_path / "bin" / name, stub)
    if apt:
        executable(tmp_path / "bin/apt-get", "")
        executable(tmp_path / "bin/apt-cache", f'case "$2" in {apt}) ;; *) exit 1;; esac')
    done = make_env(checkout(tmp_path / "book"), path=str(tmp_path / "bin"))
    assert done.returncode == 1
    assert said in done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1


def test_the_newest_python_is_preferred(tmp_path: Path) -> None:
    for name in ("python3", "python3.11", "python3.12", "python3.13"):
        executable(tmp_path / "bin" / name, 'case "$*" in *--clear*) exit 3;; esac')
    done = make_env(checkout(tmp_path / "book"), path=str(tmp_path / "bin"))
    assert (done.returncode, done.stdout.split(" (")[0]) == (3, "Making .venv with python3.13")


def test_an_environment_is_installed_once(tmp_path: Path) -> None:
    book = checkout(tmp_path / "book")
    venv = environment(book / ".venv")
    assert make_env(book).returncode == 0
    first, second = asked(venv)
    assert first.endswith(f"install -r {book}/requirements.lock") and second.endswith(f"install --no-deps -e {book}")
    done = make_env(book)
    assert (done.returncode, done.stdout, done.stderr, asked(venv)) == (0, "", "", [])
    (book / "requirements.lock").write_text("one==2\n")
    assert make_env(book).returncode == 0
    assert len(asked(venv)) == 2


def test_an_environment_that_lacks_a_package_of_the_checkout_is_brought_up_to_date(tmp_path: Path) -> None:
    book = checkout(tmp_path / "book")
    venv = environment(book / ".venv")
    assert make_env(book).returncode == 0 and asked(venv)
    shutil.rmtree(book / "studies")  # as in one that was made before there was that package
    assert make_env(book).returncode == 0
    (only,) = asked(venv)
    assert only.endswith(f"--no-deps -e {book}")


def test_an_environment_of_uv_has_no_pip(tmp_path: Path) -> None:
    book = checkout(tmp_path / "book")
    environment(book / ".venv", pip=False)
    executable(tmp_path / "bin/uv", f'echo "$@" >> {tmp_path}/asked')
    done = make_env(book, path=f"{tmp_path}/bin:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    install = f"pip install --quiet --python {book}/.venv/bin/python"
    asked = [f"{install} -r {book}/requirements.lock", f"{install} --no-deps -e {book}"]
    assert (tmp_path / "asked").read_text().splitlines() == asked


@pytest.mark.parametrize("name", ["new", "new name"])
def test_a_renamed_checkout_works(tmp_path: Path, name: str) -> None:
    """Its library is found again, and its programs start the Python that moved with them; nothing is downloaded."""
    book = checkout(tmp_path / "old")
    venv = environment(book / ".venv")
    assert make_env(book).returncode == 0 and asked(venv)
    for program, head in (
        ("short", f"#!{venv}/bin/python"),
        ("long", f"#!/bin/sh\n'''exec' {venv}/bin/python \"$0\" \"$@\"\n' '''"),
    ):
        executable(venv / "bin" / program, "")
        (venv / "bin" / program).write_text(f"{head}\nimport sys, icl_lib\nprint(sys.prefix, *sys.argv[1:])\n")
    book = book.rename(tmp_path / name)
    venv = book / ".venv"
    done = make_env(book)
    assert done.returncode == 0, done.stderr
    (only,) = asked(venv)
    assert only.endswith(f"--no-deps -e {book}")
    assert library(venv / "bin/python") == book / "icl_lib"
    for program in ("short", "long"):
        said = subprocess.run([venv / "bin" / program, "a b"], capture_output=True, text=True, check=True).stdout
        assert said == f"{venv} a b\n"
    assert str(venv) in (venv / "bin/activate").read_text()
    assert make_env(book).stdout == ""


@pytest.mark.parametrize("linked", [False, True])
def test_another_checkouts_environment_is_used_and_not_changed(tmp_path: Path, linked: bool) -> None:
    theirs, ours = checkout(tmp_path / "theirs"), checkout(tmp_path / "ours")
    venv = environment(theirs / ".venv")
    assert make_env(theirs).returncode == 0 and asked(venv)
    if linked:
        (ours / ".venv").symlink_to(venv)
    given = ".venv" if linked else venv
    done = make_env(ours, given)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Using the environment of {theirs}, with the library of {ours}\n"
    (ours / "requirements.lock").write_text("one==2\n")
    done = make_env(ours, given)
    assert (
        done.returncode == 1
        and "with other packages than requirements.lock: leave VENV out" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
    assert asked(venv) == [] and library(venv / "bin/python") == theirs / "icl_lib"


def test_make_imports_the_library_of_the_folder_it_runs_in(tmp_path: Path) -> None:
    theirs, ours = checkout(tmp_path / "theirs"), checkout(tmp_path / "ours")
    environment(theirs / ".venv")
    assert make_env(theirs).returncode == 0
    shutil.copyfile("Makefile", ours / "Makefile")
    code = "import os; os.chdir('/'); import icl_lib; print(icl_lib.__file__)"
    rule = f'include Makefile\nwhich: env\n\t@$(PY) -c "{code}"\n'
    (ours / "which.mk").write_text(rule)
    command = ["make", "-s", "-f", "which.mk", "which", f"VENV={theirs}/.venv"]
    done = subprocess.run(command, cwd=ours, capture_output=True, text=True, check=True)
    assert done.stdout == f"{ours}/icl_lib/__init__.py\n"


def test_processes_of_the_tests_import_the_library_under_test(tmp_path: Path) -> None:
    code = "import icl_lib; print(icl_lib.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert Path(done.stdout.strip()) == Path("icl_lib/__init__.py").resolve()


def test_icl_of_another_checkout_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    book = checkout(tmp_path / "book")
    monkeypatch.chdir(book)
    assert main(["list"]) == 2
    complaint = capsys.readouterr().err
    assert complaint == (
        f"icl: the library that runs is {Path(paths.__file__).parent}, not that of this checkout: use the environment of {book} (make env there makes it), or set PYTHONPATH={book}\n"
    )


def test_the_number_of_processors_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert workers.processors() == os.cpu_count()


def test_a_clone_has_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    """Also where git would end lines in its own way: the shell would not read tools/env.sh, and digests would differ."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", ".", clone], check=True)
    listed = subprocess.run(["git", "ls-files", "--eol"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert [line for line in listed.splitlines() if "crlf" in line or "mixed" in line] == []
    assert subprocess.run(["/bin/sh", "-n", "tools/env.sh"], cwd=clone).returncode == 0


def test_no_two_files_differ_by_case_alone() -> None:
    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len({name.casefold() for name in names}) == len(names)
