"""Where the code of a run stands in git: commit, branch, and how much is not committed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from periflow_sdk.api.models import GitState

_SECONDS = 10.0
_LARGEST_DIFF = 1 << 30
# A repository may name programs to run; none of them is run for a look.
_SAFELY = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")


def git_state(folder: Path) -> GitState | None:
    """The state of the repository that a folder is in; None without one, or without git.

    ``diff_bytes`` counts what is changed below the folder; files that git does not know make it
    dirty and are not counted.
    """
    if shutil.which("git") is None:
        return None
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    branch = _git(folder, "symbolic-ref", "--short", "--quiet", "HEAD")
    diff = _git(folder, "diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", ".")
    status = _git(folder, "status", "--porcelain", "--ignore-submodules", "--", ".")
    return GitState(
        commit=commit.decode().strip(),
        branch=(branch or b"").decode("utf-8", "replace").strip() or None,
        dirty=bool(status or diff),
        diff_bytes=min(len(diff or b""), _LARGEST_DIFF),
    )


def _git(folder: Path, *arguments: str) -> bytes | None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *_SAFELY, "-C", str(folder), *arguments],
            env={**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
