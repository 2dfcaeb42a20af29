#!/bin/sh
# Makes the virtual environment given as $1 where there is none, and brings it up to date. Complains in one line that names the remedy.
set -e
# 0 for a Python that suits. Isolated, as all that follows: what lies in this folder or in PYTHONPATH is not what is asked about.
suits() { "$1" -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

# What gives this system a Python that suits, in words; the package manager is asked what it has.
remedy() {
    if command -v apt-get >/dev/null; then
        for minor in 14 13 12 11; do
            if apt-cache show "python3.$minor-venv" >/dev/null 2>&1; then
                echo "apt-get install python3.$minor-venv"
                return
            fi
        done
        if ! apt-cache show python3-venv >/dev/null 2>&1; then # it has no lists yet
            echo "apt-get update, and try again"
            return
        fi
    elif command -v dnf >/dev/null; then
        echo "dnf install python3.12"
        return
    elif command -v brew >/dev/null; then
        echo "brew install python@3.13"
        return
    fi
    echo "uv (https://docs.astral.sh/uv) brings its own: uv venv --python 3.13 $1"
}

if ! suits "$1/bin/python"; then
    # What is not ours stays: an environment elsewhere, or a folder that is none.
    if [ -L "$1" ] || { [ -d "$1" ] && [ -n "$(ls -A "$1")" ] && [ ! -f "$1/pyvenv.cfg" ]; }; then
        echo "$1 is a link or a folder with something else in it, and has no Python that suits: remove it, or name another with VENV=" >&2
        exit 1
    fi
    python=
    no_venv=
    for name in python3.14 python3.13 python3.12 python3.11 python3; do
        suits "$name" || continue
        if "$name" -I -c 'import venv, ensurepip' 2>/dev/null; then
            python=$name
            break
        fi
        no_venv=${no_venv:-$name}
    done
    if [ -n "$python" ]; then
        echo "Making $1 with $python (a few minutes; the download is large, see README.md)"
        "$python" -I -m venv --clear "$1"
    elif [ -n "$no_venv" ]; then
        if suits python3; then no_venv=python3; fi
        echo "$no_venv lacks the venv module: install it (Debian, Ubuntu: apt-get install $no_venv-venv) and try again" >&2
        exit 1
    else
        echo "Python 3.11, 3.12, 3.13 or 3.14 is needed and was not found: $(remedy "$1")" >&2
        exit 1
    fi
fi
exec "$1/bin/python" -I tools/install.py
