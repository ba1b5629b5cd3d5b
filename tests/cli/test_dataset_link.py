"""Linked datasets through `pf`, against real stores of the three clouds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from cloud import AZURE_ACCOUNT, AZURE_KEY, S3_KEY, S3_SECRET, Endpoint, fill_azure, fill_s3
from google_store import Google, fill_gcs
from obstore.store import S3Store

from periflow_sdk._boot import boot_id

if TYPE_CHECKING:
    from conftest import Shell

FILES = {
    "cifar-100-python/meta": b"m" * 1500,
    "cifar-100-python/test": b"t" * 31_000,
    "cifar-100-python/train": b"r" * 155_200,
}
PICTURE = """Overview
Name\t{name}
Cloud\t{cloud}
Region\t{region}
Storage Name\t{bucket}
Active\tY

Files
cifar-100-python/meta (1.5 kB)
cifar-100-python/test (31.0 kB)
cifar-100-python/train (155.2 kB)

Metadata
{{}}
"""


@pytest.fixture(scope="module")
def linker(
    tmp_path_factory: pytest.TempPathFactory,
    shell_class: type[Shell],
    s3_url: str,
    azure_url: str,
    google: Google,
) -> Iterator[Shell]:
    """A user whose server finds the clouds on this machine, with a credential for each."""
    shell = shell_class(tmp_path_factory.mktemp("linker"))
    shell.env |= {
        "PERIFLOW_SERVER_S3_URL": s3_url,
        "PERIFLOW_SERVER_AZURE_BLOB_URL": azure_url,
        "PERIFLOW_SERVER_GCS_URL": google.url,
        "PERIFLOW_SERVER_GOOGLE_TOKEN_URL": google.token_url,
    }
    shell.settle()
    keys = {"AWS_ACCESS_KEY_ID": S3_KEY, "AWS_SECRET_ACCESS_KEY": S3_SECRET}
    shell.pf("credential", "create", "s3", "-n", "s3", "--aws-default-region", "us-east-1", **keys)
    shell.pf(
        *("credential", "create", "azure-blob", "-n", "azure-blob"),
        *("--storage-account-name", AZURE_ACCOUNT, "--storage-account-key", AZURE_KEY),
    )
    key_file = shell.folder / "key.json"
    key_file.write_text(google.key_file)
    shell.pf("credential", "create", "gcs", "-n", "gcs", "--service-account-key-file", key_file)
    yield shell
    shell.leave()


@pytest.fixture(scope="module")
def buckets(s3_url: str, azure_url: str, google: Google) -> str:
    """The name of a bucket that each of the clouds has."""
    fill_s3(s3_url, "tutorial-100", FILES)
    fill_azure(azure_url, "tutorial-100", FILES)
    fill_gcs(google, "tutorial-100", FILES)
    return "tutorial-100"


@pytest.mark.parametrize("cloud", ["s3", "azure-blob", "gcs"])
def test_linked_bucket_is_viewed_used_and_downloaded(
    linker: Shell, buckets: str, cloud: str, tmp_path: Path
) -> None:
    credential = linker.json("credential", "view", cloud)["id"]
    region = ("-r", "us-east-1")
    words = ("-n", f"on-{cloud}", "-c", cloud, *region, "-s", buckets, "-i", credential)
    dry = linker.json("dataset", "create", *words, "--dry-run")
    assert [file["path"] for file in dry["files"]] == sorted(FILES)
    done = linker.run("dataset", "create", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Linked dataset on-{cloud} to {cloud} {buckets}.\n"
    shown = linker.run("dataset", "view", f"on-{cloud}")
    assert shown.stdout == PICTURE.format(
        name=f"on-{cloud}", cloud=cloud, region="us-east-1", bucket=buckets
    )
    assert "187.7 kB in 3 files" in shown.stderr
    target = tmp_path / "copy"
    done = linker.run("dataset", "download", f"on-{cloud}", "-d", target)
    assert done.returncode == 0, done.stderr
    assert {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    } == FILES
    assert linker.run("dataset", "download", f"on-{cloud}", "-d", target).returncode == 5
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    for taken in (words, (*words, "--dry-run")):
        assert linker.run("dataset", "create", *taken).returncode == 5
    assert linker.run("dataset", "view", f"on-{cloud}", "--version", 1).returncode == 2


def test_link_without_its_credential_is_not_active_until_it_has_another(
    linker: Shell, buckets: str
) -> None:
    key = ("credential", "create", "s3", "-n", "short-lived", "--aws-default-region", "us-east-1")
    linker.pf(*key, AWS_ACCESS_KEY_ID=S3_KEY, AWS_SECRET_ACCESS_KEY=S3_SECRET)
    linker.pf("dataset", "create", "-n", "orphan", "-c", "s3", "-s", buckets, "-i", "short-lived")
    linker.pf("credential", "delete", "-y", "short-lived")
    line = f"orphan\ts3\tus-east-1\t{buckets}\t"
    assert f"{line}N" in linker.pf("dataset", "list").splitlines()
    lost = linker.run("dataset", "view", "orphan")
    assert lost.returncode == 3 and "pf dataset edit orphan -i" in lost.stderr
    linker.pf("dataset", "edit", "orphan", "-i", "s3")
    assert f"{line}Y" in linker.pf("dataset", "list").splitlines()


def test_what_is_wrong_is_one_line_with_the_way_out(linker: Shell, buckets: str) -> None:
    linker.pf(
        *("credential", "create", "s3", "-n", "wrong", "--aws-default-region", "us-east-1"),
        "--no-verify",
        AWS_ACCESS_KEY_ID=S3_KEY,
        AWS_SECRET_ACCESS_KEY="another",
    )
    base = ("dataset", "create", "-n", "never")
    for words, code, said in (
        (("-c", "s3", "-s", buckets, "-i", "wrong"), 1, "pf credential update wrong"),
        (("-c", "s3", "-s", "nobody-has-it", "-i", "s3"), 3, "has no bucket nobody-has-it"),
        (("-c", "gcs", "-s", buckets, "-i", "s3"), 2, "is for s3"),
        (("-c", "s3", "-s", buckets, "-i", "nothing"), 3, "credential"),
        (("-s", "s3", "-s", buckets, "-i", "s3"), 2, f"-c s3 -s {buckets}"),
        (("-s", "s3", "-i", "s3"), 2, "-c s3 -s BUCKET"),
        (("-c", "s3", "-i", "s3"), 2, "-s BUCKET"),
        ((), 2, "Missing: -c s3|azure-blob|gcs, -s BUCKET, -i CREDENTIAL."),
        (("-c", "fai", "-s", buckets, "-i", "s3"), 2, "azure-blob"),
        (("-c", "s3", "-s", "bad/name", "-i", "s3"), 2, "is not a storage name"),
    ):
        done = linker.run(*base, *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done.stderr)
        assert said in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
    assert "never" not in linker.pf("dataset", "list")
    words = ("-n", "early", "-c", "s3", "-s", buckets, "-p", "no/such/", "-i", "s3")
    done = linker.run("dataset", "create", *words)
    assert f"{buckets} has no files below no/such/ now" in done.stderr and done.returncode == 0
    done = linker.run("dataset", "create", *words)
    assert done.returncode == 5 and "Hint: Choose another name.\n" in done.stderr


def test_dataset_gets_metadata_another_name_and_another_key(
    linker: Shell, buckets: str, tmp_path: Path
) -> None:
    about = tmp_path / "about.yml"
    about.write_text("classes: 100\nmade: 2009-04-08\n")
    words = ("-c", "s3", "-s", buckets, "-i", "s3", "-p", "cifar-100-python", "-f", about)
    linker.pf("dataset", "create", "-n", "below", *words)
    linker.pf("dataset", "edit", "below", "-n", "beneath", "-i", "s3")
    found = linker.json("dataset", "view", "beneath")
    assert found["metadata"] == {"classes": 100, "made": "2009-04-08"}
    assert [file["path"] for file in found["files"]] == ["meta", "test", "train"]
    assert "Prefix\tcifar-100-python" in linker.pf("dataset", "view", "beneath")
    uses = linker.json("credential", "view", "s3")["used_by"]
    assert ("dataset", "beneath") in [(use["kind"], use["name"]) for use in uses]
    for text in ("- a list\n", "a: [", "just words"):
        about.write_text(text)
        done = linker.run("dataset", "edit", "beneath", "-f", about)
        assert done.returncode == 2 and "about.yml" in done.stderr
    assert linker.run("dataset", "edit", "beneath").returncode == 2
    done = linker.run("dataset", "delete", "-y", "beneath")
    assert done.returncode == 0 and "linked to s3" in done.stderr


def bucket_of(count: int) -> Callable[[Any], tuple[int, bytes]]:
    """The answers of a store with so many objects, a thousand a folder: made when asked for."""
    keys = [f"train/{n // 1000:03}/{n:06}.png" for n in range(count)]

    def answer(asked: Any) -> tuple[int, bytes]:
        query = {k: v[0] for k, v in parse_qs(urlsplit(asked.path).query).items()}
        prefix, most = query.get("prefix", ""), int(query["max-keys"])
        after, slash = query.get("continuation-token", ""), "delimiter" in query
        found: list[str] = []
        for key in keys:
            if not key.startswith(prefix):
                continue
            below = key[len(prefix) :]
            name = prefix + below.partition("/")[0] + "/" if slash and "/" in below else key
            if name > after and (not found or found[-1] != name):
                found.append(name)
            if len(found) > most:
                break
        xml = "".join(
            f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else f"<Contents><Key>{name}</Key><Size>1000</Size><ETag>e</ETag></Contents>"
            for name in found[:most]
        )
        tail = ""
        if len(found) > most:
            token = f"<NextContinuationToken>{found[most - 1]}</NextContinuationToken>"
            tail = f"<IsTruncated>true</IsTruncated>{token}"
        return 200, f"<ListBucketResult>{xml}{tail}</ListBucketResult>".encode()

    return answer


def test_view_of_a_large_bucket_asks_little_and_shows_its_top(
    linker: Shell, endpoint: Endpoint
) -> None:
    endpoint.answer = bucket_of(5000)
    words = ("-c", "s3", "-s", "large", "-i", "s3", "--endpoint-url", endpoint.url)
    linker.pf("dataset", "create", "-n", "large", *words)
    endpoint.asked.clear()
    terminal = linker.on_terminal("dataset", "view", "large")
    text = plain(terminal.read())
    assert len(endpoint.asked) <= 10
    assert "📂 train" in text and "📂 000" in text and "000019.png (1.0 kB)" in text
    assert "… and more" in text and "--path FOLDER" in text and "more than 1,000 files" in text
    assert len(text.splitlines()) < 130
    deeper = plain(linker.on_terminal("dataset", "view", "large", "--path", "train/004").read())
    assert "/train/004" in deeper and "004999.png" not in deeper.partition("… ")[0]
    piped = linker.run("dataset", "view", "large")
    assert len(piped.stdout.splitlines()) < 1020 and "--all" in piped.stderr
    assert len(linker.json("dataset", "view", "large", "--all")["files"]) == 5000


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_bucket_of_100_000_objects_is_listed_whole_and_viewed_at_once(
    linker: Shell, s3_url: str
) -> None:
    fill_s3(s3_url, "hundred-thousand", {})
    store = s3_store(s3_url, "hundred-thousand")

    def put(number: int) -> None:
        obstore.put(store, f"train/{number % 100:02}/{number:06}", b"x")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(100_000)))
    words = ("-c", "s3", "-s", "hundred-thousand", "-i", "s3")
    linker.pf("dataset", "create", "-n", "hundred-thousand", *words)
    start = time.monotonic()
    shown = plain(linker.on_terminal("dataset", "view", "hundred-thousand").read())
    assert time.monotonic() - start < 60 and "more than 1,000 files" in shown
    files = linker.json("dataset", "view", "hundred-thousand", "--all")["files"]
    assert len({file["path"] for file in files}) == len(files) == 100_000


def s3_store(url: str, bucket: str) -> S3Store:
    return S3Store(
        bucket,
        endpoint=url,
        access_key_id=S3_KEY,
        secret_access_key=S3_SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
    )


def plain(text: str) -> str:
    """A terminal's text without what only moves and colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


