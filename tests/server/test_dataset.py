"""Datasets: made of snapshots, found by name or id, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cloud import S3_KEY, S3_SECRET, fill_s3
from sqlalchemy import select

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.errors import ApiError, ConflictError, NotFoundError
from periflow_sdk.snapshots.manifest import FileEntry, Manifest
from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Database
from periflow_server.services.dataset_file import page_of

if TYPE_CHECKING:
    from conftest import ServerProcess


@pytest.fixture
def audit_of(database: Database) -> Callable[[str], list[str]]:
    """Who used credentials in a project."""

    def actors(project_id: str) -> list[str]:
        with database.read() as session:
            query = select(AuditEvent.actor).where(
                AuditEvent.project_id == project_id, AuditEvent.action == "credential.use"
            )
            return list(session.scalars(query))

    return actors


def test_dataset_shows_its_snapshot_and_its_maker(server: ServerProcess, chunks: Any) -> None:
    client = server.client()
    snapshot = chunks.snapshot(client, b"digits")
    body = m.DatasetCreate(name="digits", snapshot_id=snapshot.id, metadata={"k": [1, "é"]})
    dataset = client.create_dataset(client.project, body)
    assert (dataset.size, dataset.file_count) == (6, 1)
    assert (dataset.cloud, dataset.active, dataset.region) == ("fai", True, None)
    assert dataset.metadata == {"k": [1, "é"]}
    assert dataset.created_by == client.username
    assert client.datasets(client.project) == [dataset]
    assert client.dataset(client.project, "digits") == dataset
    assert client.dataset(client.project, dataset.id) == dataset


def test_name_is_unique_in_the_organization(server: ServerProcess, chunks: Any) -> None:
    client = server.client()
    body = m.DatasetCreate(name="one", snapshot_id=chunks.snapshot(client).id)
    client.create_dataset(client.project, body)
    client.project = client.create_project(client.organization, "second").id
    body = m.DatasetCreate(name="one", snapshot_id=chunks.snapshot(client).id)
    with pytest.raises(ConflictError) as caught:
        client.create_dataset(client.project, body)
    assert caught.value.code == "dataset_exists"
    with pytest.raises(ConflictError):
        client.check_dataset_name(client.project, "one")
    client.check_dataset_name(client.project, "two")
    elsewhere = server.client()
    body = m.DatasetCreate(name="one", snapshot_id=chunks.snapshot(elsewhere).id)
    assert elsewhere.create_dataset(elsewhere.project, body).name == "one"


def test_dataset_needs_a_snapshot_of_its_own_project(server: ServerProcess, chunks: Any) -> None:
    client, other = server.client(), server.client()
    foreign = chunks.snapshot(other, b"of another project")
    for snapshot_id in (foreign.id, "0" * 64):
        with pytest.raises(NotFoundError) as caught:
            client.create_dataset(
                client.project, m.DatasetCreate(name="d", snapshot_id=snapshot_id)
            )
        assert caught.value.code == "snapshot_not_found"


def test_deleted_dataset_is_gone_and_its_name_is_free(server: ServerProcess, chunks: Any) -> None:
    client = server.client()
    body = m.DatasetCreate(name="brief", snapshot_id=chunks.snapshot(client).id)
    client.create_dataset(client.project, body)
    client.delete_dataset(client.project, "brief")
    with pytest.raises(NotFoundError) as caught:
        client.dataset(client.project, "brief")
    assert caught.value.code == "dataset_not_found"
    with pytest.raises(NotFoundError):
        client.delete_dataset(client.project, "brief")
    assert client.create_dataset(client.project, body).name == "brief"


def test_new_version_is_what_the_name_means_and_the_old_ones_stay(
    server: ServerProcess, chunks: Any
) -> None:
    client = server.client()
    first, second = (chunks.snapshot(client, data) for data in (b"first", b"second!"))
    made = client.create_dataset(client.project, m.DatasetCreate(name="d", snapshot_id=first.id))
    assert made.version == 1
    body = m.DatasetVersionCreate(snapshot_id=second.id)
    for _ in range(2):  # the same files again are no other version
        now = client.add_dataset_version(client.project, "d", body)
        assert (now.version, now.snapshot_id, now.size) == (2, second.id, 7)
    found = client.dataset_versions(client.project, "d")
    assert [(each.version, each.snapshot_id) for each in found] == [(2, second.id), (1, first.id)]
    old = client.dataset_page(client.project, "d", recursive=True, version=1)
    (file,) = old.items
    assert isinstance(file, m.DatasetFile) and file.size == 5 and file.etag
    with pytest.raises(NotFoundError) as caught:
        client.dataset_page(client.project, "d", version=3)
    assert caught.value.code == "dataset_version_not_found"


def test_metadata_that_no_list_could_show_is_refused(server: ServerProcess, chunks: Any) -> None:
    client = server.client()
    snapshot = chunks.snapshot(client)
    deep = "[" * 300 + "]" * 300
    for number, value in enumerate((deep, "NaN", '"\\ud800"')):
        answer = httpx.post(
            f"{server.url}/api/v1/projects/{client.project}/datasets",
            content=f'{{"name":"n{number}","snapshot_id":"{snapshot.id}","metadata":{{"a":{value}}}}}',
            headers={
                "Authorization": f"Bearer {client.session.access_token}",
                "Content-Type": "application/json",
            },
        )
        assert (answer.status_code, answer.json()["data"]["field"]) == (422, "metadata")
    assert client.datasets(client.project) == []


def test_dataset_gets_another_name_and_other_metadata(server: ServerProcess, chunks: Any) -> None:
    client = server.client()
    for name in ("old", "taken"):
        body = m.DatasetCreate(name=name, snapshot_id=chunks.snapshot(client).id)
        client.create_dataset(client.project, body)
    changed = client.update_dataset(client.project, "old", m.DatasetUpdate(metadata={"a": 1}))
    assert (changed.name, changed.metadata) == ("old", {"a": 1})
    changed = client.update_dataset(client.project, "old", m.DatasetUpdate(name="new"))
    assert (changed.name, changed.metadata) == ("new", {"a": 1})
    for body, code in (
        (m.DatasetUpdate(name="taken"), "dataset_exists"),
        (m.DatasetUpdate(credential_id="key"), "not_linked"),
    ):
        with pytest.raises(ApiError) as caught:
            client.update_dataset(client.project, "new", body)
        assert caught.value.code == code


def test_link_is_looked_into_before_it_is_stored(
    server: ServerProcess, s3_url: str, audit_of: Callable[[str], list[str]]
) -> None:
    client = server.client()
    bucket = f"bucket-{client.username}"
    fill_s3(s3_url, bucket, {"train/a": b"aa", "train/b": b"bbb", "readme": b"r"})
    place = CredentialPlace.of_project(client.project)
    for name, secret in (("right", S3_SECRET), ("wrong", "another-secret")):
        key = m.S3CredentialCreate(
            name=name,
            aws_access_key_id=S3_KEY,
            aws_secret_access_key=secret,
            aws_default_region="us-east-1",
        )
        client.create_credential(place, key, verify=False)

    def link(**changes: Any) -> m.DatasetLinkCreate:
        fields = {"cloud": "s3", "storage_name": bucket, "endpoint_url": s3_url}
        return m.DatasetLinkCreate.model_validate({**fields, "credential_id": "right", **changes})

    for changes, code in (
        ({"credential_id": "wrong"}, "credential_refused"),
        ({"storage_name": "nobody-has-it"}, "bucket_not_found"),
        ({"cloud": "gcs"}, "credential_type"),
        ({"credential_id": "none"}, "credential_not_found"),
        ({"prefix": "train/../../other"}, "invalid_path"),
    ):
        with pytest.raises(ApiError) as caught:
            client.create_dataset(client.project, m.DatasetCreate(name="d", link=link(**changes)))
        assert caught.value.code == code
        assert client.datasets(client.project) == []
    assert len(client.check_link(client.project, link(prefix="train")).items) == 2
    body = m.DatasetCreate(name="d", link=link()).model_dump(mode="json", exclude_none=True)
    headers = {"Authorization": f"Bearer {client.session.access_token}", "Idempotency-Key": "one"}
    url = f"{client.url}/api/v1/projects/{client.project}/datasets"
    twice = [httpx.post(url, json=body, headers=headers, timeout=60) for _ in range(2)]
    assert [each.status_code for each in twice] == [201, 201], twice[1].text
    made = client.dataset(client.project, "d")
    assert twice[1].json()["id"] == made.id
    assert (made.cloud, made.region, made.storage_name) == ("s3", "us-east-1", bucket)
    assert (made.size, made.file_count, made.version, made.active) == (None, None, 1, True)
    assert [file.path for file in client.dataset_files(client.project, "d", page=2)] == [
        "readme",
        "train/a",
        "train/b",
    ]
    (source,) = client.dataset_sources(client.project, "d", ["train/b"])
    assert httpx.get(source.url, trust_env=False).content == b"bbb"
    assert S3_SECRET not in source.url
    with pytest.raises(ApiError) as caught:
        client.update_dataset(client.project, "d", m.DatasetUpdate(credential_id="wrong"))
    assert caught.value.code == "credential_refused"
    with pytest.raises(ConflictError) as caught:
        client.add_dataset_version(client.project, "d", m.DatasetVersionCreate(snapshot_id="0"))
    assert caught.value.code == "dataset_linked"
    uses = audit_of(client.project)
    assert uses and all(each == f"user {client.username}" for each in uses)


def test_pages_of_a_manifest_have_each_entry_once() -> None:
    names = [f"{folder}/{n:02}" for folder in ("a", "a b", "b/c") for n in range(5)] + ["a.txt"]
    files = [FileEntry(name, 1, 0o644, "0" * 64, ()) for name in sorted(names)]
    manifest = Manifest((), tuple(files))
    for recursive, folder, expected in (
        (True, "", sorted(names)),
        (True, "b", [name for name in names if name.startswith("b/")]),
        (False, "", ["a", "a b", "a.txt", "b"]),
        (False, "b", ["b/c"]),
        (False, "nothing", []),
    ):
        found: list[str] = []
        cursor = None
        while True:
            page = page_of(manifest, folder, recursive=recursive, cursor=cursor, limit=3)
            found += [entry.path for entry in page.items]
            if (cursor := page.next_cursor) is None:
                break
        assert found == expected
