"""Datasets in buckets of three clouds: read as they were listed, or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from cloud import AZURE_ACCOUNT, AZURE_KEY, S3_KEY, S3_SECRET, fill_azure, fill_s3
from google_store import fill_gcs
from obstore.store import S3Store
from tls_relay import tls_relay

import periflow_sdk as pf
from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.data import Dataset
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.fetcher import Fetcher
from periflow_sdk.data.fetchprocess import Span
from periflow_sdk.data.link import address, identity
from periflow_sdk.data.linked import LinkedSource
from periflow_sdk.data.quicks3 import QuickS3
from periflow_sdk.data.source import DataFile
from periflow_sdk.data.storebucket import StoreBucket

S3_SECRETS = {
    "aws_access_key_id": S3_KEY,
    "aws_secret_access_key": S3_SECRET,
    "aws_default_region": "us-east-1",
}
LARGE = os.urandom(17 * 1024 * 1024)  # in two parts
FILES = {
    "in/a b.txt": b"blank",
    "in/sub/ü%20x#y?.txt": b"odd",
    "in/empty": b"",
    "in/large.bin": LARGE,
    "outside.txt": b"not of the dataset",
}
EXPECTED = {key.removeprefix("in/"): data for key, data in FILES.items() if key[:3] == "in/"}


def put(url: str, bucket: str, key: str, data: bytes) -> None:
    store = S3Store(
        bucket,
        endpoint=url,
        access_key_id=S3_KEY,
        secret_access_key=S3_SECRET,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    obstore.put(store, key, data)


def opened(link: m.DatasetLink, secret: dict[str, str], cache: Path) -> Dataset:
    source = LinkedSource(
        identity(link, secret), Fetcher(link, secret), Cache(cache), address(link, secret)
    )
    return Dataset("linked", source)


def linked(cloud: Any, bucket: str, url: str, prefix: str = "in/") -> m.DatasetLink:
    return m.DatasetLink(
        cloud=cloud, storage_name=bucket, prefix=prefix, endpoint_url=url, credential_id="key"
    )


@pytest.fixture
def bucket() -> str:
    return f"bucket-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["s3", "azure-blob", "gcs"])
def place(request: Any, bucket: str) -> tuple[m.DatasetLink, dict[str, str]]:
    """A bucket of each cloud with the files, and what opens it."""
    if request.param == "s3":
        url = request.getfixturevalue("s3_url")
        fill_s3(url, bucket, FILES)
        return linked("s3", bucket, url), S3_SECRETS
    if request.param == "azure-blob":
        url = request.getfixturevalue("azure_url")
        fill_azure(url, bucket, FILES)
        secret = {"storage_account_name": AZURE_ACCOUNT, "storage_account_key": AZURE_KEY}
        return linked("azure-blob", bucket, url), secret
    google = request.getfixturevalue("google")
    fill_gcs(google, bucket, FILES)
    key = json.loads(google.key_file) | {"token_uri": google.token_url}
    return linked("gcs", bucket, google.url), {"service_account_key": json.dumps(key)}


def test_objects_of_each_cloud_are_read_in_every_way(place: Any, tmp_path: Path) -> None:
    dataset = opened(*place, tmp_path)
    paths = [file.path for file in dataset.files]
    assert paths == sorted(EXPECTED)
    assert dict(zip(paths, dataset.read(paths), strict=True)) == EXPECTED
    assert dataset.read_range("large.bin", 5, 1005) == LARGE[5:1005]
    assert dataset.fetch("large.bin").read_bytes() == LARGE
    assert dataset.fetch("a b.txt").name == "a b.txt"
    root = dataset.path
    there = {p.relative_to(root).as_posix(): p for p in root.rglob("*") if p.is_file()}
    assert {path: file.read_bytes() for path, file in there.items()} == EXPECTED
    again = opened(*place, tmp_path)
    assert again.path == root and again.fetch("empty") == root / "empty"


def quickly_read(link: m.DatasetLink, secret: dict[str, str]) -> dict[str, bytes | None]:
    """The small objects, in the quick way alone; None for those that do not come so."""

    async def read_all() -> dict[str, bytes | None]:
        bucket = StoreBucket(link.model_dump(mode="json"), secret)
        found = [row for row in await bucket.list() if 0 < row[1] < 1_000_000]
        spans = [Span(path, etag, 0, size) for path, size, etag in found]
        contents = zip(spans, await bucket.read_quickly(spans), strict=True)
        return {span.path: each if each is None else bytes(each) for span, each in contents}

    return asyncio.run(read_all())


SMALL = {path: data for path, data in EXPECTED.items() if 0 < len(data) < 1_000_000}


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_small_objects_come_the_quick_way(place: Any) -> None:
    assert quickly_read(*place) == SMALL


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_small_objects_come_the_quick_way_over_tls_from_whom_the_user_trusts(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, secret = place
    certificate = tmp_path / "relay.pem"
    with tls_relay(int(link.endpoint_url.rpartition(":")[2]), certificate) as url:
        secure = link.model_copy(update={"endpoint_url": url})
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert quickly_read(secure, secret) == SMALL
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nobody.pem"))
        quick = QuickS3(url, "us-east-1", link.storage_name, link.prefix or "", secret)
        assert asyncio.run(quick.read([Span("a b.txt", None, 0, 5)])) == [None]


def test_others_read_it_by_its_address(s3_url: str, bucket: str, tmp_path: Path) -> None:
    fill_s3(s3_url, bucket, FILES)
    dataset = opened(linked("s3", bucket, s3_url), S3_SECRETS, tmp_path)
    assert dataset.url == f"s3://{bucket}/in"
    with dataset.fs.open(f"{dataset.url}/a b.txt") as file:
        assert file.read() == b"blank"


def test_changed_object_is_refused_and_read_anew_at_the_next_open(
    s3_url: str, bucket: str, tmp_path: Path
) -> None:
    fill_s3(s3_url, bucket, {"x": b"old", "y": b"same"})
    link = linked("s3", bucket, s3_url, "")
    dataset = opened(link, S3_SECRETS, tmp_path)
    kept = dataset.fetch("y")
    put(s3_url, bucket, "x", b"new")
    for read in (lambda: dataset.read(["x"]), lambda: dataset.fetch("x"), lambda: dataset.path):
        with pytest.raises(pf.PeriFlowError) as caught:
            read()
        assert caught.value.code == "dataset_changed" and "x is not what it was" in str(
            caught.value
        )
    anew = opened(link, S3_SECRETS, tmp_path)
    assert anew.read(["x"]) == [b"new"] and anew.fetch("y") == kept
    root = anew.path
    put(s3_url, bucket, "x", b"newest")
    newest = opened(link, S3_SECRETS, tmp_path).path
    assert (newest / "x").read_bytes() == b"newest" and (root / "x").read_bytes() == b"new"
    assert (newest / "y").samefile(root / "y") and (root / "y").samefile(kept)


def test_wrong_key_and_missing_bucket_are_told_in_a_line_and_an_empty_folder_is_one(
    s3_url: str, bucket: str, tmp_path: Path
) -> None:
    link = linked("s3", bucket, s3_url, "")
    with pytest.raises(pf.PeriFlowError) as missing:
        _ = opened(link, S3_SECRETS, tmp_path).files
    assert f"{bucket} cannot be read (NoSuchBucket)" in missing.value.message
    fill_s3(s3_url, bucket, {"x": b"old"})
    nothing = opened(linked("s3", bucket, s3_url, "no-such-folder/"), S3_SECRETS, tmp_path)
    assert list(nothing.files) == list(nothing.path.iterdir()) == []
    with pytest.raises(pf.PeriFlowError) as wrong:
        _ = opened(link, S3_SECRETS | {"aws_secret_access_key": "wrong"}, tmp_path).files
    assert wrong.value.code == "bucket_refused" and "wrong" not in wrong.value.message


FETCH = """
    import json, sys
    from pathlib import Path
    from periflow_sdk.api import models as m
    from periflow_sdk.data.cache import Cache
    from periflow_sdk.data.fetcher import Fetcher
    from periflow_sdk.data.linked import LinkedSource
    link, secret = m.DatasetLink(**json.loads(sys.argv[1])), json.loads(sys.argv[2])
    source = LinkedSource("i", Fetcher(link, secret), Cache(Path(sys.argv[3])), ("", {}))
    (file,) = source.files()
    print(source.fetch(file), flush=True)
