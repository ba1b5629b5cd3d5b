"""The job file that `pf job template create` writes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_TEXT = """\
# A job for {script}. Run it with:
#   {line}
name: {name}

# `pf vm list` shows the VM types. A device of local-cpu is one core of this machine.
vm: local-cpu
num_devices: 1

job_setting:
  type: custom
  docker:
    # Jobs on this machine run with the Python of your shell; other executors use the image.
    image: python:3.11
    command:
      # Each runs like a shell script, of one line or many (run: |). Begin it with `set -e` to
      # stop at the first line that fails.
      # Runs before, and may install: pip install -r requirements.txt
      # setup: {change_folder} && pip install -r requirements.txt
      # For several processes: torchrun --nproc_per_node $NPROC_PER_NODE {script} ...
      run: {run}
  workspace:
    # Your folder appears as {mounted}.
    mount_path: /workspace

# A dataset of `pf dataset upload`, by its name:
# data:
#   name: my-dataset
#   mount_path: /data

# Where pf.save_checkpoint() saves in the job, and where pf.latest_checkpoint() looks after a
# restart. Other files here (CKPT_DIR in the script) are kept once it calls pf.upload_checkpoint().
checkpoint:
  output_checkpoint_dir: /checkpoint

# Every checkpoint is kept. To have old ones removed by themselves, all but what a rule keeps:
# retention:
#   keep_last: 5
#   keep_every: 1000  # steps
#   keep_best: {{metric: val_loss, mode: min, count: 3}}

# Metrics go to PeriFlow by themselves. To have them elsewhere as well:
# plugin:
#   tensorboard: true
#   wandb:
#     credential: my-wandb  # of `pf credential create wandb -n my-wandb`

# More variables for the script:
# env:
#   MY_OPTION: value
"""


def job_file(script: Path, line: str) -> str:
    """A commented job file.

    Args:
        script: The absolute path of the script; its folder is the workspace.
        line: The command that runs it, for the comment on top.
    """
    folder = script.parent.name
    change_folder = f'cd "$PERIFLOW_WORKSPACE_DIR"/{shlex.quote(folder)}'
    program = "bash" if script.suffix == ".sh" else "python"
    return _TEXT.format(
        script=script.name,
        line=line,
        name=_job_name(script.stem),
        change_folder=change_folder,
        run=_quoted(f"{change_folder} && {program} {shlex.quote(script.name)}"),
        mounted=f"/workspace/{folder}",
    )


def _job_name(stem: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")
    # In quotes, a name such as 2024 or true stays text.
    return (
        name if re.match(r"[A-Za-z]", name) and name.lower() not in _WORDS else f'"{name or "job"}"'
    )


_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _quoted(text: str) -> str:
    """A YAML scalar in single quotes."""
    return "'" + text.replace("'", "''") + "'"
