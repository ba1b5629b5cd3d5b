"""Buckets of the three clouds: lists, signed addresses, and what is wrong, on real stores."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cloud import AZURE_ACCOUNT, AZURE_KEY, S3_KEY, S3_SECRET, Asked, Endpoint, fill_azure, fill_s3
from google_store import Google, fill_gcs

from periflow_sdk.api import models as m
from periflow_sdk.errors import PeriFlowError
from periflow_server.bucket import Place, open_bucket
from periflow_server.bucket import page as listing
from periflow_server.db.base import utcnow
from periflow_server.settings import Settings

NAME = "cifar-100"
FILES = {
    "readme.txt": b"hello",
    "sets/a b+c/ä.bin": b"odd",
    "sets/other/deep/x": b"",
    "sets/test": b"t" * 31,
    "sets/train": b"t" * 155,
    "setsx": b"beside",
    **{f"many/{n:03}": b"x" for n in range(25)},
}
# How consoles show an empty folder, and keys that are no paths of a file system.
ODD = {"marker/": b"", "sets//double": b"no path"}


@pytest.fixture(scope="module", params=["s3", "azure-blob", "gcs"])
def linked(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Settings]]:
    """A filled bucket of a cloud, and settings that find it."""
    cloud = request.param
    settings: dict[str, Any] = {}
    if cloud == "s3":
        url = request.getfixturevalue("s3_url")
        fill_s3(url, NAME, FILES)
        values = s3_values()
        settings["s3_url"] = url
    elif cloud == "azure-blob":
        url = request.getfixturevalue("azure_url")
        fill_azure(url, NAME, {**FILES, **ODD})
        values = {"storage_account_name": AZURE_ACCOUNT, "storage_account_key": AZURE_KEY}
        settings["azure_blob_url"] = url
    else:
        google: Google = request.getfixturevalue("google")
        fill_gcs(google, NAME, FILES)
        values = {"service_account_key": google.key_file}
        settings |= {"gcs_url": google.url, "google_token_url": google.token_url}
    place = Place(
        cloud=cloud,
        storage_name=NAME,
        region="us-east-1",
        prefix="",
        endpoint_url=None,
        credential="key",
        verified_at=None,
        values=values,
    )
    yield place, Settings.read(**settings)


def s3_values(key: str = S3_KEY, secret: str = S3_SECRET) -> dict[str, str]:
    return {
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
        "aws_default_region": "us-east-1",
    }


def pages(
    linked: tuple[Place, Settings], folder: str = "", *, recursive: bool, limit: int
) -> list[m.DatasetPage]:
    bucket = open_bucket(*linked)
    found = [bucket.page(folder, recursive=recursive, cursor=None, limit=limit)]
    while (cursor := found[-1].next_cursor) is not None:
        found.append(bucket.page(folder, recursive=recursive, cursor=cursor, limit=limit))
    return found


def paths(found: list[m.DatasetPage]) -> list[str]:
    return [entry.path for entry in itertools.chain(*(page.items for page in found))]


def test_files_come_page_by_page_each_once(linked: tuple[Place, Settings]) -> None:
    found = pages(linked, recursive=True, limit=7)
    assert paths(found) == sorted(FILES)
    assert len(found) >= 4 and all(len(page.items) <= 7 for page in found)
    sizes = {entry.path: entry.size for page in found for entry in page.items}
    assert sizes == {path: len(data) for path, data in FILES.items()}
    assert all(entry.etag for page in found for entry in page.items)


def test_folder_shows_its_own_files_and_folders(linked: tuple[Place, Settings]) -> None:
    found = pages(linked, "sets", recursive=False, limit=100)
    assert [(each.kind, each.path) for page in found for each in page.items] == [
        ("folder", "sets/a b+c"),
        ("folder", "sets/other"),
        ("file", "sets/test"),
        ("file", "sets/train"),
    ]
    root = [path for path in paths(pages(linked, recursive=False, limit=2)) if path != "marker"]
    assert root == ["many", "readme.txt", "sets", "setsx"]


def test_prefix_is_the_root_of_the_dataset(linked: tuple[Place, Settings]) -> None:
    place, settings = linked
    below = dataclasses.replace(place, prefix="/sets/"), settings
    assert paths(pages(below, recursive=True, limit=100)) == [
        "a b+c/ä.bin",
        "other/deep/x",
        "test",
        "train",
    ]
    url = open_bucket(*below).sign(["test"], utcnow() + timedelta(minutes=5))[0]
    assert httpx.get(url, trust_env=False).content == FILES["sets/test"]


def test_signed_address_reads_its_file_and_no_other(linked: tuple[Place, Settings]) -> None:
    wanted = ["sets/a b+c/ä.bin", "readme.txt"]
    urls = open_bucket(*linked).sign(wanted, utcnow() + timedelta(minutes=5))
    for path, url in zip(wanted, urls, strict=True):
        answer = httpx.get(url, trust_env=False)
        assert (answer.status_code, answer.content) == (200, FILES[path])
    other = urls[1].replace("readme.txt", "sets/train")
    assert httpx.get(other, trust_env=False).status_code == 403
    assert not any(S3_SECRET in url or AZURE_KEY in url for url in urls)


def test_missing_bucket_and_wrong_key_have_codes(linked: tuple[Place, Settings]) -> None:
    place, settings = linked
    missing = dataclasses.replace(place, storage_name="nobody-has-this")
    assert fault(missing, settings) == "bucket_not_found"
    if place.cloud == "s3":
        values = s3_values(secret="another")
    elif place.cloud == "azure-blob":
        values = {**place.values, "storage_account_key": AZURE_KEY.replace("Eby8", "AAAA")}
    else:
        values = {"service_account_key": strangers_key(place.values["service_account_key"])}
    wrong = dataclasses.replace(place, values=values)
    assert fault(wrong, settings) == "credential_refused"
    revoked = dataclasses.replace(wrong, verified_at=utcnow())
    assert fault(revoked, settings) == "credential_revoked"


def fault(place: Place, settings: Settings) -> str:
    """The code of what is wrong, said in one line without secrets."""
    with pytest.raises(PeriFlowError) as caught:
        open_bucket(place, settings).page("", recursive=True, cursor=None, limit=1)
    told = f"{caught.value.message}{caught.value.hint}"
    assert "\n" not in told
    assert not any(value in told for value in place.values.values() if len(value) > 12)
    return caught.value.code


def strangers_key(key_file: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return json.dumps({**json.loads(key_file), "private_key": pem.decode()})


def test_keys_that_are_no_paths_are_left_out_and_counted(azure_url: str) -> None:
    fill_azure(azure_url, "odd-keys", ODD | {"fine": b"1"})
    values = {"storage_account_name": AZURE_ACCOUNT, "storage_account_key": AZURE_KEY}
    place = Place("azure-blob", "odd-keys", None, "", None, "key", None, values)
    bucket = open_bucket(place, Settings.read(azure_blob_url=azure_url))
    page = bucket.page("", recursive=True, cursor=None, limit=100)
    assert ([each.path for each in page.items], page.left_out) == (["fine"], 1)


def s3_at(url: str, **more: Any) -> tuple[Place, Settings]:
    place = Place("s3", "bucket", "us-east-1", "", None, "key", None, s3_values())
    return dataclasses.replace(place, **more), Settings.read(s3_url=url)


def says(code: str, extra: str = "") -> bytes:
    return f"<Error><Code>{code}</Code>{extra}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (301, says("PermanentRedirect", "<Endpoint>x</Endpoint>"), "wrong_region"),
        (400, says("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>"), "wrong_region"),
        (403, says("RequestTimeTooSkewed"), "clock_skew"),
        (403, says("AccessDenied"), "access_denied"),
        (403, says("InvalidAccessKeyId"), "credential_refused"),
        (404, says("NoSuchBucket"), "bucket_not_found"),
        (503, says("SlowDown"), "storage_busy"),
        (200, b"<html>a proxy's page", "storage_unreachable"),
        (200, b"<x><Contents><Key>k</Key><Size>much</Size></Contents></x>", "storage_unreachable"),
        (200, b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "storage_unreachable"),
        (418, b"", "storage_unreachable"),
    ],
)
def test_what_no_store_here_says_has_a_code_too(
    endpoint: Endpoint, status: int, body: bytes, code: str
) -> None:
    endpoint.answer = lambda _: (status, body)
    assert fault(*s3_at(endpoint.url)) == code


def test_region_of_the_bucket_is_told(endpoint: Endpoint) -> None:
    endpoint.answer = lambda _: (400, says("AuthorizationHeaderMalformed", "<Region>eu-1</Region>"))
    with pytest.raises(PeriFlowError) as caught:
        open_bucket(*s3_at(endpoint.url)).page("", recursive=True, cursor=None, limit=1)
    assert "eu-1" in caught.value.message and caught.value.hint == "Give -r eu-1."


def test_clock_that_is_off_is_not_taken_for_a_wrong_key(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from periflow_server.bucket import fault as faults
    from periflow_server.bucket import s3

    def late() -> Any:
        return utcnow() - timedelta(hours=2)

    monkeypatch.setattr(s3, "utcnow", late)
    monkeypatch.setattr(faults, "utcnow", late)
    assert fault(*s3_at(s3_url)) == "clock_skew"


def test_store_that_is_busy_for_a_moment_is_asked_again(endpoint: Endpoint) -> None:
    listing = (
        b"<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>"
    )
    answers = iter([(503, b""), (200, listing)])
    endpoint.answer = lambda _: next(answers)
    page = open_bucket(*s3_at(endpoint.url)).page("", recursive=True, cursor=None, limit=1)
    assert [each.path for each in page.items] == ["a"]


def test_nobody_there_is_one_line() -> None:
    assert fault(*s3_at("http://127.0.0.1:1")) == "storage_unreachable"


def test_endpoint_in_the_servers_own_network_is_refused(endpoint: Endpoint) -> None:
    def answer(_: Asked) -> tuple[int, Any]:
        raise AssertionError("asked")

    endpoint.answer = answer
    place, settings = s3_at("https://unused.example", endpoint_url=endpoint.url)
    assert fault(place, settings) == "address_refused"
    assert endpoint.asked == []
    metadata = dataclasses.replace(place, endpoint_url="http://169.254.169.254")
    lenient = settings.model_copy(update={"private_addresses": True})
    assert fault(metadata, lenient) == "address_refused"
    unencrypted = dataclasses.replace(place, endpoint_url="http://1.1.1.1")
    assert fault(unencrypted, settings) == "invalid_endpoint"
    for url in ("http://", "https://user:pass@host", "ftp://host"):
        assert fault(dataclasses.replace(place, endpoint_url=url), settings) in (
            "invalid_endpoint",
            "host_unknown",
        )


def test_listing_is_bounded_by_what_was_asked_for(endpoint: Endpoint) -> None:
    """A bucket without end costs no more than the page."""

    def answer(asked: Asked) -> tuple[int, bytes]:
        most = int(asked.path.partition("max-keys=")[2].partition("&")[0])
        start = len(endpoint.asked) * 1000
        keys = "".join(
            f"<Contents><Key>k{start + n:09}</Key><Size>1</Size></Contents>" for n in range(most)
        )
        return 200, (
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
            f"</NextContinuationToken>{keys}</ListBucketResult>"
        ).encode()

    endpoint.answer = answer
    page = open_bucket(*s3_at(endpoint.url)).page("", recursive=True, cursor=None, limit=2500)
    assert len(page.items) == 2500 and page.next_cursor == "t"
    assert len(endpoint.asked) == 3


def test_service_that_names_no_files_for_ever_does_not_keep_the_server(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_SECONDS", 0.0)
    endpoint.answer = lambda _: (
        200,
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
        b"</NextContinuationToken><Contents><Key>folder/</Key></Contents></ListBucketResult>",
    )
    page = open_bucket(*s3_at(endpoint.url)).page("", recursive=True, cursor=None, limit=10)
    assert (page.items, page.next_cursor, len(endpoint.asked)) == ([], "t", 1)
