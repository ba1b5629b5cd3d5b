"""Server processes that are forked from one that has imported everything: most of a start is that.

What runs in them is ``pf-server``'s own ``main``, with arguments, environment, session, output and
signals of its own. Tests about the start itself run the command instead.
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_LONGEST_REQUEST = 1 << 20


class ForkedServer:
    """As much of ``subprocess.Popen`` as the tests need."""

    def __init__(self, pid: int, told: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired(["periflow_server"], timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._told], [], [], timeout)[0]:
            self.returncode = int(os.read(self._told, 16) or b"-9")
            os.close(self._told)
        return self.returncode


class Nursery:
    """The process that servers are forked from; it ends with this one."""

    def __init__(self) -> None:
        self._line, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._line, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_REQUEST)
        with far:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(far.fileno())],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def fork(
        self, arguments: Sequence[str], variables: Mapping[str, str], log: int
    ) -> ForkedServer:
        """Start a server.

        Args:
            arguments: Of the command line, from ``serve`` on.
            variables: Its whole environment.
            log: Descriptor of what it prints to.
        """
        told, tells = os.pipe()
        request = json.dumps([list(arguments), dict(variables), str(Path.cwd())]).encode()
        try:
            socket.send_fds(self._line, [request], [log, tells])
        finally:
            os.close(tells)
        return ForkedServer(int(self._line.recv(16)), told)


@functools.cache
def nursery() -> Nursery | None:
    """That of this test process; None where the system cannot tell when a process ends."""
    return Nursery() if hasattr(os, "pidfd_open") and sys.platform == "linux" else None


def _import_everything() -> None:
    from importlib import import_module
    from pkgutil import walk_packages

    import psycopg  # noqa: F401
    from sqlalchemy.orm import configure_mappers

    import periflow_server

    for module in walk_packages(periflow_server.__path__, "periflow_server."):
        if ".migrations." not in module.name:
            import_module(module.name)
    configure_mappers()


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    data, extra, _, _ = line.recvmsg(_LONGEST_REQUEST, socket.CMSG_LEN(2 * descriptors.itemsize))
    for _, _, content in extra:
        descriptors.frombytes(content[: 2 * descriptors.itemsize])
    return data, list(descriptors)


def _serve(request: bytes, log: int, others: Iterable[int]) -> None:
    """The child: becomes the server."""
    arguments, variables, folder = json.loads(request)
    os.setsid()
    for target in (1, 2):
        os.dup2(log, target)
    for other in others:
        os.close(other)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.argv = ["pf-server", *arguments]
    from periflow_server.__main__ import main

    main(arguments)


def _run(line: socket.socket) -> None:
    alive: dict[int, tuple[int, int]] = {}
    while True:
        ready, _, _ = select.select([line, *alive], [], [])
        for watched in set(ready) & set(alive):
            pid, tells = alive.pop(watched)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(BrokenPipeError):
                os.write(tells, str(code).encode())
            os.close(tells)
            os.close(watched)
        if line not in ready:
            continue
        request, descriptors = _receive(line)
        if not request:
            return
        log, tells = descriptors
        pid = os.fork()
        if pid == 0:
            try:
                held = [fd for watched, (_, told) in alive.items() for fd in (watched, told)]
                _serve(request, log, [line.fileno(), log, tells, *held])
            finally:
                os._exit(70)
        os.close(log)
        alive[os.pidfd_open(pid)] = (pid, tells)
        line.send(str(pid).encode())


if __name__ == "__main__":
    _import_everything()
    gc.freeze()
    _run(socket.socket(fileno=int(sys.argv[1])))
