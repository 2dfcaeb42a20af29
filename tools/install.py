"""Bring the environment that runs this to `requirements.lock` and to this checkout: `python -I tools/install.py`, see `tools/env.sh`."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
VENV = Path(sys.prefix).resolve()
PACKAGES = ("icl_lib", "book", "studies")
LOCK, INSTALLED = HERE / "requirements.lock", VENV / "requirements.lock"
# How a program of an environment begins: with the path of its Python, which a shell has to find if it is long or has spaces.
HEAD = re.compile(rb"\A#!(/bin/sh\n'''exec' .*\n' '''|/.*python[\d.]*)\n")


def served() -> Path | None:
    """The checkout whose library this environment imports, if it imports any."""
    found = importlib.util.find_spec(PACKAGES[0])
    return Path(found.origin).resolve().parents[1] if found and found.origin else None


def run(*command: object) -> None:
    """Run a command, which says itself what is wrong; ends with its status then."""
    status = subprocess.run([str(part) for part in command]).returncode
    if status:
        sys.exit(status)


def installer() -> list[str]:
    """pip; uv for an environment that was made by it and has no pip."""
    if importlib.util.find_spec("pip") is None:
        uv = shutil.which("uv")
        if uv:
            return [uv, "pip", "install", "--quiet", "--python", sys.executable]
        if importlib.util.find_spec("ensurepip") is None:
            sys.exit(f"{VENV} has no pip, and uv was not found: remove it, and make env makes it again")
        run(sys.executable, "-I", "-m", "ensurepip", "--default-pip")
    return [sys.executable, "-I", "-m", "pip", "-qq", "--disable-pip-version-check", "install"]


def repoint() -> None:
    """After a move: every program of the environment starts the Python that lies beside it, and `activate` names this folder."""
    head = b"#!/bin/sh\n'''exec' \"" + str(VENV / "bin/python").encode() + b'" "$0" "$@"\n\' \'\'\'\n'
    for program in (VENV / "bin").iterdir():
        if program.is_file() and not program.is_symlink():
            content = program.read_bytes()
            if HEAD.match(content):
                program.write_bytes(HEAD.sub(lambda _: head, content))
    run(sys.executable, "-I", "-m", "venv", "--without-pip", VENV)


def main() -> None:
    current = INSTALLED.is_file() and INSTALLED.read_bytes() == LOCK.read_bytes()
    checkout = served()
    if checkout == HERE and current and all(map(importlib.util.find_spec, PACKAGES)):
        return
    if checkout not in (None, HERE) and not VENV.is_relative_to(HERE):
        # It is used as it is: what this checkout's programs start finds this checkout's library first (PYTHONPATH).
        if not current:
            remedy = "leave VENV out, or remove the link, and make env makes one of this checkout"
            sys.exit(f"{VENV} is the environment of {checkout}, with other packages than requirements.lock: {remedy}")
        print(f"Using the environment of {checkout}, with the library of {HERE}", file=sys.stderr)
        return
    print(f"Updating {VENV} to {'this checkout' if current else 'requirements.lock'}", flush=True)
    install = installer()
    if checkout != HERE and INSTALLED.is_file():
        repoint()
    if not current:
        INSTALLED.unlink(missing_ok=True)  # until it is whole again
        run(*install, "-r", LOCK)
    run(*install, "--no-deps", "-e", HERE)
    # Written last: an interrupted installation is taken up again.
    shutil.copyfile(LOCK, INSTALLED)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
