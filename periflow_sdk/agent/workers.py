"""The worker as its supervisor sees it: a process that is started again when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from periflow_sdk.agent.folder import NodeFolder, read_json

_PAUSE_SECONDS = 1.0


class WorkerProcess:
    """Starts the worker and keeps it alive until it says that all is settled."""

    def __init__(self, folder: NodeFolder) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._is_urgent = False

    def hasten(self) -> None:
        """From now on it works at normal priority: a process cannot take its niceness back."""
        if self._is_urgent:
            return
        self._is_urgent = True
        self.kill()
        self._process, self._not_before = None, 0.0

    def tend(self) -> None:
        """Start the worker if none runs. Call from one thread: the worker ends with it."""
        if self._process is not None and self._process.poll() is None:
            return
        if self.is_complete() or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + _PAUSE_SECONDS
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "periflow_sdk.agent",
                str(self._folder.path),
                "--worker",
                str(os.getpid()),
                *(["--urgent"] if self._is_urgent else []),
            ],
            stdin=subprocess.DEVNULL,
            cwd="/",
        )

    def is_complete(self) -> bool:
        """Whether every checkpoint is settled and none can come."""
        return bool((read_json(self._folder / "worker.json") or {}).get("complete"))

    def kill(self) -> None:
        """End it: it may commit nothing more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