def test_killed_download_of_a_bucket_goes_on_where_it_was(
    linker: Shell, s3_url: str, tmp_path: Path
) -> None:
    files = {f"n/{n:03}": bytes([n]) * 1000 for n in range(40)}
    fill_s3(s3_url, "resumed", files)
    linker.pf("dataset", "create", "-n", "resumed", "-c", "s3", "-s", "resumed", "-i", "s3")
    listed = linker.json("dataset", "view", "resumed")["files"]
    assert len(listed) == 40
    # What a killed one leaves: whole files, named in the log, and one that was not finished.
    linker.pf("dataset", "download", "resumed", "-d", tmp_path / "whole")
    part = tmp_path / ".again.part"
    (part / "n").mkdir(parents=True)
    store = s3_store(s3_url, "resumed")
    log = []
    for number in range(30):
        key = f"n/{number:03}"
        (part / key).write_bytes(files[key])
        etag = str(obstore.head(store, key)["e_tag"]).strip('"')
        log.append(f"{etag} {key}\n")
    (part / "n/030").write_bytes(b"half")
    (tmp_path / ".again.part.log").write_text("".join([f"{boot_id()}\n", *log]))
    changed = b"changed in the bucket"
    obstore.put(store, "n/000", changed)
    done = linker.run("dataset", "download", "resumed", "-d", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "29.0 kB of it was there already" in done.stdout
    for key, data in {**files, "n/000": changed}.items():
        assert (tmp_path / "again" / key).read_bytes() == data
    assert not part.exists() and not (tmp_path / ".again.part.log").exists()


def test_nothing_secret_is_shown(linker: Shell, buckets: str) -> None:
    linker.pf("dataset", "create", "-n", "shown", "-c", "s3", "-s", buckets, "-i", "s3")
    for words in (("view", "shown"), ("view", "shown", "--json"), ("list", "--json")):
        done = linker.run("dataset", *words, "--debug")
        assert done.returncode == 0 and S3_SECRET not in done.stdout + done.stderr
