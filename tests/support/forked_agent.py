"""Node agents that are forked, too: what a server would start as a command, its nursery forks.

An agent imports as much as a server does, and a job has at least one; so do the agent's workers.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOM = "-" * 1024
"""An argument of the nursery, for the names of what it becomes."""


def import_agent() -> None:
    """Import what an agent does, here as well without the command line of httpx."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    import periflow_sdk.agent.__main__
    import periflow_sdk.agent.supervisor
    import periflow_sdk.api.client
    import periflow_sdk.snapshots  # noqa: F401


def become_agent(words: Sequence[str]) -> int:
    """Be one; its exit code."""
    from periflow_sdk.agent.__main__ import main

    if "--worker" not in words:
        _have_workers_forked()
    call_yourself([sys.executable, "-m", "periflow_sdk.agent", *words])
    return main(list(words))


def have_agents_forked(line: socket.socket) -> None:
    """From now on this server asks its nursery for agents; all else that it starts is real.

    Args:
        line: To the nursery, which takes requests as it does from tests.
    """
    import json

    from periflow_server.executors import local

    def start(command: Sequence[str], **options: Any) -> Any:
        if tuple(command[: len(local.AGENT)]) != local.AGENT:
            return subprocess.Popen(command, **options)
        words, variables = command[len(local.AGENT) :], options["env"]
        request = json.dumps([list(words), variables, str(options["cwd"])]).encode()
        with Path(os.devnull).open() as nothing:
            streams = [nothing.fileno(), options["stdout"], options["stderr"]]
            socket.send_fds(line, [request], streams)
        return _Agent(int(line.recv(16)))

    local.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
        Popen=start, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE
    )


def _have_workers_forked() -> None:
    """From now on this agent has its workers forked, by a child that is as it was at its start.

    They take that child for their supervisor; it ends with this agent.
    """
    from nursery import Nursery

    from periflow_sdk.agent import workers

    parent = Nursery.forked("periflow_sdk.agent")

    def start(command: Sequence[str], **options: Any) -> Any:
        folder, _, _, *more = command[3:]
        words = [folder, "--worker", str(parent.pid), *more]
        with Path(os.devnull).open() as nothing:
            return parent.fork(words, os.environ, Path(options["cwd"]), nothing.fileno(), 1, 2)

    workers.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
        Popen=start, DEVNULL=subprocess.DEVNULL
    )


class _Agent:
    """As much of ``subprocess.Popen`` as the executor needs; the nursery reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        return None if Path(f"/proc/{self.pid}").exists() else 0


def call_yourself(words: Sequence[str]) -> None:
    """Have /proc show these words for the arguments of this process."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    shown = b"\0".join(map(os.fsencode, words)) + b"\0"
    assert len(shown) <= end - start, "the nursery was started with too little ROOM"
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)
