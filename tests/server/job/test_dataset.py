"""Datasets in jobs: pinned when the job is submitted, opened for the job that names them alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cloud import S3_KEY, S3_SECRET, Endpoint

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.errors import ApiError, ConflictError, ForbiddenError, NotFoundError
from periflow_server.db.base import Database, utcnow
from periflow_server.db.reference import forget_unused_snapshots
from periflow_server.db.schema import import_tables

LISTING = b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"


def link(desk: Any, endpoint: Endpoint, name: str) -> m.Dataset:
    """A dataset that is linked to a bucket of its own at a store of this test."""
    endpoint.answer = lambda _: (200, LISTING)
    key = m.S3CredentialCreate(
        name=f"key-of-{name}",
        aws_access_key_id=S3_KEY,
        aws_secret_access_key=S3_SECRET,
        aws_default_region="eu-west-1",
    )
    place = CredentialPlace.of_project(desk.project)
    desk.api.create_credential(place, key, verify=False)
    body = m.DatasetLinkCreate(
        cloud="s3", storage_name="bucket", endpoint_url=endpoint.url, credential_id=key.name
    )
    created: m.Dataset = desk.api.create_dataset(
        desk.project, m.DatasetCreate(name=name, link=body)
    )
    return created


def refusal(call: Any, kind: type[ApiError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert S3_SECRET not in f"{caught.value.message}{caught.value.data}"
    return caught.value.code


def test_job_that_reads_from_the_hub_is_in_nobodys_way(desk: Any, chunks: Any) -> None:
    snapshot = chunks.snapshot(desk.api, b"not of the hub").id
    desk.api.create_dataset(desk.project, m.DatasetCreate(name="mnist", snapshot_id=snapshot))
    desk.submit(data=[{"name": "huggingface:glue", "mount_path": "/data"}])
    assert desk.api.dataset(desk.project, "mnist").used_by == []
    import_tables()
    database = Database(desk.server.database_url)
    with database.write() as session:
        assert forget_unused_snapshots(session, utcnow() - timedelta(days=1), 1) == []
    database.close()


def test_job_reads_the_version_it_was_submitted_with(desk: Any, chunks: Any) -> None:
    first, second = (chunks.snapshot(desk.api, data).id for data in (b"first", b"second"))
    desk.api.create_dataset(desk.project, m.DatasetCreate(name="digits", snapshot_id=first))
    job = desk.submit(data=[{"name": "digits", "mount_path": "/data"}])
    body = m.DatasetVersionCreate(snapshot_id=second)
    assert desk.api.add_dataset_version(desk.project, "digits", body).version == 2
    later = desk.submit(data=[{"name": "digits", "mount_path": "/data"}])
    desk.api.update_dataset(desk.project, "digits", m.DatasetUpdate(name="numbers"))
    for submitted, version, snapshot in ((job, 1, first), (later, 2, second)):
        api = desk.agent(submitted).api
        (mount,) = api.assignment().data
        assert (mount.version, mount.snapshot_id) == (version, snapshot)
        (shown,) = desk.api.job(desk.project, submitted.id).datasets
        assert (shown.name, shown.version, shown.snapshot_id) == ("digits", version, snapshot)
        access = api.dataset_access("digits")
        assert (access.snapshot_id, access.dataset.version) == (snapshot, version)
        assert access.dataset.name == "numbers" and access.secret is None and access.link is None
    assert desk.api.dataset(desk.project, "numbers").used_by == [job.number, later.number]
    desk.api.delete_dataset(desk.project, "numbers")
    assert desk.agent(job).api.dataset_access("digits").snapshot_id == first


def test_job_gets_the_key_of_the_linked_dataset_it_names_and_of_no_other(
    desk: Any, endpoint: Endpoint
) -> None:
    named, other = link(desk, endpoint, "named"), link(desk, endpoint, "other")
    job = desk.submit(data=[{"name": "named", "mount_path": "/data"}])
    api = desk.agent(job).api
    (mount,) = api.assignment().data
    assert (mount.dataset_id, mount.snapshot_id) == (named.id, None)
    access = api.dataset_access("named")
    assert access.link is not None and access.secret is not None
    assert (access.link.storage_name, access.link.endpoint_url) == ("bucket", endpoint.url)
    assert access.link.region == "eu-west-1"
    assert access.secret["aws_secret_access_key"].get_secret_value() == S3_SECRET
    assert S3_SECRET not in repr(access)
    assert refusal(lambda: api.dataset_access("other"), ForbiddenError) == "dataset_not_named"
    # Nor by the way of people: what its token may read of the project is not another's bucket.
    assert api.dataset_sources(desk.project, "named", ["a"])[0].url.startswith(endpoint.url)
    for call in (
        lambda: api.dataset_sources(desk.project, other.id, ["a"]),
        lambda: api.dataset_page(desk.project, "other"),
    ):
        assert refusal(call, ForbiddenError) == "dataset_not_named"


def test_linked_dataset_that_jobs_read_is_deleted_by_force_only(
    desk: Any, endpoint: Endpoint
) -> None:
    link(desk, endpoint, "read")
    job = desk.submit(data=[{"name": "read", "mount_path": "/data"}])
    with pytest.raises(ConflictError) as caught:
        desk.api.delete_dataset(desk.project, "read")
    assert (caught.value.code, caught.value.data["used_by"]) == ("dataset_in_use", [job.number])
    desk.api.delete_dataset(desk.project, "read", force=True)
    agent = desk.agent(job).api
    assert refusal(lambda: agent.dataset_access("read"), NotFoundError) == "dataset_not_found"


def test_credential_says_which_datasets_it_opens(desk: Any, endpoint: Endpoint) -> None:
    link(desk, endpoint, "opened")
    place = CredentialPlace.of_project(desk.project)
    uses = desk.api.credential(place, "key-of-opened").used_by
    assert [(use.kind, use.name) for use in uses] == [("dataset", "opened")]
    delete = lambda: desk.api.delete_credential(place, "key-of-opened")  # noqa: E731
    assert refusal(delete, ConflictError) == "credential_in_use"
    desk.api.delete_credential(place, "key-of-opened", force=True)
    page = lambda: desk.api.dataset_page(desk.project, "opened")  # noqa: E731
    assert refusal(page, NotFoundError) == "credential_not_found"
    data = [{"name": "opened", "mount_path": "/data"}]
    assert refusal(lambda: desk.submit(data=data), NotFoundError) == "credential_not_found"
