"""Agents as detached processes of this machine."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

AGENT = (sys.executable, "-m", "periflow_sdk.agent")
RETIREMENT = (sys.executable, "-m", "periflow_sdk.agent.retirement")
_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "PERIFLOW_HOME",
    "PERIFLOW_CACHE_DIR",
    "PERIFLOW_CACHE_BYTES",
)
_CLOCK_SLACK_SECONDS = 2.0


class LocalExecutor:
    """Starts, looks after and ends agents, each known by its node folder.

    Nothing is kept that a restart of the server would lose: who lives is read from the folders.

    Args:
        url: Where the agents find this server.
        agent: The command of an agent; the node folder is its last argument.
        key_file: The server's key, by which the agents know it from who else is on its port.
    """

    def __init__(
        self, url: str, agent: Sequence[str] = AGENT, key_file: Path | None = None
    ) -> None:
        self._url = url
        self._key_file = key_file
        self._agent = agent
        self._children: list[subprocess.Popen[bytes] | subprocess.Popen[str]] = []

    def start(self, gang: Sequence[Path]) -> None:
        """Start one agent for each node folder, in a session of its own.

        Raises:
            OSError: the process could not be started.
        """
        for folder in gang:
            self._start(folder)

    def poll(self, gang: Iterable[Path]) -> set[Path]:
        """The folders among these whose agent is not alive."""
        dead = {folder for folder in gang if not _is_alive(folder)}
        # After the look: what is said to be dead is no zombie any more.
        self._children = [child for child in self._children if child.poll() is None]
        return dead

    def stop(self, gang: Iterable[Path], *, keep_training: bool = False) -> None:
        """Kill the agents, and what they run unless a new agent is to adopt it."""
        for folder in gang:
            _kill(folder / "agent.json", tree=not keep_training)
            if not keep_training:
                _kill(folder / "training.json", tree=True)

    def clear(self, gang: Iterable[Path]) -> None:
        """Have what dead agents of ended attempts hold in memory given back, by a process beside.

        What they have not sent moves to their folders, for `pf job sync`.

        Raises:
            OSError: the process could not be started.
        """
        folders = [str(folder) for folder in gang if _memory_of(folder)]
        if not folders:
            return
        child = subprocess.Popen(
            RETIREMENT, stdin=subprocess.PIPE, cwd="/", text=True, start_new_session=True
        )
        self._children.append(child)
        assert child.stdin is not None
        with child.stdin as pipe:
            pipe.write("".join(f"{folder}\n" for folder in folders))

    def _start(self, folder: Path) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment["PERIFLOW_URL"] = self._url
        environment["PERIFLOW_TOKEN_FILE"] = str(folder / "token")
        if self._key_file is not None:
            environment["PERIFLOW_KEY_FILE"] = str(self._key_file)
        log = os.open(folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(
                [*self._agent, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._children.append(child)
        _note_process(folder / "agent.json", child.pid)


def prepare_node(folder: Path, token: str) -> None:
    """Make a node folder with its job token, before anything knows of the attempt."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / ".token.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token)
    temporary.replace(folder / "token")


def remove_nodes(job_folder: Path) -> None:
    """Remove the node folders of a job that has ended, with all that its agents left in memory.

    Args:
        job_folder: Has the node folders; its name is the id of the job.
    """
    for folder in job_folder.glob("*/*"):
        for name in ("agent.json", "training.json"):
            _kill(folder / name, tree=True)  # one that was about to end
        run_dir = _memory_of(folder)
        if run_dir is not None and run_dir.name.startswith(f"{job_folder.name}-"):
            shutil.rmtree(run_dir, ignore_errors=True)
    shutil.rmtree(job_folder, ignore_errors=True)


def _memory_of(folder: Path) -> Path | None:
    """The run directory of a node, if it is still there and outside of its folder."""
    try:
        run_dir = Path(json.loads((folder / "state.json").read_text())["run_dir"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_outside = run_dir.is_absolute() and not run_dir.is_relative_to(folder)
    return run_dir if is_outside and run_dir.is_dir() else None


def _note_process(path: Path, pid: int) -> None:
    try:
        start_time = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        start_time = 0.0
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps({"pid": pid, "start_time": start_time}))
    temporary.replace(path)


def _is_alive(folder: Path) -> bool:
    return _process(folder / "agent.json") is not None or _is_locked(folder / "agent.lock")


def _process(path: Path) -> psutil.Process | None:
    """The process that the file names, if it lives and is the same one."""
    try:
        noted = json.loads(path.read_text())
        process = psutil.Process(int(noted["pid"]))
        same = abs(process.create_time() - float(noted["start_time"])) <= _CLOCK_SLACK_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _is_locked(path: Path) -> bool:
    """Whether a supervisor holds its lock: one whose pid was never written down, or whose start
    time no longer compares because the clock was set."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _kill(path: Path, *, tree: bool) -> None:
    process = _process(path)
    if process is None:
        return
    try:
        victims = process.children(recursive=True) if tree else []
    except psutil.Error:
        victims = []
    for victim in [process, *victims]:
        try:
            victim.kill()
        except psutil.Error:
            pass
