#!/usr/bin/env bash
# Runs the integrations' tests on an older minor version of each framework, beside the newest in .venv.
# Arguments go to pytest. Each set has a folder of its own in the cache; torch and everything else come from .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/periflow-test-matrix
options=("$@")
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

run() {
    local name=$1
    shift
    local venv=$cache/$name
    echo "== $name: $*"
    [ -x "$venv/bin/python" ] || .venv/bin/python -m venv "$venv"
    # Ours after its own: what is installed there hides what .venv has.
    "$venv/bin/python" - "$site" <<'PYTHON'
import sys, sysconfig
from pathlib import Path
line = f"import site; site.addsitedir({sys.argv[1]!r})\n"
Path(sysconfig.get_path("purelib"), "zz-newest.pth").write_text(line)
PYTHON
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@"
    "$venv/bin/python" -m pytest -q -m '' tests/integrations "${options[@]}"
}

run older 'lightning==2.5.*' 'pytorch-lightning==2.5.*' 'transformers==4.57.*' \
    'huggingface-hub==0.36.*' 'tokenizers==0.22.*' 'datasets==4.4.*' 'accelerate==1.12.*'
.venv/bin/python -m pytest -q -m '' tests/integrations "${options[@]}"
