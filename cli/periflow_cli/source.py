"""The folder that a person sends: what of it would go, and what stops it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.errors import PeriFlowError, UnsafePathError, UsageError

if TYPE_CHECKING:
    from periflow_sdk.snapshots.ignore import IgnoreRules
    from periflow_sdk.snapshots.scan import Plan


def plan_source(source: Path, ignore: IgnoreRules | None = None, *, keep_name: bool) -> Plan:
    """What an upload of this folder or file would send.

    Args:
        ignore: What to leave out; None takes everything, .pfignore or not.
        keep_name: Whether the folder's own name is the first part of every path.

    Raises:
        UsageError: something in it cannot be stored, a link that leads out for one.
        NotFoundError: there is no such folder or file.
    """
    from periflow_sdk.snapshots.scan import plan_folder

    try:
        return plan_folder(source, ignore, keep_name=keep_name)
    except PeriFlowError as error:
        if not isinstance(error, UnsafePathError) and error.code != "not_a_file":
            raise
        hint = error.hint if ignore is not None else _way_out(error)
        raise UsageError(error.message, code=error.code, hint=hint, data=error.data) from error


def _way_out(error: PeriFlowError) -> str:
    if error.code == "not_a_file":
        return "Remove it, or replace it by a real file."
    if "target" in error.data:
        return "Replace it by what it leads to, or send a copy without links: cp -rL DIR COPY"
    return "Give it another name."