"""


def test_names_that_are_no_paths_do_not_keep_the_others_from_being_read(
    azure_url: str, bucket: str, tmp_path: Path
) -> None:
    fill_azure(azure_url, bucket, {"in/a//b": b"odd", "in/fine": b"fine", "in/mark/": b""})
    link = linked("azure-blob", bucket, azure_url)
    secret = {"storage_account_name": AZURE_ACCOUNT, "storage_account_key": AZURE_KEY}
    reader = Fetcher(link, secret, lambda: [DataFile("fine", 4)])
    source = LinkedSource("i", reader, Cache(tmp_path), ("", {}))
    with pytest.warns(UserWarning, match="can be no paths of files. They are left out"):
        files = source.files()
    assert source.read(files) == [b"fine"]


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_download_goes_on_and_processes_share_it(
    s3_url: str, bucket: str, tmp_path: Path
) -> None:
    content = os.urandom(8 * 1024 * 1024) * 16
    fill_s3(s3_url, bucket, {"weights.bin": content})
    link = linked("s3", bucket, s3_url, "").model_dump_json()
    arguments = (link, json.dumps(S3_SECRETS), str(tmp_path))
    killed = start(FETCH, *arguments)
    states: list[Path] = []
    while not (states and states[0].read_bytes().count(b"\n") > 2):
        assert killed.poll() is None, "it was faster than this test"
        states = list(tmp_path.glob("units/*/*/.weights.bin.parts"))
    killed.kill()
    killed.wait(90)
    (state,) = states
    before = state.read_bytes().count(b"\n") - 1
    assert before < 8
    part = state.with_name(".weights.bin.part").stat()
    outputs = [
        process.communicate(timeout=200)[0]
        for process in [start(FETCH, *arguments), start(FETCH, *arguments)]
    ]
    assert outputs[0] == outputs[1]
    path = Path(outputs[0].strip())
    assert path.stat().st_ino == part.st_ino  # the same file, filled up
    assert path.read_bytes() == content


WORKERS = """
    import json, sys
    from pathlib import Path
    from torch.utils.data import DataLoader, Dataset
    from periflow_sdk.api import models as m
    from periflow_sdk.data.cache import Cache
    from periflow_sdk.data.fetcher import Fetcher
    from periflow_sdk.data.linked import LinkedSource
    link, secret = m.DatasetLink(**json.loads(sys.argv[1])), json.loads(sys.argv[2])
    source = LinkedSource("i", Fetcher(link, secret), Cache(Path(sys.argv[3])), ("", {}))

    class Samples(Dataset):
        def __len__(self):
            return len(source.files())

        def __getitem__(self, number):
            file = source.files()[number]
            return source.read([file])[0], source.fetch(file).read_bytes()

    assert source.read(source.files()[:3]) == [b"0", b"1", b"2"]
    for _ in range(2):
        loader = DataLoader(Samples(), num_workers=2, multiprocessing_context="fork",
                            batch_size=4, collate_fn=list)
        pairs = [pair for batch in loader for pair in batch]
        assert pairs == [(str(n).encode(), str(n).encode()) for n in range(10)], pairs
    assert source.read(source.files()[9:]) == [b"9"]
    print("done")
