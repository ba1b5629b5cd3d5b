"""A PostgreSQL of the tests' own: reached by a socket only, gone when they end."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from periflow_server.db.base import Database
from periflow_server.db.schema import prepare_schema

_START_SECONDS = 90
_STOP_SECONDS = 60
_TEMPLATE = "prepared"
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
_OPTIONS = {
    "listen_addresses": "",
    "max_connections": "200",
    # Nothing here has to survive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "64MB",
    "dynamic_shared_memory_type": "mmap",  # what is left behind goes with the folder
    "shared_buffers": "64MB",
}


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; None when there is none."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class PostgresqlCluster:
    """A running server; every database of it is made from one that has the schema already.

    PostgreSQL refuses to run as root: then it runs as another user of this machine.

    Args:
        bin_dir: Where its programs are.
    """

    def __init__(self, bin_dir: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pf-pg-", dir=_place()))
        self._bin = bin_dir
        self._names = itertools.count(1)
        self._as_user = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
        if os.getuid() == 0:
            user = "postgres" if _is_user("postgres") else "nobody"
            shutil.chown(self.folder, user)
            self._as_user += [f"--reuid={user}", "--clear-groups"]
        self._run("initdb", "-A", "trust", "-U", "periflow", "--no-sync", "--locale=C.UTF-8")
        self.start()
        self.create(template=None, name=_TEMPLATE)
        database = Database(self.url(_TEMPLATE))
        prepare_schema(database)
        database.close()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = {**_OPTIONS, "unix_socket_directories": str(self.folder)}
        flags = [word for item in options.items() for word in ("-c", "=".join(item))]
        with (self.folder.with_suffix(".log")).open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user, str(self._bin / "postgres"), "-D", str(self._data), *flags],
                stdout=log,
                stderr=log,
                cwd="/",
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """End the server and all its connections; what is committed stays."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_STOP_SECONDS)

    def close(self) -> None:
        """End the server, and remove everything."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(_STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.with_suffix(".log").unlink(missing_ok=True)

    def create(self, *, template: str | None = _TEMPLATE, name: str | None = None) -> str:
        """A new database with the schema, or an empty one without a template; its address."""
        name = name or f"database_{next(self._names)}"
        of = f' TEMPLATE "{template}"' if template else ""
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"{of}'.encode())
        return self.url(name)

    def url(self, name: str) -> str:
        """The address of a database, as the server's settings take it."""
        return f"postgresql://periflow@/{name}?host={self.folder}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _address(self, name: str) -> str:
        return f"host={self.folder} user=periflow dbname={name}"

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [*self._as_user, str(self._bin / program), "-D", str(self._data), *options],
            check=True,
            capture_output=True,
            cwd="/",
        )


def _place() -> Path:
    """In memory where there is room: each database is 300 files, which cost a disk a third of a
    second of CPU."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return _MEMORY if has_room else Path("/tmp")


def _is_user(name: str) -> bool:
    return subprocess.run(["id", "-u", name], capture_output=True).returncode == 0
