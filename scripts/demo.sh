#!/usr/bin/env bash
# The whole story on real data, in a private home: from signing up to a checkpoint that is loaded again.
set -euo pipefail
cd "$(dirname "$0")/.."

demo=$PWD/.demo
export PERIFLOW_HOME=$demo/home
unset PERIFLOW_URL PERIFLOW_API_KEY PERIFLOW_ORG PERIFLOW_PROJECT
export PATH=$PWD/.venv/bin:$PATH

stop_server() { pf --quiet server stop >/dev/null 2>&1 || true; }
[ -d "$PERIFLOW_HOME" ] && stop_server
rm -rf "$demo"
mkdir -p "$demo"
trap stop_server EXIT

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' dim='' plain=''
say() { printf '\n%s# %s%s\n' "$dim" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }
run() {
    show "$@"
    "$@"
}

say "Everything below is kept in .demo/, apart from any PeriFlow of your own."
show "export PERIFLOW_HOME=.demo/home"

say "Sign up. The first command starts the control plane on this machine; its mail goes to a folder."
show "pf signup --username ada --name 'Ada Lovelace' --email ada@example.com --password-stdin"
head -c 18 /dev/urandom | base64 | pf signup --username ada --name 'Ada Lovelace' \
    --email ada@example.com --password-stdin
run pf org create analytical
run pf project create engines

say "Upload a dataset: 1,797 real handwritten digits that come inside scikit-learn."
run python examples/digits/get_data.py .demo/digits
run pf dataset upload -n digits -p .demo/digits/
run pf dataset view digits

say "Train a small CNN as a job, and follow it."
run pf job run -f examples/digits/pf-template.yml -d examples/digits
run pf job log -f latest

say "What became of it: progress, attempts, checkpoints."
run pf job view latest
run pf job metrics plot latest

say "Take the newest checkpoint home and use it."
run pf checkpoint download latest -d .demo/checkpoint
run python examples/digits/evaluate.py .demo/checkpoint/checkpoint.pt --data .demo/digits

say "Stop the server. Jobs, data and checkpoints stay; the next pf command starts it again."
run pf server stop

cat <<END

Next, your own script (train.py stands for it):

  .venv/bin/pf signup
  .venv/bin/pf org create my-org && .venv/bin/pf project create my-project
  .venv/bin/pf job template create --script train.py
  .venv/bin/pf job run -f pf-template.yml -d .
END
