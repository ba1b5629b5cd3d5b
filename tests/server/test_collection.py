"""What nothing needs is removed from the store, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError
from periflow_server.db.base import Database, utcnow
from periflow_server.db.schema import import_tables
from periflow_server.db.snapshot import Chunk
from periflow_server.storage.folder import FolderStore

if TYPE_CHECKING:
    from conftest import ServerProcess


def test_only_chunks_without_a_snapshot_and_without_a_lease_are_collected(
    start_server: Callable[..., ServerProcess], chunks: Any
) -> None:
    server = start_server(PERIFLOW_SERVER_COLLECT_SECONDS="0.1")
    client = server.client()
    named, leased, loose = b"named by a snapshot", b"held by a lease", b"held by nothing"
    snapshot = chunks.snapshot(client, named)
    refs = {data: chunks.put(client, data) for data in (named, leased, loose)}

    import_tables()
    database = Database(server.database_url)
    over = [refs[named].hash, refs[loose].hash]
    with database.write() as session:
        past = utcnow() - timedelta(seconds=1)
        session.execute(update(Chunk).where(Chunk.hash.in_(over)).values(leased_until=past))
    database.close()

    folder = server.data_dir / "storage" / "chunks" / client.project
    deadline = time.monotonic() + 90
    while list(folder.rglob(refs[loose].hash)):
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.02)
    assert client.chunk_sources(client.project, [refs[named], refs[leased]])
    assert client.manifest(client.project, snapshot.id)
    assert len(client.missing_chunks(client.project, [refs[loose]])) == 1
    assert chunks.put(client, loose) == refs[loose]


def test_unfinished_files_of_killed_writers_are_removed_when_old(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put_bytes("chunks/p/ab/abcd", b"whole")
    old, new = (tmp_path / "chunks/p/ab" / f".abcd.{name}.tmp" for name in ("1", "2"))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert store.remove_stale_files(3600) == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert store.get_bytes("chunks/p/ab/abcd") == b"whole"


def test_deleted_dataset_frees_its_space_and_a_used_snapshot_stays(
    start_server: Callable[..., ServerProcess], chunks: Any
) -> None:
    server = start_server(PERIFLOW_SERVER_COLLECT_SECONDS="0.1", PERIFLOW_SERVER_LEASE_SECONDS="3")
    client = server.client()
    kept = chunks.snapshot(client, b"a dataset that stays")
    gone = chunks.snapshot(client, b"a dataset that is deleted")
    for name, snapshot in (("kept", kept), ("gone", gone)):
        client.create_dataset(client.project, m.DatasetCreate(name=name, snapshot_id=snapshot.id))
    client.delete_dataset(client.project, "gone")

    folder = server.data_dir / "storage" / "chunks" / client.project
    wanted = {chunks.ref(b"a dataset that stays").hash}
    deadline = time.monotonic() + 90
    while {path.name for path in folder.rglob("*") if path.is_file()} != wanted:
        assert time.monotonic() < deadline, server.log()
        time.sleep(0.02)
    assert client.manifest(client.project, kept.id)
    with pytest.raises(NotFoundError):
        client.manifest(client.project, gone.id)
