"""Folders that downloads arrive in: one download at a time, and what else is there stays."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from periflow_sdk.errors import ConflictError, PeriFlowError

GATHERING = ".pf-download"
"""Where files gather in a folder that was there before. It may be a disk of its own, or the folder
that a shell stands in, so nothing takes its place."""


@contextmanager
def held(folder: Path, target: Path) -> Iterator[None]:
    """Keep other downloads to the target away; the folder is what they hold as well.

    Raises:
        PeriFlowError: another process downloads to it (``download_running``).
    """
    guard = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PeriFlowError(
                f"Another process is downloading to {target} just now.",
                code="download_running",
                hint="Wait for it or choose another target.",
            ) from error
        yield
    finally:
        os.close(guard)


def refuse_taken(target: Path, paths: Iterable[str], *, force: bool) -> None:
    """Refuse a target that is no folder, or that has files which would be replaced.

    Args:
        paths: What will arrive; asked for only if the target has something in it.
        force: Files may be replaced.

    Raises:
        PeriFlowError: it is not a folder.
        ConflictError: files are there already, and force was not given.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise PeriFlowError(f"{target} is not a folder.", code="target_not_a_folder")
    if force or not any(target.iterdir()):
        return
    taken = [path for path in paths if os.path.lexists(target / path)]
    if taken:
        raise ConflictError(
            f"{target} has {taken[0]} already"
            f"{f' and {len(taken) - 1:,} more' if len(taken) > 1 else ''}.",
            code="target_exists",
            hint="Choose another folder with -d DIR, or replace them with --force.",
        )


def move_in(source: Path, target: Path) -> None:
    """Move all that is in a folder into another one; links are moved as they are."""
    for folder, names, files in os.walk(source):
        goal = target / Path(folder).relative_to(source)
        goal.mkdir(parents=True, exist_ok=True)
        links = [name for name in names if (Path(folder) / name).is_symlink()]
        for name in (*files, *links):
            (Path(folder) / name).replace(goal / name)
    shutil.rmtree(source)
