#!/usr/bin/env bash
# Makes .venv and installs the three packages into it, editable.
# A torch that the given Python already has is used as it is; else the one of constraints.txt is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "PeriFlow needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Try: make PYTHON=python3.12" >&2
    exit 1
fi

constraints=constraints.txt
options=()
if torch=$("$python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null); then
    echo "Using torch $torch, which $python already has."
    options+=(--system-site-packages)
    mkdir -p .venv
    constraints=.venv/constraints.txt
    echo "torch==$torch" >"$constraints"
elif [ ! -d .venv/lib ]; then
    echo "No torch found: installing $(cat constraints.txt). This is a large download (0.2 to 3 GB, by platform)."
fi

"$python" -m venv "${options[@]}" .venv
echo "Installing into .venv ..."
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c "$constraints" \
    -e '.[dev]' -e ./cli -e ./server
touch .venv/.installed
