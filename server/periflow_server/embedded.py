"""The embedded server's place on this machine: folder, lock, port, key, and the file that says so.

Imports the standard library only: a second server must find out fast that it is the second.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import secrets
import socket
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from periflow_sdk.errors import ConflictError, PeriFlowError, UsageError

OLD_KEYS = "old-keys"
"""The file of the keys that a folder had before, while something is sealed under them."""
# Below the range from which the kernel takes ports for outgoing connections, so that the port
# is still free when the server comes back.
_PORTS = range(17_000, 32_000)
# fmt: off
_NETWORK_FILE_SYSTEMS = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs",
    "orangefs", "pvfs2", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs",
    "fuse.gcsfuse", "fuse.rclone", "fuse.davfs2",
})
# fmt: on


def take_data_dir(home: Path) -> tuple[Path, IO[str]]:
    """Make the data folder and take its lock, held as long as the returned file is open.

    Raises:
        UsageError: the folder is on a network file system.
        ConflictError: another server holds it (``server_running``).
    """
    data_dir = home.absolute() / "server"
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_network_file_system(data_dir, Path("/proc/self/mountinfo"))
    return data_dir, hold_folder(data_dir, "Run `pf server status`.")


def hold_folder(data_dir: Path, hint: str) -> IO[str]:
    """Take the lock of a data folder, held as long as the returned file is open.

    Raises:
        ConflictError: another server holds it (``server_running``).
    """
    lock = _hold(data_dir / "server.lock")
    if lock is None:
        message = f"A server is running already on {data_dir}."
        raise ConflictError(message, code="server_running", hint=hint)
    return lock


def hold_database(url: str) -> AbstractContextManager[object]:
    """Keep other servers from an SQLite database; PostgreSQL has room for several.

    Raises:
        UsageError: the database is on a network file system.
        ConflictError: another server has it (``database_in_use``).
    """
    if not url.startswith("sqlite:///"):
        return nullcontext()
    file = Path(url.removeprefix("sqlite:///").partition("?")[0]).absolute()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_network_file_system(file.parent, Path("/proc/self/mountinfo"))
    # Not the file itself: closing it would take the locks away that SQLite has on it.
    lock = _hold(file.with_name(f"{file.name}.lock"))
    if lock is None:
        raise ConflictError(
            f"Another server uses the database {file}; SQLite has room for one.",
            code="database_in_use",
            hint="Stop the other one, or give all of them one PostgreSQL: "
            "PERIFLOW_SERVER_DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME.",
        )
    return lock


def refuse_network_file_system(folder: Path, mountinfo: Path) -> None:
    """Raise where the database would not be safe.

    Args:
        folder: An existing folder.
        mountinfo: The mount table, in the form of ``/proc/self/mountinfo``; absent elsewhere.
    """
    try:
        table = mountinfo.read_text(errors="surrogateescape")
    except OSError:
        return
    kind = _file_system(str(folder.resolve()), table)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise UsageError(
            f"{folder} is on a network file system ({kind}), where the database is not safe.",
            hint="Set PERIFLOW_HOME to a folder on a local disk, or PERIFLOW_URL to a server.",
        )


def load_key(data_dir: Path) -> str:
    """The 32 random bytes of this folder, in hex; made at the first call, readable by us only.

    Raises:
        PeriFlowError: the file is damaged.
    """
    path = data_dir / "key"
    if not path.exists():
        temporary = path.with_name(f".key.{secrets.token_hex(4)}")
        _write_private(temporary, secrets.token_hex(32))
        temporary.replace(path)
    key = path.read_text(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise PeriFlowError(
            f"The key file {path} is damaged.",
            code="key_damaged",
            hint="Restore it from a backup. If you remove it a new one is made: logins stay, and "
            "stored credentials have to be entered again.",
        )
    return key


def renew_key(data_dir: Path) -> str:
    """A new key in the place of the folder's; the old one stays beside it until it is forgotten."""
    old = data_dir / OLD_KEYS
    known = old.read_text() if old.exists() else ""
    _replace(old, f"{known}{load_key(data_dir)}\n")
    _sync_folder(data_dir)
    _replace(data_dir / "key", secrets.token_hex(32))
    _sync_folder(data_dir)
    return load_key(data_dir)


def forget_old_keys(data_dir: Path) -> None:
    """Nothing is sealed under the keys of before any more."""
    (data_dir / OLD_KEYS).unlink(missing_ok=True)


def load_site(data_dir: Path) -> str:
    """What this folder goes by in the database; made at the first call, stays when it moves."""
    path = data_dir / "site"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _replace(path, secrets.token_hex(16))
    return path.read_text()


def listen_socket(data_dir: Path, host: str, port: int | None) -> socket.socket:
    """Bind to the port given, else to the one kept in the folder, else to a free one (kept).

    Raises:
        UsageError: the port given is taken.
    """
    if port:
        bound = _bind(host, port)
        if bound is None:
            raise UsageError(
                f"Port {port} of {host} is taken.", hint="Leave out --port, or give another one."
            )
        return bound
    kept = _kept_port(data_dir)
    bound = _bind(host, kept) if kept else None
    if bound is None:
        tries = (_bind(host, port) for port in random.sample(_PORTS, 50))
        bound = next((found for found in tries if found), None) or _bind(host, 0)
        assert bound is not None
        _replace(data_dir / "port", f"{bound.getsockname()[1]}\n")
    return bound


def announce(data_dir: Path, url: str, version: str) -> None:
    """Write ``server.json``: the server answers now."""
    document = {
        "url": url,
        "pid": os.getpid(),
        "version": version,
        "data_dir": str(data_dir),
        "started_at": datetime.now(UTC).isoformat(),
    }
    _replace(data_dir / "server.json", json.dumps(document, indent=1) + "\n")


def withdraw(data_dir: Path) -> None:
    """Remove ``server.json``; whoever holds the lock may."""
    (data_dir / "server.json").unlink(missing_ok=True)


def _hold(path: Path) -> IO[str] | None:
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _file_system(folder: str, table: str) -> str:
    best, kind = "", ""
    for line in table.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        mount = fields[4].replace("\\040", " ").rstrip("/")
        inside = folder == mount or folder.startswith(mount + "/")
        # Of two mounts on one folder the later one is seen.
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split(" ")[0]
    return kind


def _kept_port(data_dir: Path) -> int | None:
    try:
        port = int((data_dir / "port").read_text())
    except (OSError, ValueError):
        return None
    return port if 0 < port < 65536 else None


def _bind(host: str, port: int) -> socket.socket | None:
    # With the protocol named, asyncio sets TCP_NODELAY: without it an answer can take 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A restarted server gets its port back although old connections linger.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return None
        raise
    return bound


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    _write_private(temporary, text)
    temporary.replace(path)