"""


def test_workers_forked_after_the_parent_has_read_do_not_hang(
    s3_url: str, bucket: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    fill_s3(s3_url, bucket, {f"{number}": str(number).encode() for number in range(10)})
    link = linked("s3", bucket, s3_url, "").model_dump_json()
    process = start(WORKERS, link, json.dumps(S3_SECRETS), str(tmp_path))
    assert process.communicate(timeout=200)[0] == "done\n"


def test_people_read_a_linked_dataset_by_signed_urls(
    server: Any, s3_url: str, bucket: str, log_in: Callable[..., Path]
) -> None:
    fill_s3(s3_url, bucket, FILES)
    client = server.client()
    key = m.S3CredentialCreate(name="key", **S3_SECRETS)
    client.create_credential(CredentialPlace.of_project(client.project), key, verify=False)
    link = m.DatasetLinkCreate(
        cloud="s3", storage_name=bucket, prefix="in", endpoint_url=s3_url, credential_id="key"
    )
    client.create_dataset(client.project, m.DatasetCreate(name="mine", link=link))
    log_in(server, client)
    dataset = pf.dataset("mine")
    assert (dataset.url, dataset.storage_options) == ("pf://mine", {})
    paths = [file.path for file in dataset.files]
    assert dict(zip(paths, dataset.read(paths), strict=True)) == EXPECTED
    assert dataset.fetch("large.bin").read_bytes() == LARGE
    assert (dataset.path / "a b.txt").read_bytes() == b"blank"
    put(s3_url, bucket, "in/a b.txt", b"BLANK")
    fresh = pf.dataset("mine")
    assert fresh.read(["a b.txt"]) == [b"BLANK"]
    put(s3_url, bucket, "in/a b.txt", b"third")
    with pytest.raises(pf.PeriFlowError, match="is not what it was"):
        fresh.fetch("a b.txt")
