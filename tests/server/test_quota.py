"""How much a project may store: who says so, and what a full project refuses."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from people import join_project
from sqlalchemy import update

from periflow_sdk.errors import ConflictError, ForbiddenError
from periflow_sdk.snapshots import upload_files
from periflow_server.db.base import Database, utcnow
from periflow_server.db.schema import import_tables
from periflow_server.db.snapshot import Chunk
from periflow_server.services.collection import collect_chunks
from periflow_server.storage.folder import FolderStore

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

Send = Callable[["Client", int], int]
Admin = Callable[..., tuple[int, str]]


@pytest.fixture
def send(tmp_path: Path) -> Send:
    """Uploads so many new bytes; how many the project has stored then."""

    def upload(client: Client, size: int) -> int:
        file = tmp_path / "file"
        file.write_bytes(os.urandom(size))
        upload_files(client, client.project, {"file": file})
        return client.storage_usage(client.project).used_bytes

    return upload


def test_a_full_project_takes_nothing_new_and_says_so(
    server: ServerProcess, send: Send, tmp_path: Path
) -> None:
    owner = server.client()
    assert owner.storage_usage(owner.project).quota_bytes is None
    assert owner.set_quota(owner.project, 5_000_000).quota_bytes == 5_000_000
    assert send(owner, 3_000_000) == 3_000_000
    kept = tmp_path / "kept"
    (tmp_path / "file").rename(kept)
    with pytest.raises(ConflictError) as refused:
        send(owner, 2_000_001)
    assert refused.value.code == "storage_quota_exceeded"
    assert "may store 5.0 MB and has 3.0 MB; 2.0 MB more do not fit" in refused.value.message
    assert "an owner of the organization" in str(refused.value.hint)
    assert owner.storage_usage(owner.project).used_bytes == 3_000_000
    upload_files(owner, owner.project, {"again": kept})  # what is there takes no room
    owner.set_quota(owner.project, None)
    assert send(owner, 2_000_001) == 5_000_001


def test_what_a_refused_upload_had_sent_is_let_go_soon(
    server: ServerProcess, send: Send, tmp_path: Path
) -> None:
    owner = server.client()
    owner.set_quota(owner.project, 30_000_000)
    files = {}
    for number in range(4):
        files[f"{number}"] = tmp_path / f"{number}"
        files[f"{number}"].write_bytes(os.urandom(16_000_000))
    with pytest.raises(ConflictError):
        upload_files(owner, owner.project, files)
    import_tables()
    database = Database(server.database_url)
    try:
        soon = utcnow() + timedelta(minutes=11)
        with database.write() as session:
            late = Chunk.project_id == owner.project, Chunk.leased_until > soon
            assert session.query(Chunk).where(*late).count() == 0
            ended = update(Chunk).where(Chunk.project_id == owner.project)
            session.execute(ended.values(leased_until=utcnow() - timedelta(seconds=1)))
        collect_chunks(database, FolderStore(server.data_dir / "storage"))
    finally:
        database.close()
    assert send(owner, 29_000_000) == 29_000_000


@pytest.mark.sqlite
def test_the_lesser_of_both_limits_counts(server: ServerProcess, send: Send, admin: Admin) -> None:
    owner = server.client()
    place = f"{owner.username}-org/project"
    assert admin(server, "quota", place, "2MB")[1].splitlines()[1].split("\t") == [
        place,
        "0 B",
        "2.0 MB",
    ]
    assert owner.set_quota(owner.project, 3_000_000).quota_bytes == 2_000_000
    with pytest.raises(ConflictError):
        send(owner, 2_500_000)
    assert admin(server, "quota", place, "none")[0] == 0
    assert send(owner, 2_500_000) >= 2_500_000
    assert owner.storage_usage(owner.project).quota_bytes == 3_000_000
    code, text = admin(server, "quota", "nobody/nothing", "1GB")
    assert code == 3
    assert "There is no project nobody/nothing" in text
    assert admin(server, "quota", place, "plenty")[0] == 2


def test_only_owners_of_the_organization_set_it(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "admin")
    with pytest.raises(ForbiddenError):
        member.set_quota(owner.project, 1)
    assert member.storage_usage(owner.project).quota_bytes is None


def test_a_server_has_a_quota_for_all_its_projects(
    start_server: Callable[..., ServerProcess], send: Send
) -> None:
    owner = start_server(PERIFLOW_SERVER_PROJECT_QUOTA="1MB").client()
    assert owner.storage_usage(owner.project).quota_bytes == 1_000_000
    with pytest.raises(ConflictError):
        send(owner, 1_000_001)
