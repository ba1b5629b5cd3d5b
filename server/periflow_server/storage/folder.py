"""Objects as files of a folder; they appear whole, by rename."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from periflow_sdk.errors import UnsafePathError
from periflow_server.storage.store import Method, SignedUrl


class FolderStore:
    """Objects below one folder; see ``store.Store``.

    Args:
        root: The folder; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, key: str) -> Path:
        """Where the object lies. Refuses a key that leaves the folder."""
        if key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
            raise UnsafePathError(f"The storage key {key!r} leaves its folder.")
        return self.root / key

    def make_folder(self, key: str) -> None:
        """Make sure of the folder of this key, for clients that put files there themselves."""
        self.path(key).mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, key: str) -> BinaryIO:
        """Open the object for reading.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self.path(key).open("rb", buffering=0)

    def put_bytes(self, key: str, data: bytes) -> None:
        with self.writing(key) as file:
            file.write(data)

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """A file that becomes the object when the block ends well, and vanishes otherwise."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                yield file
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def get_bytes(self, key: str) -> bytes:
        return self.path(key).read_bytes()

    def size(self, key: str) -> int | None:
        """Size in bytes, or None when there is no such object."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def sizes(self, folder: str, keys: Collection[str], known: Callable[[], int]) -> dict[str, int]:
        return {key: size for key in keys if (size := self.size(key)) is not None}

    def listing(self, folder: str) -> Iterator[tuple[str, int]]:
        for path in self.path(folder).rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):
                    yield path.relative_to(self.root).as_posix(), path.stat().st_size

    def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def delete_all(self, folder: str) -> None:
        shutil.rmtree(self.path(folder), ignore_errors=True)

    def remove_stale_files(self, age_seconds: float) -> int:
        before = time.time() - age_seconds
        removed = 0
        for path in self.root.rglob(".*.tmp"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed

    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl | None:
        return None

    def local_path(self, key: str) -> Path | None:
        return self.path(key)


class ChunkWriter:
    """A chunk being received: hashed while it is written, invisible until ``commit``."""

    def __init__(self, store: FolderStore, key: str) -> None:
        self._target = store.path(key)
        self._target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f".{self._target.name}.{secrets.token_hex(8)}.tmp"
        self._temporary = self._target.with_name(name)
        self._file = self._temporary.open("xb", buffering=0)
        self._hash = blake3()

    def write(self, pieces: list[bytes]) -> None:
        """Append some pieces."""
        for piece in pieces:
            self._hash.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[self._file.write(rest) :]

    def hash(self) -> str:
        """The blake3 of what was written so far, in hex."""
        return self._hash.hexdigest()

    def commit(self) -> None:
        """Let the object appear under its key."""
        self._file.close()
        self._temporary.replace(self._target)

    def close(self) -> None:
        """Give up what was not committed."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
