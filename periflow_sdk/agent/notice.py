"""The one line that an agent beside a script says on the script's stderr."""

from __future__ import annotations

import os
import threading
from pathlib import Path


class Notice:
    """Says one line, then lets go of the terminal: whoever waits for its end must not wait for us.

    Args:
        descriptor: Where to; None says nothing.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    @classmethod
    def take_over(cls, log: Path) -> Notice:
        """Keep this process's stderr for the line, and send everything else to a log."""
        try:
            descriptor: int | None = os.dup(2)
        except OSError:
            descriptor = None
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(file, 2)
        os.dup2(file, 1)
        os.close(file)
        return cls(descriptor)

    def say(self, line: str) -> None:
        """Say it, if nothing was said before."""
        with self._lock:
            if self._descriptor is not None:
                try:
                    os.write(self._descriptor, f"PeriFlow: {line}\n".encode())
                except OSError:
                    pass
        self.close()

    def close(self) -> None:
        """Say nothing any more."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
