"""Whether an emergency checkpoint lacks a part because a rank left before its step.

An emergency checkpoint is recorded only where its step was committed, so every rank had promised
to come there. Whether each of them saves is up to the script: rank 0 alone may. A rank without a
part is therefore missed only if it was not there to give one.
"""

from __future__ import annotations

from periflow_sdk.agent.progress import RankProgress


def absence(
    rank: int, words: RankProgress, step: int, *, ended: bool, ended_well: bool
) -> str | None:
    """Why a rank that has given no part was not there to give it; None if it was, or may come.

    Args:
        words: Its last words, read before its journal was.
        step: The step of the emergency checkpoint.
        ended: The training has ended.
        ended_well: It ended with exit code 0.
    """
    if not (ended or words.is_done):
        return None
    if not words.was_at(step):
        return f"rank {rank} left at step {words.finished}, before the emergency step {step}"
    if words.is_done:
        return None
    if not ended_well or (words.was_told_to_save_at(step) and not words.saw_stop):
        return f"rank {rank} ended before it had saved at step {step}"
    return None
