"""Processes that are forked from one that has imported everything: most of a start is that.

What runs in them is the ``main`` of ``pf-server`` or ``pf``, with arguments, environment, session,
input, output and signals of its own. Tests about the start itself run the command instead. What
such a server runs as agents is forked here as well.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from forked_agent import (
    ROOM,
    become_agent,
    call_yourself,
    have_agents_forked,
    import_agent,
)

_LONGEST_REQUEST = 1 << 20
_PRCTL, _PR_SET_PDEATHSIG = getattr(ctypes.CDLL(None), "prctl", None), 1
_BIN = Path(sys.executable).parent
_AGENT = "periflow_sdk.agent"
_PROGRAMS = {
    "periflow_cli": ("pf", "periflow_cli.main"),
    "periflow_server": ("pf-server", "periflow_server.__main__"),
}


class Forked:
    """As much of ``subprocess.Popen`` as the tests need."""

    def __init__(self, pid: int, told: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired([f"process {self.pid}"], timeout or 0)
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
    """The process that others are forked from; it ends with this one.

    Args:
        line: To that process.
        pid: Its number.
        process: What it was started as, if it was.
    """

    def __init__(
        self, line: socket.socket, pid: int, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._one_request = threading.Lock()
        self._line = line
        self._process = process
        self.pid = pid

    @classmethod
    def started(cls, package: str) -> Nursery:
        """A new process that imports a package, whose ``main`` those run that are forked.

        Args:
            package: ``periflow_server`` or ``periflow_cli``.
        """
        near, far = _line()
        with far:
            process = subprocess.Popen(
                [sys.executable, __file__, package, str(far.fileno()), ROOM],
                pass_fds=[far.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return cls(near, process.pid, process)

    @classmethod
    def forked(cls, package: str) -> Nursery:
        """A fork of this process, which has imported the package and has one thread."""
        near, far = _line()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                near.close()
                _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == parent:
                    call_yourself([sys.executable, __file__, package])
                    _Family(package, far).live()
            finally:
                os._exit(0)
        far.close()
        return cls(near, pid)

    def fork(
        self, arguments: Sequence[str], variables: Mapping[str, str], folder: Path, *streams: int
    ) -> Forked:
        """Start a process.

        Args:
            arguments: Of the command line, behind the program's name.
            variables: Its whole environment.
            folder: Where it runs.
            streams: Its input, output and error output.
        """
        told, tells = os.pipe()
        request = json.dumps([list(arguments), dict(variables), str(folder)]).encode()
        with self._one_request:  # an answer does not say whose it is
            try:
                socket.send_fds(self._line, [request], [*streams, tells])
            finally:
                os.close(tells)
            return Forked(int(self._line.recv(16)), told)


def _line() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST_REQUEST)
    return ends


_one_each = threading.Lock()
_nurseries: dict[str, Nursery] = {}


def nursery(package: str) -> Nursery | None:
    """That of this test process; None where the system cannot tell when a process ends."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return None
    with _one_each:
        if package not in _nurseries:
            _nurseries[package] = Nursery.started(package)
        return _nurseries[package]


