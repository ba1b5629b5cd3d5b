"""Objects in a bucket of S3, Google or Azure: what all of these have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from periflow_server.storage.store import Method, SignedUrl

_AT_ONCE = 32
_LISTED_AT_ONCE = 1000
_WORTH_LISTING = 64


class Bucket(Protocol):
    """What a kind of bucket can do; keys are whole. Raises ``StoreError``."""

    def put(self, key: str, data: bytes) -> None: ...
    def get(self, key: str) -> bytes:
        """Raises ``FileNotFoundError``."""

    def size(self, key: str) -> int | None: ...
    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Key and size of what lies below a folder, whose name ends with a slash."""

    def delete(self, keys: Collection[str]) -> None: ...
    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl: ...


class ObjectStore:
    """Objects of a bucket below a prefix; see ``store.Store``.

    Args:
        prefix: What all keys begin with; empty, or ending with a slash.
    """

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="store")

    def put_bytes(self, key: str, data: bytes) -> None:
        self._bucket.put(self._prefix + key, data)

    def get_bytes(self, key: str) -> bytes:
        return self._bucket.get(self._prefix + key)

    def sizes(self, folder: str, keys: Collection[str], known: Callable[[], int]) -> dict[str, int]:
        """A request an object, many at once; or by listing the folder, where that takes fewer."""
        rounds = len(keys) / _AT_ONCE
        if len(keys) >= _WORTH_LISTING and known() / _LISTED_AT_ONCE < rounds:
            wanted = set(keys)
            return {key: size for key, size in self.listing(folder) if key in wanted}
        asked = [self._prefix + key for key in keys]
        found = self._pool.map(self._bucket.size, asked)
        return {key: size for key, size in zip(keys, found, strict=True) if size is not None}

    def listing(self, folder: str) -> Iterator[tuple[str, int]]:
        skipped = len(self._prefix)
        for key, size in self._bucket.list(f"{self._prefix}{folder}/"):
            yield key[skipped:], size

    def delete(self, keys: Collection[str]) -> None:
        if keys:
            self._bucket.delete([self._prefix + key for key in keys])

    def delete_all(self, folder: str) -> None:
        batch: list[str] = []
        for key, _ in self.listing(folder):
            batch.append(key)
            if len(batch) == _LISTED_AT_ONCE:
                self.delete(batch)
                batch = []
        self.delete(batch)

    def remove_stale_files(self, age_seconds: float) -> int:
        """Nothing: an object that was not received whole was never there."""
        return 0

    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl | None:
        return self._bucket.sign(method, self._prefix + key, size, seconds, replace=replace)

    def local_path(self, key: str) -> Path | None:
        return None
