"""Which store the settings mean."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from periflow_sdk.errors import UsageError
from periflow_server.storage.fault import StoreError
from periflow_server.storage.folder import FolderStore
from periflow_server.storage.objectstore import Bucket, ObjectStore
from periflow_server.storage.store import Store

if TYPE_CHECKING:
    from periflow_server.settings import Settings

STORE_ID = "store-id"
"""The key of what tells one store from another."""


def open_store(settings: Settings) -> Store:
    """The store of these settings, which was seen to answer.

    Raises:
        UsageError: the address is none, or the store is missing or refuses the key.
    """
    folder = settings.storage_dir
    if folder is not None:
        return FolderStore(folder)
    parts = urlsplit(settings.storage_url or "")
    bucket, prefix = _bucket(parts.scheme, parts.netloc, parts.path.strip("/"), settings)
    store = ObjectStore(bucket, f"{prefix}/" if prefix else "")
    try:
        _probe(store)
    except StoreError as error:
        raise UsageError(error.message, code=error.code, hint=error.hint) from error
    return store


def _probe(store: Store) -> None:
    try:
        store.get_bytes(STORE_ID)
    except FileNotFoundError:
        # Not every store says of an object that is missing whether its bucket is.
        next(iter(store.listing(STORE_ID)), None)


def _bucket(scheme: str, host: str, path: str, settings: Settings) -> tuple[Bucket, str]:
    if host and scheme == "s3":
        from periflow_server.storage import s3

        return s3.open_bucket(host, settings), path
    if host and scheme == "gs":
        from periflow_server.storage import gcs

        return gcs.open_bucket(host, settings), path
    container, _, prefix = path.partition("/")
    if host and scheme == "az" and container:
        from periflow_server.storage import azure

        return azure.open_bucket(host, container, settings), prefix
    raise UsageError(
        f"PERIFLOW_SERVER_STORAGE_URL is wrong: {settings.storage_url!r}.",
        hint="It is file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or "
        "az://ACCOUNT/CONTAINER/PREFIX.",
    )
