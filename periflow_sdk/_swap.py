"""A folder put in the place of another, so that its name never shows half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def swap_folder(new: Path, target: Path) -> None:
    """Give a folder its final name, and remove what had the name before.

    Raises:
        OSError: The folder cannot be renamed.
    """
    if not os.path.lexists(target):
        new.rename(target)
        return
    old = new
    if not _exchange(new, target):
        old = target.with_name(f".tmp-old-{target.name}")
        _remove(old)
        target.rename(old)
        new.rename(target)
    _remove(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in one step, where the system can."""
    import ctypes

    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
