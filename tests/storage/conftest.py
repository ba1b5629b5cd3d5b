"""Servers whose store is a folder, or a bucket of one of the three clouds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cloud import AZURE_ACCOUNT, AZURE_KEY, S3_KEY, S3_SECRET, fill_azure, fill_s3
from google_store import Google, fill_gcs

from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables
from periflow_server.settings import Settings
from periflow_server.storage.opening import open_store
from periflow_server.storage.store import Store

if TYPE_CHECKING:
    from conftest import ServerProcess

BUCKET = "periflow"


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
    fill_s3(s3_url, BUCKET, {})
    return s3_url


@pytest.fixture(scope="session")
def azure_variables(azure_url: str) -> dict[str, str]:
    """A container of Azurite."""
    fill_azure(azure_url, BUCKET, {})
    return {
        "PERIFLOW_SERVER_STORAGE_URL": f"az://{AZURE_ACCOUNT}/{BUCKET}/deep/prefix",
        "PERIFLOW_SERVER_STORAGE_ENDPOINT": azure_url.format(account=AZURE_ACCOUNT),
        "PERIFLOW_SERVER_STORAGE_SECRET": AZURE_KEY,
    }


@pytest.fixture(scope="session")
def google_variables(google: Google, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A bucket of Google's protocol."""
    fill_gcs(google, BUCKET, {})
    file = tmp_path_factory.mktemp("key") / "key.json"
    file.write_text(json.dumps({**json.loads(google.key_file), "token_uri": google.token_url}))
    return {
        "PERIFLOW_SERVER_STORAGE_URL": f"gs://{BUCKET}/some/prefix",
        "PERIFLOW_SERVER_STORAGE_ENDPOINT": google.url,
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
        return Place(kind, request.getfixturevalue("azure_variables"))
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
