"""How a node's work ends: the report, and what is removed after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.state import State
from periflow_sdk.agent.training import Exit
from periflow_sdk.api.models import AgentFinish

_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024
_LINE_CHARACTERS = 2000
_BIG_FOLDERS = ("overlay", "data", "input", "root", "trial", "run")


def finish_report(folder: NodeFolder, state: State, end: Exit | None) -> AgentFinish:
    """What the control plane is told.

    Args:
        end: How the command ended; None when it never ran.
    """
    outcome: Literal["exited", "stopped", "error", "lost"] = "exited"
    reason = None
    if state.stop_reason is not None:
        outcome, reason = "stopped", state.stop_reason or None
    elif end is None or (end.error and not end.lost):
        outcome = "error"
        reason = state.failure or (end.error if end else None)
    elif end.lost:
        outcome, reason = "lost", end.error
    return AgentFinish(
        outcome=outcome,
        exit_code=end.exit_code if end and outcome != "error" else None,
        reason=reason,
        log_tail=_log_tail(folder.output),
    )


def clean_up(folder: NodeFolder) -> None:
    """Remove what is big and of no use any more; logs and the job's own folders stay."""
    for name in _BIG_FOLDERS:
        shutil.rmtree(folder / name, onerror=_open_and_retry)
    shutil.rmtree(folder.checkpoint / ".periflow", ignore_errors=True)
    for name in ("plan.json", "trial.json"):
        (folder / name).unlink(missing_ok=True)


def _open_and_retry(function: Callable[..., Any], path: str, _: object) -> None:
    """The work folder of an overlay is closed even to its owner."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
            Path(path).chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        pass


def _log_tail(output: Path) -> list[str]:
    try:
        with output.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line[-_LINE_CHARACTERS:] for line in text.splitlines()[-_TAIL_LINES:]]
