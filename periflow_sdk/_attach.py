"""Attached mode: a run outside a job that shows up as one, by an agent that is started beside it.

This process talks to nobody: it leaves a folder in PERIFLOW_HOME, with its journal in it, and
starts ``python -m periflow_sdk.agent.attached FOLDER``, one for all ranks of this machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ._boot import boot_id
from ._console import say
from ._shared_memory import own_folder
from .environment import (
    AttachEnvironment,
    JobEnvironment,
    attach_environment,
    home,
    local_checkpoint_dir,
    process_rank,
    process_world_size,
)
from .errors import UsageError

ABOUT = "attached.json"
_LOCK_SECONDS = 5.0
_ROOM_BYTES = 64 * 1024 * 1024
_POLL_SECONDS = 0.005
_count = 0


def attach_run(*, is_demanded: bool) -> JobEnvironment | None:
    """The run as a job's process would find it, with an agent started; None to stay local.

    Args:
        is_demanded: init(attach=True) rather than PERIFLOW_ATTACH: no silent way back.

    Raises:
        UsageError: it is demanded, and there is no login or project, or no folder can be made.
    """
    environment = attach_environment()
    try:
        folder = _open_run(environment)
    except UsageError as error:
        if is_demanded:
            raise
        if process_rank() == 0:
            say(f"this run is local: {error.message}. Next: {error.hint}")
        return None
    return JobEnvironment(
        run_dir=folder / "run",
        checkpoint_dir=local_checkpoint_dir(),
        restored_checkpoint=None,
        job="",
        rank=process_rank(),
        local_rank=environment.local_rank,
        world_size=process_world_size(),
        node_rank=0,
        processed_steps=0,
        memory_dir=_memory_dir(folder),
    )


def _memory_dir(folder: Path) -> Path | None:
    """Where states may be left in memory, as the first rank has found."""
    path = _document(folder / ABOUT).get("memory_dir")
    return Path(path) if path else None


def _make_memory_dir(run_id: str) -> str | None:
    own = own_folder(_ROOM_BYTES)
    if own is None:
        return None
    path = own / f"attached-{run_id}"
    path.mkdir(mode=0o700, exist_ok=True)
    return str(path)


def _open_run(environment: AttachEnvironment) -> Path:
    """The folder of this run, with its agent started by the first rank that comes."""
    target = _target(environment)
    run_id = _run_id(environment)
    folder = home() / "attached" / run_id
    try:
        for each in (home(), folder.parent, folder, folder / "run"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(folder / "start.lock")
        try:
            if not (folder / ABOUT).exists():
                own = {"run_id": run_id, "memory_dir": _make_memory_dir(run_id)}
                _write_about(folder, {**target, **own, **_about(environment)})
                _start_agent(folder)
        finally:
            os.close(lock)
    except OSError as error:
        raise UsageError(
            f"the run cannot be attached: {folder} cannot be made ({error.strerror})",
            hint="set PERIFLOW_HOME to a folder that you may write to",
        ) from None
    return folder


def _target(environment: AttachEnvironment) -> dict[str, Any]:
    """Which control plane and project the run goes to, by the files that `pf` keeps.

    Raises:
        UsageError: nobody is logged in there, or no project is chosen.
    """
    config = _read("config.json")
    url = environment.url or config.get("url") or None
    server = str(url).rstrip("/") if url else "local"
    if not environment.has_api_key and not isinstance(_read("session.json").get(server), dict):
        where = url or "the local server"
        raise UsageError(
            f"attaching a run needs a login, and there is none to {where}", hint="pf login"
        )
    is_current = config.get("server", server) == server
    places: dict[str, Any] = {}
    for noun, name in (
        ("organization", environment.organization),
        ("project", environment.project),
    ):
        chosen = config.get(noun) if is_current else None
        place = {"name": name} if name else chosen
        if not isinstance(place, dict):
            raise UsageError(
                f"attaching a run needs a current {noun}, and none is chosen",
                hint=f"pf {'org' if noun == 'organization' else noun} switch NAME",
            )
        places[noun] = place
    return {"url": server if url else None, "server": server, **places}


def _about(environment: AttachEnvironment) -> dict[str, Any]:
    script = Path(sys.argv[0] or "python").name
    checkpoint_dir = os.path.realpath(local_checkpoint_dir())
    return {
        "version": 1,
        "name": (script.removesuffix(".py") or "python")[:128],
        # The script alone: its arguments may hold what others must not see.
        "command": f"python {script}"[:4096],
        "cwd": str(Path.cwd()),
        "checkpoint_dir": checkpoint_dir,
        "num_ranks": environment.local_world_size,
        "started_at": time.time(),
    }


def _run_id(environment: AttachEnvironment) -> str:
    """A name that all local ranks of one start find by themselves, and no other run has.

    Ranks of a launcher share their parent; a process alone is its own run.
    """
    import hashlib

    global _count
    _count += 1
    process = os.getppid() if environment.is_launched else os.getpid()
    parts = [os.getuid(), process, _start_ticks(process), boot_id(), environment.launch, _count]
    text = "\0".join(map(str, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _start_ticks(pid: int) -> str:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[19]
    except (OSError, IndexError):
        return str(time.time_ns()) if pid == os.getpid() else ""


def _lock(path: Path) -> int:
    """Hold the lock of the run's start; after a bounded wait, go on without it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < end:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(_POLL_SECONDS)
    return descriptor


def _write_about(folder: Path, document: dict[str, Any]) -> None:
    temporary = folder / f".{ABOUT}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(document, file)
    temporary.replace(folder / ABOUT)


def _start_agent(folder: Path) -> None:
    """Start the agent in a session of its own: it outlives this process and its terminal."""
    import subprocess

    log = os.open(folder / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        agent = subprocess.Popen(
            [sys.executable, "-m", "periflow_sdk.agent.attached", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            cwd="/",
            env=_agent_environment(),
            start_new_session=True,
            close_fds=True,
        )
    finally:
        os.close(log)
    agent.returncode = 0  # nobody here waits for it; without this its object would complain


def _agent_environment() -> dict[str, str]:
    """This process's own, with the SDK importable from anywhere."""
    package = str(Path(__file__).resolve().parents[1])
    paths = [package, *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p)]
    absolute = [str(Path(path).absolute()) for path in paths]
    return {**os.environ, "PERIFLOW_HOME": str(home()), "PYTHONPATH": os.pathsep.join(absolute)}


def _read(name: str) -> dict[str, Any]:
    return _document(home() / name)


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
