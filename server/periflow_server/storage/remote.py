"""Buckets of S3 and Azure, by obstore."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from periflow_server.storage.deletion import delete_each
from periflow_server.storage.fault import StoreError, code_of, fault, status_of
from periflow_server.storage.store import ANSWER_SECONDS, Method, SignedUrl

if TYPE_CHECKING:
    from obstore.store import AzureStore, S3Store

T = TypeVar("T")
Sign = Callable[[Method, str, int, int, bool], SignedUrl]
"""Method, key, size, seconds, and whether a PUT may replace → the address."""
_MISSING = ("NoSuchBucket", "ContainerNotFound")

logger = logging.getLogger("periflow_server")


def options(url: str | None) -> dict[str, Any]:
    """How a store is reached; in clear text only if its address says so."""
    return {
        "client_options": {
            "timeout": f"{ANSWER_SECONDS}s",
            "connect_timeout": "5s",
            "allow_http": (url or "").startswith("http://"),
        },
        "retry_config": {"max_retries": 6, "retry_timeout": timedelta(seconds=ANSWER_SECONDS)},
    }


class RemoteBucket:
    """See ``objectstore.Bucket``.

    Args:
        address: The store as the administrator wrote it, for messages.
        sign: Makes addresses that are bound to size and creation.
        has_bulk_delete: Whether one request deletes many, missing ones too.
    """

    def __init__(
        self, store: S3Store | AzureStore, address: str, sign: Sign, *, has_bulk_delete: bool
    ) -> None:
        self._store = store
        self._address = address
        self._sign = sign
        self._has_bulk_delete = has_bulk_delete

    def put(self, key: str, data: bytes) -> None:
        import obstore

        self._call(lambda: obstore.put(self._store, key, data, use_multipart=False))

    def get(self, key: str) -> bytes:
        import obstore

        return self._call(lambda: bytes(obstore.get(self._store, key).bytes()))

    def size(self, key: str) -> int | None:
        import obstore

        try:
            return int(self._call(lambda: obstore.head(self._store, key))["size"])
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        import obstore

        pages = iter(obstore.list(self._store, folder, chunk_size=1000))
        while page := self._call(lambda: next(pages, None)):
            for item in page:
                yield str(item["path"]), int(item["size"])

    def delete(self, keys: Collection[str]) -> None:
        import obstore

        if self._has_bulk_delete:
            self._call(lambda: obstore.delete(self._store, list(keys)))
            return
        delete_each(keys, self._delete)

    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl:
        return self._sign(method, key, size, seconds, replace)

    def _delete(self, key: str) -> None:
        import obstore

        try:
            self._call(lambda: obstore.delete(self._store, key))
        except FileNotFoundError:
            pass

    def _call(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError as error:
            code = code_of(str(error))
            if code in _MISSING:
                raise fault(self._address, 404, code) from None
            raise
        except Exception as error:  # the library's base class is not public
            raise self._fault(error) from None

    def _fault(self, error: Exception) -> StoreError:
        text = str(error).partition("Debug source")[0].strip()
        logger.warning("The store %s: %s", self._address, text)
        return fault(self._address, status_of(text), code_of(text), text)
