"""A `python` whose processes are forks of one that has imported the frameworks already.

``warm_python()`` is the path of a program to type where a test would type ``python``: a script, or
``-m``, ``-c``, ``-u`` and ``-W``. All test processes of one run share the one that forks, which
imports what the scripts name, once. What it forks has the arguments, environment, root, streams and
signals of the program in whose place it runs, and ends with it. Tests about an import or a start,
and of what an engineer types, run the real one.
"""

from __future__ import annotations

import array
import ast
import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import io
import json
import multiprocessing.spawn
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import psutil

_LONGEST_REQUEST = 1 << 20
_ROOM = "-" * 4096, "-" * 65536
"""An argument and a variable, for those of the programs that it becomes."""
_FRAMEWORKS = (
    *("accelerate", "datasets", "lightning", "numpy", "pytorch_lightning"),
    *("sklearn", "torch", "torchdata", "transformers"),
)
_LATER = {"torch": ["torch._dynamo"], "lightning": ["adlfs", "gcsfs", "s3fs"]}
"""What frameworks import when they first make an optimizer, or write a checkpoint."""
_PR_SET_PDEATHSIG = 1
_DESCRIPTORS = 6
"""Of a program: three streams, two namespaces and its root."""
_held: list[socket.socket] = []


@functools.cache
def warm_python() -> str:
    """The program, in a folder with a `torchrun` alike; the usual one where forks are no use."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return sys.executable
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    folder = Path(tempfile.gettempdir(), f"pf-warm-{run}")
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held.append(_connect(folder) or _start(folder))
    return str(folder / "python")


def _connect(folder: Path) -> socket.socket | None:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(str(folder / "socket"))
    except OSError:
        line.close()
        return None
    return line


def _start(folder: Path) -> socket.socket:
    """Start the process that forks; it lives as long as a test process holds what this gives."""
    (folder / "socket").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        line = _connect(folder)
        assert line is not None
        program = Path(__file__).with_name("warm_program.py").read_text()
        for name in ("python", "torchrun"):
            (folder / name).write_text(f"#!{sys.executable} -IS\n{program}")
            (folder / name).chmod(0o700)
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(listener.fileno()), _ROOM[0]],
            env={**os.environ, "OMP_NUM_THREADS": "1", "WARM_PYTHON_ROOM": _ROOM[1]},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return line


class _Parent:
    """The process that forks, those who hold it, and those whom it has forked."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self._folder = folder
        self._listener = listener
        self._lines: dict[int, socket.socket] = {}
        self._pids: dict[int, int] = {}
        """Line of a program → the fork in its place."""
        self._alive: dict[int, int] = {}
        """Descriptor that tells of the end of a fork → the line of its program."""

    def live(self) -> dict[str, Any] | None:
        """Fork until nobody is left: None then, and in a fork what it has to run."""
        while True:
            watched = [self._listener.fileno(), *self._lines, *self._alive]
            ready = set(select.select(watched, [], [])[0])
            for ended in ready & set(self._alive):
                self._bury(ended)
            for number in ready & set(self._lines):
                if request := self._hear(number):
                    return request
            if self._listener.fileno() in ready:
                line = self._listener.accept()[0]
                self._lines[line.fileno()] = line
            if not self._lines:
                shutil.rmtree(self._folder, ignore_errors=True)
                return None

    def _bury(self, ended: int) -> None:
        number = self._alive.pop(ended)
        status = os.waitpid(self._pids.pop(number), 0)[1]
        os.close(ended)
        with contextlib.suppress(OSError):  # the program may have been killed
            self._lines[number].send(str(os.waitstatus_to_exitcode(status)).encode())

    def _hear(self, number: int) -> dict[str, Any] | None:
        """Answer a program, or end the fork of one that has ended; in a fork what it has to run."""
        line = self._lines[number]
        try:
            text, descriptors = _receive(line)
        except ConnectionError:
            text = b""
        if text:
            return self._fork(number, json.loads(text), descriptors)
        if number in self._pids:
            _kill(self._pids[number])
            self._bury(next(ended for ended, of in self._alive.items() if of == number))
        del self._lines[number]
        line.close()
        return None

    def _fork(
        self, number: int, request: dict[str, Any], descriptors: list[int]
    ) -> dict[str, Any] | None:
        # As the program sees its files: by a descriptor of its root.
        seen = Path(f"/proc/self/fd/{descriptors[-1]}{request['folder']}")
        _import_frameworks(request["arguments"], seen)
        pid = os.fork()
        if pid == 0:
            for other in (self._listener.fileno(), *self._lines, *self._alive):
                os.close(other)
            _take_place(request, descriptors)
            return request
        for descriptor in descriptors:
            os.close(descriptor)
        self._pids[number] = pid
        self._alive[os.pidfd_open(pid)] = number
        with contextlib.suppress(OSError):
            self._lines[number].send(str(pid).encode())
        return None


