"""Servers whose store is a folder, or a bucket of one of the three clouds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from cloud import S3_KEY, S3_SECRET, azure_url, s3_url
from google_store import google_store

from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables
from periflow_server.settings import Settings
from periflow_server.storage.opening import open_store
from periflow_server.storage.store import Store

if TYPE_CHECKING:
    from conftest import ServerProcess

__all__ = ["azure_url", "s3_url"]

BUCKET = "periflow"
ACCOUNT = "devstoreaccount1"
# The key that the emulator of Azure is delivered with.
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass
class Place:
    """A kind of store: the variables that a server needs for it."""

    kind: str
    variables: dict[str, str]

    def settings(self) -> Settings:
        fields = {n.removeprefix("PERIFLOW_SERVER_").lower(): v for n, v in self.variables.items()}
        return Settings.read(**fields)


def s3_variables(url: str, prefix: str) -> dict[str, str]:
    """A bucket of SeaweedFS."""
    return {
        "PERIFLOW_SERVER_STORAGE_URL": f"s3://{BUCKET}/{prefix}",
        "PERIFLOW_SERVER_STORAGE_ENDPOINT": url,
        "PERIFLOW_SERVER_STORAGE_KEY_ID": S3_KEY,
        "PERIFLOW_SERVER_STORAGE_SECRET": S3_SECRET,
    }


@pytest.fixture(scope="session")
def s3_bucket(s3_url: str) -> str:
    """The address of a SeaweedFS that has the bucket."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        config={
            "endpoint": s3_url,
            "region": "us-east-1",
            "access_key_id": S3_KEY,
            "secret_access_key": S3_SECRET,
        },
        client_options={"allow_http": True},
    )
    obstore.put(store, "made", b"")  # it makes buckets of which it hears
    return s3_url


def _azure_variables(url: str) -> dict[str, str]:
    from periflow_server.storage.azure import _VERSION, signature

    endpoint = url.format(account=ACCOUNT)
    query = signature(ACCOUNT, ACCOUNT_KEY, BUCKET, may="cw", kind="c", is_https=False, seconds=60)
    made = httpx.put(
        f"{endpoint}/{BUCKET}?restype=container&{query}", headers={"x-ms-version": _VERSION}
    )
    assert made.status_code in (201, 409), made.text
    return {
        "PERIFLOW_SERVER_STORAGE_URL": f"az://{ACCOUNT}/{BUCKET}/deep/prefix",
        "PERIFLOW_SERVER_STORAGE_ENDPOINT": endpoint,
        "PERIFLOW_SERVER_STORAGE_SECRET": ACCOUNT_KEY,
    }


@pytest.fixture(scope="session")
def google_variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("google")
    with google_store(folder, BUCKET) as (url, key):
        file = tmp_path_factory.mktemp("key") / "key.json"
        file.write_text(key)
        yield {
            "PERIFLOW_SERVER_STORAGE_URL": f"gs://{BUCKET}/some/prefix",
            "PERIFLOW_SERVER_STORAGE_ENDPOINT": url,
            "PERIFLOW_SERVER_STORAGE_KEY_FILE": str(file),
        }


@pytest.fixture(scope="session", params=["folder", "s3", "azure", "google"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Each kind of store."""
    kind = request.param
    if kind == "folder":
        folder = tmp_path_factory.mktemp("folder")
        return Place(kind, {"PERIFLOW_SERVER_STORAGE_URL": f"file://{folder}"})
    if kind == "s3":
        return Place(kind, s3_variables(request.getfixturevalue("s3_bucket"), "one/prefix"))
    if kind == "azure":
        return Place(kind, _azure_variables(request.getfixturevalue("azure_url")))
    return Place(kind, request.getfixturevalue("google_variables"))


@pytest.fixture(scope="session")
def store(place: Place) -> Store:
    """The store, opened by this process as well."""
    return open_store(place.settings())


@pytest.fixture(scope="session")
def keeper(
    place: Place,
    tmp_path_factory: pytest.TempPathFactory,
    server_class: type[ServerProcess],
) -> Iterator[ServerProcess]:
    """A server that keeps everything there; do not stop it."""
    process = server_class(tmp_path_factory.mktemp("keeper") / "home", place.variables)
    process.start()
    yield process
    process.close()


@pytest.fixture
def database(keeper: ServerProcess) -> Iterator[Database]:
    import_tables()
    opened = Database(keeper.database_url)
    yield opened
    opened.close()


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder with a file of some chunks and some small ones."""

    def make(name: str = "source", megabytes: int = 20, files: int = 30) -> Path:
        root = tmp_path / name
        (root / "small").mkdir(parents=True)
        (root / "large.bin").write_bytes(os.urandom(megabytes * 1_000_000))
        for number in range(files):
            (root / "small" / f"{number}.json").write_text(json.dumps({"n": number}) * number)
        return root

    return make


def _contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Relative path → bytes of all files of a folder."""
    return _contents
