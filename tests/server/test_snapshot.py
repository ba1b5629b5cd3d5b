"""Committing manifests."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from blake3 import blake3

from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


@pytest.fixture(scope="module")
def owner(server: ServerProcess) -> Client:
    return server.client()


def test_committed_manifest_comes_back_byte_for_byte(owner: Client, chunks: Any) -> None:
    data = os.urandom(100)
    chunks.put(owner, data)
    document = chunks.manifest("a/b.bin", data)
    snapshot = owner.commit_snapshot(owner.project, document)
    assert snapshot.id == blake3(document).hexdigest()
    assert (snapshot.size, snapshot.file_count) == (100, 1)
    assert owner.manifest(owner.project, snapshot.id) == document


def test_commit_names_the_chunks_that_are_missing(owner: Client, chunks: Any) -> None:
    data = b"never sent"
    with pytest.raises(ConflictError) as caught:
        owner.commit_snapshot(owner.project, chunks.manifest("f", data))
    assert caught.value.code == "chunks_missing"
    assert caught.value.data["missing"] == [chunks.ref(data).hash]
    chunks.put(owner, data)
    assert owner.commit_snapshot(owner.project, chunks.manifest("f", data)).size == len(data)


def test_commit_refuses_a_chunk_whose_size_is_wrong(owner: Client, chunks: Any) -> None:
    data = b"whole content"
    chunks.put(owner, data)
    document = chunks.manifest("f", data).replace(b",13]", b",14]")
    with pytest.raises((ConflictError, InvalidRequestError)):
        owner.commit_snapshot(owner.project, document)


def test_a_snapshot_without_chunks_is_one(owner: Client) -> None:
    assert owner.missing_chunks(owner.project, []) == []
    document = json.dumps({"chunks": [], "entries": [], "version": 1}, separators=(",", ":"))
    assert owner.commit_snapshot(owner.project, document.encode()).size == 0


def test_committing_twice_gives_the_same_snapshot(owner: Client, chunks: Any) -> None:
    first = chunks.snapshot(owner, b"twice")
    again = chunks.snapshot(owner, b"twice")
    assert (again.id, again.size, again.file_count) == (first.id, first.size, first.file_count)
    assert again.created_at >= first.created_at


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", "a//b", "./a", "a\0b", ""])
def test_manifest_that_escapes_is_refused(owner: Client, chunks: Any, path: str) -> None:
    data = b"escape"
    chunks.put(owner, data)
    with pytest.raises(InvalidRequestError) as caught:
        owner.commit_snapshot(owner.project, chunks.manifest(path, data))
    assert caught.value.code == "unsafe_path"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "a/../../b"])
def test_link_that_escapes_is_refused(owner: Client, target: str) -> None:
    entry = {"path": "link", "type": "link", "target": target}
    document = json.dumps(
        {"version": 1, "chunks": [], "entries": [entry]}, sort_keys=True, separators=(",", ":")
    )
    with pytest.raises(InvalidRequestError) as caught:
        owner.commit_snapshot(owner.project, document.encode())
    assert caught.value.code == "unsafe_path"


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b'{"version":2}', b'{"chunks":[],"entries":[],"version":1} ']
)
def test_what_is_no_manifest_is_refused(owner: Client, document: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        owner.commit_snapshot(owner.project, document)
    assert caught.value.code == "bad_manifest"


def test_snapshot_of_another_project_does_not_exist(server: ServerProcess, chunks: Any) -> None:
    first, second = server.client(), server.client()
    snapshot = chunks.snapshot(first, b"private")
    with pytest.raises(NotFoundError) as caught:
        second.manifest(second.project, snapshot.id)
    assert caught.value.code == "snapshot_not_found"


def test_sources_of_a_missing_chunk_are_refused(owner: Client, chunks: Any) -> None:
    with pytest.raises(ConflictError) as caught:
        owner.chunk_sources(owner.project, [chunks.ref(b"not there")])
    assert caught.value.code == "chunks_missing"


def test_embedded_server_names_the_files_of_chunks_and_another_server_does_not(
    server: ServerProcess, start_server: Any, chunks: Any
) -> None:
    ref = chunks.ref(b"where")
    near = server.client()
    (location,) = near.missing_chunks(near.project, [ref])
    assert location.path is not None
    assert location.path.startswith(str(server.data_dir / "storage" / "chunks"))
    far = start_server(is_embedded=False, PERIFLOW_SERVER_ORG_APPROVAL="auto").client()
    assert [where.path for where in far.missing_chunks(far.project, [ref])] == [None]
