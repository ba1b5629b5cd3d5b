"""The training as the agent sees it: started through the shim, or found again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from periflow_sdk._boot import boot_id
from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock, write_json
from periflow_sdk.agent.processes import ProcessTree, is_running
from periflow_sdk.data.pin import open_shared

if TYPE_CHECKING:
    import psutil

_SHIM = Path(__file__).with_name("shim.py")


@dataclass(frozen=True)
class Exit:
    """How the command ended. ``error`` says why it never ran or how its end was lost."""

    exit_code: int | None
    signal: int | None = None
    error: str | None = None
    lost: bool = False


class Training:
    """The command of a node, by the files that the shim leaves.

    The shim inherits a locked file from the agent that starts it, so that its lock says from the
    first moment on whether it lives: nothing is ever started twice.
    """

    def __init__(self, folder: NodeFolder, run_dir: str) -> None:
        self._folder = folder
        self._shim: subprocess.Popen[bytes] | None = None
        self._tree = ProcessTree(self._shim_pid, run_dir)

    def was_started(self) -> bool:
        """Whether a command runs, has run or is about to."""
        return any((self._folder / name).exists() for name in ("exit.json", "training.json")) or (
            self._shim_lives()
        )

    def start(
        self, plan: Mapping[str, Any], environment: Mapping[str, str], held: Iterable[Path] = ()
    ) -> None:
        """Start the shim on a plan (see shim.py). Call only when nothing was started.

        Args:
            held: Units of the cache that must stay for as long as the shim lives.
        """
        lock = try_lock(self._folder / "shim.lock")
        if lock is None:
            return
        locks = [lock, *(each for path in held if (each := open_shared(path)) is not None)]
        try:
            document = {**plan, "locks": locks, "folder": str(self._folder.path)}
            write_json(self._folder / "plan.json", document)
            self._shim = subprocess.Popen(
                [*shim_command(), str(self._folder / "plan.json")],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=locks,
                cwd="/",
            )
        finally:
            for each in locks:
                os.close(each)

    def identity(self) -> dict[str, Any] | None:
        """training.json, once the command runs."""
        return read_json(self._folder / "training.json")

    def poll(self) -> Exit | None:
        """The end of the command, or None while it runs."""
        if self._shim is not None:
            self._shim.poll()
        alive = self._shim_lives()
        # Read after the lock: a shim writes its last file before it lets go.
        record = read_json(self._folder / "exit.json")
        if record is not None:
            return _exit(record)
        if alive:
            return None
        identity = self.identity()
        if identity and is_running(identity):
            return None
        if identity and identity["boot_id"] != boot_id():
            return Exit(None, error="the node was restarted", lost=True)
        return Exit(None, error="the command was killed from outside; how it ended is not known")

    def wait(self, seconds: float) -> bool:
        """Wait for training.json or the end; False if neither came in time."""
        deadline = time.monotonic() + seconds
        while self.identity() is None:
            if self.poll() is not None:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def terminate(self) -> None:
        """SIGTERM to every process of the command, each once."""
        (self._folder / "stopping").touch()
        self._tree.terminate()

    def kill(self) -> None:
        """SIGKILL to every process of the command."""
        self._tree.kill()

    def processes(self) -> list[psutil.Process]:
        """Every process of the command."""
        return self._tree.members()

    def _shim_pid(self) -> int | None:
        if not self._shim_lives():
            return None
        if identity := self.identity():
            return int(identity["shim_pid"])
        return self._shim.pid if self._shim else None

    def _shim_lives(self) -> bool:
        lock = try_lock(self._folder / "shim.lock")
        if lock is None:
            return True
        os.close(lock)
        return False


def _exit(record: Mapping[str, Any]) -> Exit:
    fault = record.get("error")
    error = f"the command could not be started: {fault}" if fault else None
    return Exit(record.get("exit_code"), record.get("signal"), error)


def shim_command() -> list[str]:
    """The shim's interpreter, without site packages: it starts in ten milliseconds."""
    return [sys.executable, "-I", "-S", str(_SHIM)]
