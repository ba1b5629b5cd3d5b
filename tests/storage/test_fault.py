"""Networks and stores that misbehave: everything arrives whole, or one clear line says why not."""

from __future__ import annotations

import json
import os
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import AZURE_ACCOUNT, AZURE_KEY
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from faulty_proxy import FaultyProxy, faulty_proxy

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots import chunking, download_snapshot, upload_folder
from periflow_sdk.snapshots.progress import Meter, Silence
from periflow_sdk.snapshots.transfer import Tuning
from periflow_sdk.snapshots.wire import TransferFault, Wire
from periflow_server.db.base import utcnow
from periflow_server.storage.key import chunk_key
from periflow_server.storage.opening import open_store

from .conftest import BUCKET, Place, s3_variables

if TYPE_CHECKING:
    from cloud import Endpoint
    from conftest import ServerProcess

    from periflow_server.storage.store import Store

Contents = Callable[[Path], dict[str, bytes]]
OF_STORES = ("drop", "late drop", "delay", "stall", "truncate", "500", "503", "429")
OF_SERVERS = ("drop", "late drop", "delay", "truncate", "502", "503", "429")
QUICK = Tuning(backoff_seconds=0.01, stall_seconds=1)


@pytest.fixture(scope="module")
def bad_store(s3_bucket: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_bucket, *OF_STORES, rate=0.1, seed=1) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def far_server(
    bad_store: FaultyProxy,
    s3_bucket: str,
    server_class: type[ServerProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ServerProcess]:
    """A server whose clients reach its store over a bad network."""
    variables = s3_variables(s3_bucket, "far")
    variables["PERIFLOW_SERVER_STORAGE_PUBLIC_ENDPOINT"] = bad_store.url
    process = server_class(tmp_path_factory.mktemp("far") / "home", variables)
    process.start()
    yield process
    process.close()


def test_all_arrives_whole_when_a_tenth_of_all_requests_fails(
    far_server: ServerProcess,
    bad_store: FaultyProxy,
    tmp_path: Path,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunking, "_PACK_BYTES", 100_000)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"{number}").write_bytes(os.urandom(50_000 + number))
    owner = far_server.client()
    with (
        faulty_proxy(far_server.url, *OF_SERVERS, rate=0.1, seed=2) as road,
        ApiClient(road.url, owner.session.access_token) as client,
    ):
        snapshot = upload_folder(client, owner.project, source, keep_name=False, tuning=QUICK)
        back = tmp_path / "back"
        download_snapshot(client, owner.project, snapshot.id, back, tuning=QUICK)
        assert road.bytes_passed < 1_000_000
        assert sum(road.done.values()) > road.done[""] > 20
    assert contents(back) == contents(source)
    assert set(OF_STORES) <= set(bad_store.done)


def test_a_store_that_asks_for_patience_gets_it(
    far_server: ServerProcess, bad_store: FaultyProxy, make_folder: Callable[..., Path]
) -> None:
    owner = far_server.client()
    source = make_folder(megabytes=1)
    with bad_store.behaving("503", retry_after="1.5", times=1):
        start = time.monotonic()
        tuning = Tuning(backoff_seconds=0.001)
        upload_folder(owner, owner.project, source, keep_name=False, tuning=tuning)
    assert time.monotonic() - start >= 1.5


def test_a_server_that_is_away_for_a_moment_ends_no_transfer(
    far_server: ServerProcess, bad_store: FaultyProxy, make_folder: Callable[..., Path]
) -> None:
    owner = far_server.client()
    source = make_folder(megabytes=1)
    with (
        bad_store.behaving(),
        faulty_proxy(far_server.url) as road,
        ApiClient(road.url, owner.session.access_token, tries=1) as client,
        road.behaving("drop", times=4),
    ):
        upload_folder(client, owner.project, source, keep_name=False, tuning=QUICK)
        assert road.done["drop"] == 4


