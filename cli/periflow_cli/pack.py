"""Shards that lie on this machine until they are sent."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.errors import PeriFlowError

if TYPE_CHECKING:
    from periflow_sdk.snapshots.scan import Plan


@contextlib.contextmanager
def packed(plan: Plan) -> Iterator[Path]:
    """The files of a plan as shards, in a folder that goes at the end.

    It lies in PERIFLOW_CACHE_DIR, and needs as much room as the files.

    Raises:
        PeriFlowError: the disk is full (``disk_full``), or a file changed (``file_changed``).
    """
    from periflow_cli.transfer import Bar
    from periflow_sdk.data.packing import pack_files
    from periflow_sdk.environment import cache_environment

    base = cache_environment().folder / "packs"
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_abandoned(base)
    with tempfile.TemporaryDirectory(dir=base) as name, _locked(Path(name)):
        folder = Path(name) / "shards"
        try:
            with Bar("Packing", plan.size) as bar:
                pack_files(plan.files, folder, progress=bar.advance)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PeriFlowError(
                f"The disk of {base} is full.",
                code="disk_full",
                hint="Shards need as much room as the files until they are sent: set "
                "PERIFLOW_CACHE_DIR to a folder on a larger disk.",
            ) from error
        yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Others see that it is in use, however this process ends."""
    import fcntl

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_abandoned(base: Path) -> None:
    """What a killed upload has left."""
    import fcntl

    for folder in base.iterdir():
        with contextlib.suppress(OSError), (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
