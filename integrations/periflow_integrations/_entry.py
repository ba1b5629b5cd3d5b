"""A checkpoint as one entry of the checkpoint folder, which ``latest_checkpoint()`` can name."""

from __future__ import annotations

import shutil
from pathlib import Path

from periflow_sdk._staging import files_in, normalized
from periflow_sdk.environment import job_environment

_linked: set[Path] = set()


def at_top(path: Path) -> Path:
    """Where to upload a checkpoint from, so that a later attempt finds it by its own name.

    One that lies deeper in the checkpoint folder would come back below the folders it was in. It
    gets hard links at the top, which replace those of the one before.

    Args:
        path: A file or a folder.
    """
    job = job_environment()
    path = normalized(path)
    folder = normalized(job.checkpoint_dir) if job is not None and job.checkpoint_dir else None
    if folder is None or folder not in path.parents or path.parent == folder:
        return path
    top = folder / path.name
    if top.exists() and top not in _linked:
        return path
    try:
        for old in [*_linked]:
            _remove(old)
        _linked.add(top)
        for file in files_in(path) if path.is_dir() else [path]:
            link = top / file.relative_to(path)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(file)
    except OSError:  # a file system without links
        _remove(top)
        return path
    return top


def _remove(top: Path) -> None:
    if top.is_dir():
        shutil.rmtree(top, ignore_errors=True)
    else:
        top.unlink(missing_ok=True)
    _linked.discard(top)
