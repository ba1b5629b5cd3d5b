"""Datasets: made of snapshots, found by name or id, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from conftest import ServerProcess


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
