"""What was restored, written down for the ranks, so that they can tell whether it is whole."""

from __future__ import annotations

from pathlib import Path

from periflow_sdk._resume import RESTORED_NOTE, marks_of
from periflow_sdk._staging import files_in
from periflow_sdk.agent.folder import write_json


def note_restored(checkpoint: Path, run_dir: Path) -> None:
    """Note size and time of every restored file; their content was verified as it arrived.

    Args:
        checkpoint: The checkpoint folder.
    """
    marks = marks_of(files_in(checkpoint))
    files = {file.relative_to(checkpoint).as_posix(): list(mark) for file, mark in marks.items()}
    write_json(run_dir / RESTORED_NOTE, {"files": files})