# A folder has one clock, and Azurite does not say what is wrong.
@pytest.mark.parametrize("place", ["s3", "google"], indirect=True, scope="session")
def test_clocks_that_differ_are_one_clear_line(
    keeper: ServerProcess,
    store: Store,
    make_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner = keeper.client()
    ask = owner.missing_chunks
    past = utcnow() - timedelta(days=2)
    for module in ("s3", "azure", "gcs"):
        monkeypatch.setattr(f"periflow_server.storage.{module}.utcnow", lambda: past)

    def late(project: str, chunks: list[m.ChunkRef]) -> list[m.ChunkLocation]:
        found = ask(project, chunks)
        sizes = {chunk.hash: chunk.size for chunk in chunks}
        for each in found:
            key = chunk_key(owner.project, each.hash)
            signed = store.sign("PUT", key, sizes[each.hash], 3600, replace=False)
            assert signed is not None
            each.url, each.headers = signed.url, dict(signed.headers)
        return found

    monkeypatch.setattr(owner, "missing_chunks", late)
    with pytest.raises(PeriFlowError) as caught:
        upload_folder(owner, owner.project, make_folder(), keep_name=False, tuning=QUICK)
    assert caught.value.code == "store_clock", caught.value
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (403, "<Code>AccessDenied</Code><Message>Request has expired</Message>"),
        (403, "<Code>AccessDenied</Code><Message>Request is not valid yet</Message>"),
        (403, "<Code>RequestTimeTooSkewed</Code>"),
        (400, "<Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"),
        (
            403,
            "<Code>AuthenticationFailed</Code><AuthenticationErrorDetail>Signature not valid in "
            "the specified time frame: Start [] - Expiry []</AuthenticationErrorDetail>",
        ),
    ],
)
def test_an_address_that_is_too_old_is_known_by_what_the_clouds_say(
    endpoint: Endpoint, status: int, text: str
) -> None:
    endpoint.answer = lambda _: (status, f"<Error>{text}</Error>".encode())
    wire = Wire(20, threading.Event())
    with pytest.raises(TransferFault) as caught:
        wire.put(endpoint.url, {}, memoryview(b"chunk"), Meter(Silence(), 5))
    assert caught.value.code == "expired"
    assert not caught.value.is_final


SAID_BY_S3 = [
    (301, "PermanentRedirect", "", "store_region"),
    (400, "AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>", "store_region"),
    (403, "RequestTimeTooSkewed", "", "store_clock"),
    (403, "AccessDenied", "", "store_refused"),
]


@pytest.mark.parametrize(("status", "code", "more", "expected"), SAID_BY_S3)
def test_what_s3_says_to_a_server_that_starts_is_one_clear_line(
    endpoint: Endpoint, status: int, code: str, more: str, expected: str
) -> None:
    """Of what no server here says of itself."""
    endpoint.answer = lambda _: (status, f"<Error><Code>{code}</Code>{more}</Error>".encode())
    error = _refusal({**s3_variables(endpoint.url, "p")})
    assert error.code == expected
    assert str(error.hint).count("\n") == error.message.count("\n") == 0
    assert "eu-west-3" not in more or "eu-west-3" in error.message


def test_clocks_that_differ_from_azures_are_one_clear_line(endpoint: Endpoint) -> None:
    detail = "<AuthenticationErrorDetail>Request date header too old: 'Wed'"
    text = f"<Error><Code>AuthenticationFailed</Code>{detail}</AuthenticationErrorDetail></Error>"
    endpoint.answer = lambda _: (403, text.encode())
    variables = {
        "PERIFLOW_SERVER_STORAGE_URL": f"az://{AZURE_ACCOUNT}/{BUCKET}",
        "PERIFLOW_SERVER_STORAGE_ENDPOINT": endpoint.url,
        "PERIFLOW_SERVER_STORAGE_SECRET": AZURE_KEY,
    }
    assert _refusal(variables).code == "store_clock"


def test_a_wrong_key_or_bucket_is_one_clear_line(place: Place, tmp_path: Path) -> None:
    given = place.variables
    url = given["PERIFLOW_SERVER_STORAGE_URL"]
    if place.kind == "folder":
        assert _refusal({"PERIFLOW_SERVER_STORAGE_URL": "file://relative"}).code == "usage"
        return
    missing = {**given, "PERIFLOW_SERVER_STORAGE_URL": url.replace(BUCKET, "no-such-bucket")}
    assert _refusal(missing).code == "store_not_found"
    assert url.split("/")[2] in _refusal(_with_wrong_key(given, tmp_path)).message
    assert _refusal(_with_wrong_key(given, tmp_path)).code == "store_refused"
    nowhere = {**given, "PERIFLOW_SERVER_STORAGE_ENDPOINT": "http://127.0.0.1:1"}
    assert _refusal(nowhere).code == "store_unavailable"


def test_a_server_without_its_store_does_not_start(
    s3_bucket: str, server_class: type[ServerProcess], tmp_path: Path
) -> None:
    variables = s3_variables(s3_bucket, "p") | {"PERIFLOW_SERVER_STORAGE_SECRET": "wrong"}
    server = server_class(tmp_path / "home", variables)
    with pytest.raises(AssertionError, match="error: The store s3://periflow does not take the"):
        server.start()


def _refusal(variables: dict[str, str]) -> PeriFlowError:
    with pytest.raises(PeriFlowError) as caught:
        open_store(Place("", variables).settings())
    return caught.value


def _with_wrong_key(given: dict[str, str], folder: Path) -> dict[str, str]:
    if "PERIFLOW_SERVER_STORAGE_SECRET" in given:
        wrong = b64encode(os.urandom(32)).decode()
        return {**given, "PERIFLOW_SERVER_STORAGE_SECRET": wrong}
    document = json.loads(Path(given["PERIFLOW_SERVER_STORAGE_KEY_FILE"]).read_text())
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "wrong.json"
    file.write_text(json.dumps({**document, "private_key": other.decode()}))
    return {**given, "PERIFLOW_SERVER_STORAGE_KEY_FILE": str(file)}
