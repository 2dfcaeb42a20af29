#!/bin/sh
# Makes or updates the virtual environment given as $1. Complains in one line that names the remedy.
set -e
check='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
python=; no_venv=
for name in python3.11 python3.12 python3; do
    "$name" -c "$check" 2>/dev/null || continue
    if "$name" -c 'import venv, ensurepip' 2>/dev/null; then python=$name; break; fi
    no_venv=${no_venv:-$name}
done
if [ -x "$1/bin/python" ] && "$1/bin/python" -c "$check"; then
    echo "Updating $1 to requirements.lock"
elif [ -n "$python" ]; then
    echo "Making $1 with $python (a few minutes; the download is large, see README.md)"
    "$python" -m venv --clear "$1"
elif [ -n "$no_venv" ]; then
    echo "$no_venv lacks the venv module: install it (Debian, Ubuntu: apt-get install $no_venv-venv) and try again" >&2
    exit 1
else
    echo "Python 3.11 or 3.12 is needed and was not found: install one (e.g. apt-get install python3.11 python3.11-venv)" >&2
    exit 1
fi
pip() { "$venv/bin/python" -m pip -qq --disable-pip-version-check "$@"; }
venv=$1
pip install -r requirements.lock
pip install --no-deps -e .
# Written last: an interrupted installation is taken up again.
cp requirements.lock "$venv/requirements.lock"
