"""One contract for every kind of store, and what clients may do with the addresses it signs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
import pytest
from blake3 import blake3
from faulty_proxy import faulty_proxy
from sqlalchemy import update

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import IntegrityError, PeriFlowError
from periflow_sdk.snapshots import download_snapshot, upload_folder
from periflow_sdk.snapshots.transfer import Tuning
from periflow_server.db.base import Database, utcnow
from periflow_server.db.snapshot import Chunk
from periflow_server.services.collection import collect_chunks
from periflow_server.storage.key import chunk_key, manifest_key
from periflow_server.storage.store import Store

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

    from .conftest import Place

Contents = Callable[[Path], dict[str, bytes]]
QUICK = Tuning(backoff_seconds=0.01, stall_seconds=20)


Admin = Callable[..., tuple[int, str]]


def put(location: m.ChunkLocation, data: bytes, server: str) -> httpx.Response:
    return httpx.put(urljoin(server, location.url), content=data, headers=location.headers)


def test_objects_are_written_read_listed_and_removed(store: Store) -> None:
    keys = [f"logs/attempt/{number}/a b+c.z" for number in range(70)]
    for key in keys:
        store.put_bytes(key, key.encode())
    store.put_bytes(keys[0], b"replaced")
    assert store.get_bytes(keys[0]) == b"replaced"
    with pytest.raises(FileNotFoundError):
        store.get_bytes("logs/attempt/none")
    expected = {key: len(key) for key in keys} | {keys[0]: 8}
    assert dict(store.listing("logs/attempt")) == expected
    for known in (lambda: 1, lambda: 1_000_000):  # by listing, and one by one
        assert store.sizes("logs/attempt", [*keys, "logs/attempt/none"], known) == expected
    store.delete([keys[0], "logs/attempt/none"])
    assert store.sizes("logs/attempt", keys[:2], lambda: 100) == {keys[1]: len(keys[1])}
    store.delete_all("logs/attempt")
    assert not list(store.listing("logs/attempt"))
    store.delete_all("logs/nothing")


def test_a_folder_goes_there_and_back_and_no_bulk_bytes_pass_the_server(
    keeper: ServerProcess,
    make_folder: Callable[..., Path],
    tmp_path: Path,
    contents: Contents,
) -> None:
    owner = keeper.client()
    source = make_folder()
    with faulty_proxy(keeper.url) as proxy, ApiClient(proxy.url, owner.session.access_token) as far:
        snapshot = upload_folder(far, owner.project, source, keep_name=False)
        download_snapshot(far, owner.project, snapshot.id, tmp_path / "back")
        passed = proxy.bytes_passed
    assert contents(tmp_path / "back") == contents(source)
    assert passed < 100_000  # of a folder too: the client of the same user writes into it itself
    usage = owner.storage_usage(owner.project)
    assert usage.used_bytes == snapshot.size


def test_an_address_takes_one_chunk_of_its_size_once(
    place: Place, keeper: ServerProcess, store: Store
) -> None:
    owner = keeper.client()
    data = os.urandom(5000)
    ref = m.ChunkRef(hash=blake3(data).hexdigest(), size=len(data))
    (location,) = owner.missing_chunks(owner.project, [ref])
    key = chunk_key(owner.project, ref.hash)
    if place.kind != "azure":  # its addresses cannot be bound to a size
        assert put(location, data + b"more", keeper.url).status_code in (400, 403, 422)
        assert store.sizes(chunk_key(owner.project, ""), [key], lambda: 1) == {}
    assert put(location, data, keeper.url).status_code in (200, 201)
    assert put(location, os.urandom(5000), keeper.url).status_code in (200, 403, 409, 412)
    assert store.get_bytes(key) == data
    (source,) = owner.chunk_sources(owner.project, [ref])
    assert httpx.get(urljoin(keeper.url, source.url)).content == data
    assert put(source, data, keeper.url).status_code in (400, 403, 405)
    project = source.url.replace(owner.project, keeper.client().project)
    assert project != source.url
    assert httpx.get(urljoin(keeper.url, project)).status_code in (403, 404)


def test_a_chunk_of_the_wrong_size_is_replaced(keeper: ServerProcess, store: Store) -> None:
    owner = keeper.client()
    data = os.urandom(3000)
    ref = m.ChunkRef(hash=blake3(data).hexdigest(), size=len(data))
    owner.missing_chunks(owner.project, [ref])
    store.put_bytes(chunk_key(owner.project, ref.hash), data[:100])
    (location,) = owner.missing_chunks(owner.project, [ref])
    assert put(location, data, keeper.url).status_code in (200, 201)
    assert owner.missing_chunks(owner.project, [ref]) == []


def test_addresses_that_expired_under_way_are_asked_for_again(
    place: Place,
    tmp_path: Path,
    server_class: type[ServerProcess],
    make_folder: Callable[..., Path],
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables = {**place.variables, "PERIFLOW_SERVER_URL_SECONDS": "1"}
    variables["PERIFLOW_SERVER_ORG_APPROVAL"] = "auto"
    server = server_class(tmp_path / "home", variables, is_embedded=False)
    server.start()
    try:
        owner = server.client()
        late: list[str] = []

        def slowed(ask: Callable[..., list[m.ChunkLocation]]) -> Callable[..., object]:
            def call(project: str, chunks: list[m.ChunkRef]) -> list[m.ChunkLocation]:
                found = ask(project, chunks)
                # The first answer lies about for longer than it holds.
                if ask.__name__ not in late:
                    late.append(ask.__name__)
                    time.sleep(2.1)
                return found

            return call

        for name in ("missing_chunks", "chunk_sources"):
            monkeypatch.setattr(owner, name, slowed(getattr(owner, name)))
        source = make_folder()
        snapshot = upload_folder(owner, owner.project, source, keep_name=False, tuning=QUICK)
        back = tmp_path / "back"
        download_snapshot(owner, owner.project, snapshot.id, back, tuning=QUICK)
        assert len(late) == 2
        assert contents(back) == contents(source)
    finally:
        server.close()


def test_an_address_that_the_store_refuses_is_one_clear_line(
    place: Place,
    keeper: ServerProcess,
    make_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = keeper.client()
    ask = owner.missing_chunks

    def spoilt(project: str, chunks: list[m.ChunkRef]) -> list[m.ChunkLocation]:
        found = ask(project, chunks)
        for each in found:
            each.path = None
            each.url = f"{each.url[:-4]}0000" if "ignature" in each.url else each.url[:-4]
        return found

    monkeypatch.setattr(owner, "missing_chunks", spoilt)
    with pytest.raises(PeriFlowError) as caught:
        upload_folder(owner, owner.project, make_folder(), keep_name=False, tuning=QUICK)
    assert caught.value.code == "store_refused", caught.value
    assert "\n" not in caught.value.message


def test_what_nothing_needs_is_collected(
    keeper: ServerProcess, store: Store, database: Database, make_folder: Callable[..., Path]
) -> None:
    owner = keeper.client()
    snapshot = upload_folder(owner, owner.project, make_folder(), keep_name=False)
    loose = os.urandom(2000)
    ref = m.ChunkRef(hash=blake3(loose).hexdigest(), size=len(loose))
    (location,) = owner.missing_chunks(owner.project, [ref])
    put(location, loose, keeper.url)
    before = dict(store.listing(chunk_key(owner.project, "")))
    with database.write() as session:
        past = utcnow() - timedelta(seconds=1)
        of_project = update(Chunk).where(Chunk.project_id == owner.project)
        session.execute(of_project.values(leased_until=past))
    assert collect_chunks(database, store) == 1
    after = dict(store.listing(chunk_key(owner.project, "")))
    assert before.keys() - after.keys() == {chunk_key(owner.project, ref.hash)}
    assert owner.manifest(owner.project, snapshot.id)


def test_a_store_that_lies_is_found_out_and_mended(
    keeper: ServerProcess,
    store: Store,
    make_folder: Callable[..., Path],
    tmp_path: Path,
    contents: Contents,
    admin: Admin,
) -> None:
    owner: Client = keeper.client()
    source = make_folder()
    snapshot = upload_folder(owner, owner.project, source, keep_name=False)
    owner.create_dataset(owner.project, m.DatasetCreate(name="precious", snapshot_id=snapshot.id))
    assert admin(keeper, "storage", "check")[0] == 0

    large, small = sorted(
        store.listing(chunk_key(owner.project, "")), key=lambda item: item[1], reverse=True
    )[:2]
    store.delete([large[0]])
    store.put_bytes(large[0], bytes(large[1]))
    with pytest.raises(IntegrityError):
        download_snapshot(owner, owner.project, snapshot.id, tmp_path / "no", tuning=QUICK)
    store.delete([small[0]])
    code, quick = admin(keeper, "storage", "check", "--quick")
    assert code == 1
    assert small[0] in quick
    assert large[0] not in quick
    code, full = admin(keeper, "storage", "check", "--remove-damaged")
    assert code == 1
    lines = [line for line in full.splitlines() if line.startswith("damaged:")]
    assert len(lines) == 2
    assert f"{small[0]} of " in full
    assert full.count(": missing;") == full.count(": wrong bytes;") == 1
    assert all("dataset precious, version 1" in line for line in lines)

    upload_folder(owner, owner.project, source, keep_name=False)
    assert admin(keeper, "storage", "check")[0] == 0
    download_snapshot(owner, owner.project, snapshot.id, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)

    store.delete([manifest_key(owner.project, snapshot.id)])
    code, lost = admin(keeper, "storage", "check", "--quick")
    assert code == 1
    assert "damaged: manifest" in lost
    upload_folder(owner, owner.project, source, keep_name=False)
    assert admin(keeper, "storage", "check", "--quick")[0] == 0
