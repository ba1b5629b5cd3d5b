"""A sink's process as the supervisor sees it: it outlives a supervisor, and is found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from periflow_sdk.agent.folder import NodeFolder, try_lock
from periflow_sdk.agent.sinks.memory import SinkMemory, memory_path, sink_folder

_MOST_STARTS = 5
_START_SECONDS = 10.0


class SinkProcess:
    """One sink.

    Args:
        access: What it is told on its standard input: never in its arguments or environment, which
            every process of the user can read.
    """

    def __init__(self, folder: NodeFolder, name: str, access: dict[str, Any] | None) -> None:
        self.name = name
        self.access = access
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._memory = SinkMemory.read(folder, name)
        self._read_at = 0
        self._starts = 0
        self._not_before = 0.0

    @property
    def memory(self) -> SinkMemory:
        """What it last wrote."""
        try:
            written_at = memory_path(self._folder, self.name).stat().st_mtime_ns
        except FileNotFoundError:
            return self._memory
        if written_at != self._read_at:
            self._memory, self._read_at = SinkMemory.read(self._folder, self.name), written_at
        return self._memory

    def start(self) -> None:
        """Start it, in a session of its own."""
        sink_folder(self._folder).mkdir(mode=0o700, exist_ok=True)
        self._not_before = time.monotonic() + 2.0**self._starts
        self._starts += 1
        self._child = subprocess.Popen(
            [sys.executable, "-m", "periflow_sdk.agent.sinks", self.name, str(self._folder.path)],
            stdin=subprocess.PIPE,
            cwd="/",
            env={name: text for name, text in os.environ.items() if not name.startswith("WANDB_")},
            start_new_session=True,
        )
        assert self._child.stdin is not None
        try:
            with self._child.stdin as pipe:
                pipe.write(json.dumps(self.access).encode())
        except BrokenPipeError:
            pass  # it has ended at once: its start is tried again

    def is_running(self) -> bool:
        """Whether it lives, whoever has started it."""
        if self._child is not None:
            return self._child.poll() is None
        return self._holder() is not None

    def may_start_again(self) -> bool | None:
        """Whether one that has died is to be started again: None for not yet, False for never."""
        if self._starts >= _MOST_STARTS:
            return False
        return True if time.monotonic() >= self._not_before else None

    def kill(self) -> None:
        """End it and what it has started."""
        import psutil

        pid = self._child.pid if self._child is not None else self._holder()
        if pid is None or not self.is_running():
            return
        try:
            process = psutil.Process(pid)
            for each in [process, *process.children(recursive=True)]:
                each.kill()
        except psutil.NoSuchProcess:
            pass
        if self._child is not None:
            self._child.wait()
        else:
            _wait_for_end(pid)

    def _holder(self) -> int | None:
        """The pid that holds the lock."""
        path = sink_folder(self._folder) / f"{self.name}.lock"
        if not path.exists():
            return None
        lock = try_lock(path)
        if lock is None:
            return int(path.read_text() or "0") or None
        os.close(lock)
        return None


def _wait_for_end(pid: int) -> None:
    import psutil

    try:
        psutil.Process(pid).wait(_START_SECONDS)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        pass
