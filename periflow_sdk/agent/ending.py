"""How a node's work ends: the report, and what is removed after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.kept import remove_unkept
from periflow_sdk.agent.progress import RankProgress, finished_early
from periflow_sdk.agent.state import State
from periflow_sdk.agent.training import Exit
from periflow_sdk.api.models import AgentFinish

EXIT_PREEMPTED = 75
"""EX_TEMPFAIL: a command without the SDK that wants to be run again."""
Outcome = Literal["exited", "stopped", "error", "lost", "preempted"]
_TAIL_LINES = 20
_TAIL_BYTES = 64 * 1024
_LINE_CHARACTERS = 2000
_BIG_FOLDERS = ("overlay", "data", "data-copy", "input", "root", "trial", "run")


def finish_report(
    folder: NodeFolder, state: State, end: Exit | None, progress: Mapping[int, RankProgress]
) -> AgentFinish:
    """What the control plane is told.

    Args:
        end: How the command ended; None when it never ran.
        progress: The last words of the ranks.
    """
    outcome, reason = _outcome(state, end, progress)
    return AgentFinish(
        outcome=outcome,
        exit_code=end.exit_code if end and outcome != "error" else None,
        reason=reason,
        log_tail=_log_tail(folder.output),
        finished_early=outcome == "exited" and finished_early(progress.values()),
    )


def _outcome(
    state: State, end: Exit | None, progress: Mapping[int, RankProgress]
) -> tuple[Outcome, str | None]:
    """The outcome and its reason: what the ranks acknowledged counts, then how the command ended.

    An exit with 75 is what a command asks for by itself; any other exit without an acknowledged
    stop is its own, unless the agent has ended it for the notice.
    """
    if state.notice == "stop":
        return "stopped", None
    if end is not None and end.lost:
        return "lost", end.error
    if state.notice == "preempt" and end is None and state.failure is None:
        return "preempted", "the node was taken before the command ran"
    if end is None or (end.error and not state.terminated_at):
        return "error", state.failure or (end.error if end else None)
    if end.exit_code == EXIT_PREEMPTED:
        return "preempted", f"the command exited with code {EXIT_PREEMPTED}"
    if state.notice == "preempt" and (reason := _preemption(state, end, progress)):
        return "preempted", reason
    return "exited", None


def _preemption(state: State, end: Exit, progress: Mapping[int, RankProgress]) -> str | None:
    """How the notice ended the command; None where it ended otherwise."""
    ranks = progress.values()
    committed = state.round is not None and state.round["phase"] == "committed"
    step = state.round["step"] if state.round is not None and committed else 0
    has_stopped = any(rank.has_left_at(step) for rank in ranks) and all(
        rank.saw_stop or rank.is_done for rank in ranks
    )
    if has_stopped and committed:
        # Whatever the exit code: libraries abort, and launchers complain, after a good save.
        then = f", and exited with code {end.exit_code}" if end.exit_code else ""
        early = [number for number, rank in progress.items() if not rank.was_at(step)]
        if early:
            return f"the node was taken; rank {early[0]} left before the save at step {step}{then}"
        return f"the node was taken; every rank stopped at step {step}{then}"
    if has_stopped and end.exit_code == 0:
        why = (state.round or {}).get("reason") or "no round was opened"
        return f"the node was taken; the ranks stopped without a save: {why}"
    if state.round and not all(rank.saw_stop or rank.is_done for rank in ranks):
        why = state.round.get("reason") or state.ending or "a rank died before it had saved"
        return f"the node was taken; there is no emergency save: {why}"
    is_complete = any(0 < rank.total <= rank.finished for rank in ranks)
    if not state.terminated_at or (end.exit_code == 0 and is_complete):
        return None
    if state.round is None and not state.ending:
        return "the node was taken and the command was ended"
    if committed:
        return f"the node was taken after step {step}: {state.ending}"
    return f"the node was taken; there is no emergency save: {state.ending}"


def clean_up(folder: NodeFolder, *, is_whole: bool = True) -> None:
    """Remove what is big and of no use any more; logs and the job's own folders stay.

    Args:
        is_whole: Everything was sent; else records and staged checkpoints stay for `pf job sync`.
    """
    for name in _BIG_FOLDERS:
        if is_whole or name != "run":
            shutil.rmtree(folder / name, onerror=_open_and_retry)
    if is_whole:
        remove_unkept(folder)
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