def run(
    package: str,
    arguments: Iterable[object],
    variables: Mapping[str, str],
    *,
    folder: Path | None = None,
    stdin: str = "",
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run `pf` or `pf-server` without a terminal until it ends; whatever its exit code."""
    words = [str(word) for word in arguments]
    command = [str(_BIN / _PROGRAMS[package][0]), *words]
    parent = nursery(package)
    if parent is None:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=dict(variables),
            cwd=folder,
            timeout=timeout,
        )
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin.encode())
        given.seek(0)
        streams = (given.fileno(), out.fileno(), err.fileno())
        process = parent.fork(words, variables, folder or Path.cwd(), *streams)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for stream in (out, err):
            stream.seek(0)
        said = out.read().decode(), err.read().decode()
    return subprocess.CompletedProcess(command, code, *said)


def _import_everything(package: str) -> None:
    for module in walk_packages(import_module(package).__path__, f"{package}."):
        if ".migrations." not in module.name:
            import_module(module.name)
    if package == "periflow_server":
        import psycopg  # noqa: F401
        from sqlalchemy.orm import configure_mappers

        configure_mappers()
        _hash_quickly()
        import_agent()
    else:
        import periflow_sdk.api.client
        import periflow_sdk.snapshots  # noqa: F401


def _hash_quickly() -> None:
    """Almost all tests sign somebody up; how long a guess takes counts in none of them."""
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    from periflow_server.services import password

    password._hasher = functools.cache(
        lambda: PasswordHash([Argon2Hasher(time_cost=1, memory_cost=64, parallelism=1)])
    )


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(4 * descriptors.itemsize)
    data, extra, _, _ = line.recvmsg(_LONGEST_REQUEST, room)
    for _, _, content in extra:
        descriptors.frombytes(content)
    return data, list(descriptors)


def _become(package: str, request: bytes, streams: Sequence[int]) -> int:
    """The child: becomes the program, whose exit code this is."""
    arguments, variables, folder = json.loads(request)
    os.setsid()
    if "--worker" not in arguments:  # which leaves by itself
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGKILL)  # an interrupted test run leaves nobody behind
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    if package == _AGENT:
        return become_agent(arguments)
    program, module = _PROGRAMS[package]
    sys.argv = [str(_BIN / program), *arguments]
    try:
        return import_module(module).main()
    except SystemExit as end:  # argparse
        return end.code


class _Family:
    """The nursery's own process, and who it has forked."""

    def __init__(self, package: str, line: socket.socket) -> None:
        self._package = package
        self._tests = line
        self._servers: dict[int, socket.socket] = {}
        self._alive: dict[int, tuple[int, int | None]] = {}
        """The descriptor that tells of an end: whose, and where to say its exit code."""

    def live(self) -> None:
        """Fork whom the tests ask for, and the agents that those ask for."""
        while True:
            ready, _, _ = select.select([self._tests, *self._servers, *self._alive], [], [])
            for watched in set(ready) & set(self._alive):
                self._bury(watched)
            for number in set(ready) & set(self._servers):
                self._fork_agent(self._servers[number])
            if self._tests in ready and not self._fork_program():
                return

    def _bury(self, watched: int) -> None:
        pid, tells = self._alive.pop(watched)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.close(watched)
        if tells is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(tells, str(code).encode())
            os.close(tells)

    def _fork_program(self) -> bool:
        """Whether the tests still ask."""
        request, descriptors = _receive(self._tests)
        if not request:
            return False
        *streams, tells = descriptors
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        is_server = self._package == "periflow_server"
        pid = self._fork(
            self._package, request, streams, [tells, ours.fileno()], theirs if is_server else None
        )
        theirs.close()
        if is_server:
            self._servers[ours.fileno()] = ours
        else:
            ours.close()
        self._alive[os.pidfd_open(pid)] = (pid, tells)
        self._tests.send(str(pid).encode())
        return True

    def _fork_agent(self, line: socket.socket) -> None:
        try:
            request, streams = _receive(line)
        except ConnectionError:  # killed before it took an answer
            request = b""
        if not request:
            del self._servers[line.fileno()]
            line.close()
            return
        pid = self._fork(_AGENT, request, streams, [], None)
        self._alive[os.pidfd_open(pid)] = (pid, None)
        with contextlib.suppress(OSError):  # the server may have died meanwhile
            line.send(str(pid).encode())

    def _fork(
        self,
        package: str,
        request: bytes,
        streams: list[int],
        unneeded: list[int],
        line: socket.socket | None,
    ) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                held = [fd for fd, (_, tells) in self._alive.items() for fd in (fd, tells)]
                for fd in (self._tests.fileno(), *self._servers, *held, *unneeded):
                    if fd is not None:
                        os.close(fd)
                if line is not None:
                    have_agents_forked(line)
                code = _become(package, request, streams)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            finally:
                traceback.print_exc()
                os._exit(70)
        for stream in streams:
            os.close(stream)
        return pid


if __name__ == "__main__":
    _import_everything(sys.argv[1])
    gc.freeze()
    _Family(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))).live()
