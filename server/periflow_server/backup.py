"""Backups of a server that keeps its data in SQLite and a folder: one tar file.

``backup.json`` comes first and says what the rest is: ``periflow.db``, ``key``, ``port``,
``outbox/…`` and ``storage/…``; ``end.json`` comes last and counts the others, for a file that was
cut off. What runs (the folders of nodes) and the server's own log are left out.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from periflow_sdk.errors import ConflictError, UsageError
from periflow_server import __version__
from periflow_server.migrations import REVISIONS

_FORMAT = 1
_HEADER = "backup.json"
_DATABASE = "periflow.db"
_END = "end.json"
_SINGLE = frozenset({_DATABASE, "key", "port"})
_LINKS = ".backup-"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Summary:
    """What a backup has. ``missing``: objects that the database names and the store has not."""

    size: int
    file_count: int
    missing: int = 0


def back_up(data_dir: Path, database: Path, storage_dir: Path | None, target: Path) -> Summary:
    """Write a backup, which may be taken while the server runs.

    The objects are linked before and after the database is copied: what it names is among them,
    whatever is removed meanwhile.

    Args:
        storage_dir: The folder of the store; None for one elsewhere, which is left out.
        target: The file to write; it appears when it is whole, for its owner only.

    Raises:
        ConflictError: the file is there already (``backup_exists``).
        UsageError: it cannot be written there.
    """
    if target.exists():
        raise ConflictError(
            f"{target} is there already.", code="backup_exists", hint="Give another file."
        )
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with _linked(storage_dir) as link:
            links = link()
            copy = partial.with_name(f"{partial.name}.db")
            try:
                _copy_database(database, copy)
                link()
                summary = _write(partial, data_dir, copy, links)
            finally:
                copy.unlink(missing_ok=True)
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"The backup cannot be written: {error.strerror or error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return summary


def restore(source: Path, data_dir: Path) -> Path | None:
    """Put a backup in the place of a data folder that no server uses.

    Returns:
        Where the folder that was there has gone; None if there was none.

    Raises:
        UsageError: the file is no whole backup, or that of a newer version.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = data_dir.with_name(f".{data_dir.name}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir(mode=0o700)
        try:
            with tarfile.open(source, "r:") as archive:
                _unpack(archive, fresh)
        except (tarfile.TarError, EOFError, ValueError, KeyError, OSError) as error:
            raise _no_backup(source, str(error)) from error
        _check_database(source, fresh / _DATABASE)
        aside = _put_aside(data_dir)
        fresh.rename(data_dir)
        return aside
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_aside(data_dir: Path) -> Path | None:
    if not data_dir.exists():
        return None
    if not (data_dir / _DATABASE).exists() and not (data_dir / "storage").exists():
        shutil.rmtree(data_dir)
        return None
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    aside = data_dir.with_name(f"{data_dir.name}.before-{stamp}-{secrets.token_hex(2)}")
    return data_dir.rename(aside)


@contextmanager
def _linked(storage_dir: Path | None) -> Iterator[Callable[[], Path | None]]:
    """Links all objects into a folder of the store when it is called; the folder.

    It is gone at the end; those of killed backups go as well.
    """
    if storage_dir is None:
        yield lambda: None
        return
    for left in storage_dir.glob(f"{_LINKS}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    links = storage_dir / f"{_LINKS}{secrets.token_hex(4)}"
    links.mkdir(mode=0o700)
    try:
        yield lambda: _link_all(storage_dir, links)
    finally:
        shutil.rmtree(links, ignore_errors=True)


def _link_all(storage_dir: Path, links: Path) -> Path:
    for folder, folders, names in os.walk(storage_dir):
        folders[:] = [name for name in folders if not name.startswith(".")]
        place = links / Path(folder).relative_to(storage_dir)
        place.mkdir(exist_ok=True, mode=0o700)
        for name in names:
            if not name.startswith("."):  # the others are not whole yet
                with suppress(FileExistsError, FileNotFoundError):
                    _link(Path(folder, name), place / name)
    return links


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _copy_database(database: Path, copy: Path) -> None:
    copy.touch(mode=0o600, exist_ok=False)
    uri = f"{database.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=30)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE").close()


def _write(partial: Path, data_dir: Path, copy: Path, links: Path | None) -> Summary:
    members = [(copy, _DATABASE)]
    members += [(data_dir / name, name) for name in ("key", "port") if (data_dir / name).exists()]
    roots = [(data_dir / "outbox", "outbox"), *([(links, "storage")] if links else [])]
    for root, prefix in roots:
        members += [
            (path, f"{prefix}/{path.relative_to(root).as_posix()}") for path in _files(root)
        ]
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        # Dereferenced: a member that has another name as well would else be a link to that.
        with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:
            _add_document(archive, _HEADER, _header(copy))
            for path, name in members:
                archive.add(path, name, filter=_anonymous)
            _add_document(archive, _END, {"file_count": len(members)})
        file.flush()
        os.fsync(file.fileno())
    wanted = _wanted(copy) if links else set()
    missing = wanted - {name.removeprefix("storage/") for _, name in members}
    return Summary(partial.stat().st_size, len(members), len(missing))


def _wanted(copy: Path) -> set[str]:
    """The keys of all objects that the database refers to."""
    from periflow_server.storage.key import chunk_key, manifest_key

    with closing(sqlite3.connect(copy)) as connection:
        chunks = connection.execute("SELECT project_id, chunk_hash FROM snapshot_chunks")
        wanted = {chunk_key(project, name) for project, name in chunks}
        snapshots = connection.execute("SELECT project_id, id FROM snapshots")
        wanted.update(manifest_key(project, name) for project, name in snapshots)
        wanted.update(key for (key,) in connection.execute("SELECT key FROM log_segments"))
    return wanted


def _header(copy: Path) -> dict[str, object]:
    with closing(sqlite3.connect(copy)) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return {
        "format": _FORMAT,
        "version": __version__,
        "schema": revision,
        "created_at": datetime.now(UTC).isoformat(),
    }


def _files(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _add_document(archive: tarfile.TarFile, name: str, document: Mapping[str, object]) -> None:
    data = json.dumps(document).encode()
    member = _anonymous(tarfile.TarInfo(name))
    member.size, member.mtime = len(data), int(time.time())
    archive.addfile(member, io.BytesIO(data))


def _unpack(archive: tarfile.TarFile, folder: Path) -> None:
    header = _document(archive, archive.next(), _HEADER)
    if header["format"] != _FORMAT or header["schema"] not in REVISIONS:
        raise UsageError(
            f"This backup was made by PeriFlow {header['version']}, which is newer.",
            code="backup_newer",
            hint="Install the newest PeriFlow.",
        )
    count = 0
    while (member := archive.next()) is not None and member.name != _END:
        target = folder / _safe_name(member)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        source = archive.extractfile(member)
        assert source is not None  # it is a file
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        count += 1
    if _document(archive, member, _END)["file_count"] != count:
        raise ValueError("files are missing")


def _document(archive: tarfile.TarFile, member: tarfile.TarInfo | None, name: str) -> Any:
    if member is None or member.name != name or not member.isreg():
        raise ValueError(f"its {name} is missing")
    source = archive.extractfile(member)
    assert source is not None  # it is a file
    return json.loads(source.read(1 << 16))


def _safe_name(member: tarfile.TarInfo) -> str:
    path = PurePosixPath(member.name)
    is_known = member.name in _SINGLE or path.parts[0] in ("storage", "outbox")
    if not member.isreg() or not is_known or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{member.name!r} does not belong into one")
    return member.name


def _check_database(source: Path, database: Path) -> None:
    if not database.exists():
        raise _no_backup(source, "it has no database")
    with closing(sqlite3.connect(database)) as connection:
        try:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            raise _no_backup(source, str(error)) from error
    if verdict != "ok":
        raise _no_backup(source, verdict)


def _no_backup(source: Path, why: str) -> UsageError:
    return UsageError(
        f"{source} is no whole backup: {why}.", hint="pf-server admin backup FILE makes one."
    )
