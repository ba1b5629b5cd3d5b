"""The processes of a job: found, told to end, ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk._boot import boot_id

if TYPE_CHECKING:
    import psutil


class ProcessTree:
    """Everything that a job has started, however it detached itself.

    Args:
        shim: Gives the pid of the living shim (orphans of the job become its children), or None.
        run_dir: Marks the job's processes when the shim is gone.
    """

    def __init__(self, shim: Callable[[], int | None], run_dir: str) -> None:
        self._shim = shim
        self._mark = f"PERIFLOW_RUN_DIR={run_dir}".encode()
        self._told: set[tuple[int, float]] = set()

    def terminate(self) -> None:
        """SIGTERM to each process once; call again for those that were born since."""
        for process in self.members():
            identity = (process.pid, process.create_time())
            if identity not in self._told:
                self._told.add(identity)
                _send(process, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to every process."""
        for process in self.members():
            _send(process, signal.SIGKILL)

    def members(self) -> list[psutil.Process]:
        """The job's processes: not the shim, and not bubblewrap, which dies of any signal."""
        import psutil

        shim = self._shim()
        try:
            if shim is None:
                found = [p for p in psutil.process_iter() if self._is_marked(p.pid)]
            else:
                found = psutil.Process(shim).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [process for process in found if not _is_bubblewrap(process)]

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


def is_running(identity: dict[str, float | str]) -> bool:
    """Whether the process of a training.json lives: the same number, start and boot."""
    pid = int(identity["pid"])
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return False
    return (
        fields[0] != "Z"
        and int(fields[19]) == int(identity["start_ticks"])
        and identity["boot_id"] == boot_id()
    )


def _is_bubblewrap(process: psutil.Process) -> bool:
    try:
        return Path(os.readlink(f"/proc/{process.pid}/exe")).name == "bwrap"  # noqa: PTH115
    except OSError:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    import psutil

    try:
        process.send_signal(number)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
