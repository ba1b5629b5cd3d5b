"""A bucket as a source of `Dataset`, until it is linked to a server that knows it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from data import bucket_store

from periflow_sdk.data import DataFile, Dataset
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.process import PerProcess


class BucketSource:
    """Whole objects by obstore into the node's cache.

    Args:
        url: Of the store.
        folder: Has ``files.json``, and is the prefix of the objects.
        cache: Where they go.
    """

    url = ""
    storage_options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, url: str, folder: Path, cache: Path) -> None:
        self._url, self._folder, self._cache = url, folder, Cache(cache)
        self._store = PerProcess(partial(bucket_store, url, folder.name))
        self._parent = os.getpid()

    def files(self) -> Sequence[DataFile]:
        sizes = json.loads((self._folder / "files.json").read_text())
        return [DataFile(path, size, "1") for path, size in sorted(sizes.items())]

    def folder(self) -> Path:
        raise NotImplementedError

    def fetch(self, file: DataFile) -> Path:
        import obstore

        def fill(path: Path) -> None:
            with path.with_name(".part").open("wb") as out:
                out.write(obstore.get(self._store(), file.path).bytes())
            path.with_name(".part").replace(path)

        key = hashlib.sha256(f"{self._folder}/{file.path}".encode()).hexdigest()
        return self._cache.obtain(key, Path(file.path).name, file.size, fill)

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        if os.getpid() == self._parent:  # what forks workers must not have used obstore
            return [(self._folder / file.path).read_bytes() for file in files]
        import asyncio

        import obstore

        async def one(file: DataFile) -> bytes:
            return bytes(await (await obstore.get_async(self._store(), file.path)).bytes_async())

        async def many() -> list[bytes]:
            return await asyncio.gather(*map(one, files))

        return asyncio.run(many())

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        return (self._folder / file.path).read_bytes()[start:end]


def bucket_dataset(url: str, folder: Path, cache: Path) -> Dataset:
    return Dataset(folder.name, BucketSource(url, folder, cache))