def _kill(pid: int) -> None:
    """End a fork and all below it: to those who would, these are no children of its program."""
    process = psutil.Process(pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    data, extra, _, _ = line.recvmsg(_LONGEST_REQUEST, room)
    for _, _, content in extra:
        descriptors.frombytes(content)
    return data, list(descriptors)


def _import_frameworks(arguments: Sequence[str], folder: Path) -> None:
    """Import here what a program and the scripts among its arguments name."""
    root = Path(*folder.parts[:5])
    words = _split(arguments)[1]
    sources = [root / w[1:] if w[0] == "/" else folder / w for w in words if w.endswith(".py")]
    with contextlib.suppress(ImportError):  # which the program itself will tell
        if words[0] == "-m" and (spec := find_spec(words[1])) and spec.origin:
            sources.append(Path(spec.origin))
    if words[0] == "-c":
        _import_of(words[1], folder)
    for path in sources:
        with contextlib.suppress(OSError):
            _import_of(path.read_text(), path.parent)
    for framework, loaded_later in _LATER.items():
        if framework in sys.modules:
            for name in loaded_later:
                with contextlib.suppress(ImportError):
                    import_module(name)
    gc.freeze()


def _import_of(text: str, folder: Path) -> None:
    """Import the frameworks that a source names, and those of the modules beside it."""
    with contextlib.suppress(SyntaxError):
        nodes = list(ast.walk(ast.parse(text)))
        names: dict[str, Any] = {}
        for node in nodes:
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            if module and module.partition(".")[0] in _FRAMEWORKS:
                with contextlib.suppress(ImportError):
                    exec(compile(ast.Module([node], []), "<imports>", "exec"), names)
            elif module and (folder / f"{module}.py").is_file():
                _import_of((folder / f"{module}.py").read_text(), folder)
        for node in nodes:  # some frameworks load what is in them when it is first used
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                getattr(names.get(node.value.id), node.attr, None)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options, as words of one letter and a value, and what is to run."""
    options, rest = [], list(arguments)
    while rest[0] in ("-u", "-W"):
        options.append(rest.pop(0))
        if options[-1] == "-W":
            options[-1] += rest.pop(0)
    return options, rest


def _take_place(request: dict[str, Any], descriptors: list[int]) -> None:
    """Have all that the program has: its root, streams and environment."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    *streams, users, mounts, root = descriptors
    if not _is_ours(mounts, "mnt"):
        for namespace in [mounts] if _is_ours(users, "user") else [users, mounts]:
            if libc.setns(namespace, 0):
                raise OSError(ctypes.get_errno(), "the root of the program cannot be entered")
        os.fchdir(root)
        os.chroot(".")
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    for descriptor in descriptors:
        os.close(descriptor)
    os.umask(request["mask"])
    os.nice(max(0, request["priority"] - os.nice(0)))
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    _show([sys.executable, *request["arguments"]], *map(int, fields[45:47]))
    _show([f"{name}={value}" for name, value in os.environ.items()], *map(int, fields[47:49]))


def _is_ours(namespace: int, kind: str) -> bool:
    return os.path.samestat(os.fstat(namespace), Path(f"/proc/self/ns/{kind}").stat())


def _show(words: Sequence[str], start: int, end: int) -> None:
    """Have /proc show these for the arguments or the environment of this process."""
    shown = b"\0".join(map(os.fsencode, words)) + b"\0"
    assert len(shown) <= end - start, "this was started with too little room"
    ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _run(program: str, arguments: list[str]) -> NoReturn:
    """Do what `python` does with these arguments, and end as it does."""
    try:
        _run_main(program, arguments)
        code: object = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)  # to take all modules apart would cost a second


def _run_main(program: str, arguments: list[str]) -> None:
    options, (way, *rest) = _split(arguments)
    is_unbuffered = "-u" in options or bool(os.environ.get("PYTHONUNBUFFERED"))
    for option in options:
        if option != "-u":
            warnings._setoption(option[2:])
    sys.stdin = sys.__stdin__ = open(0)  # noqa: SIM115
    out = open(1, "wb", 0 if is_unbuffered else -1)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(out, write_through=is_unbuffered)
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1)  # noqa: SIM115
    multiprocessing.spawn.set_executable(sys.executable)
    sys.executable = program
    sys.path[:1] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    if way == "-m":
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif way == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path.insert(0, str(Path(way).resolve().parent))
        sys.argv = [way, *rest]
        runpy.run_path(way, run_name="__main__")


if __name__ == "__main__":
    _folder, _listener = Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))
    if _request := _Parent(_folder, _listener).live():
        _run(_request["program"], _request["arguments"])
