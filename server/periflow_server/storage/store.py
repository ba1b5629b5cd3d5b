"""The object store of the embedded server: a local folder.

Keys are relative paths (``chunks/<project>/<hash[:2]>/<hash>``). Objects appear whole, by rename.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from periflow_sdk.errors import UnsafePathError


class Store:
    """Objects below one folder.

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

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write the object, replacing what was there."""
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

    def append_bytes(self, key: str, data: bytes) -> int:
        """Append to the object, made when it is missing; its size afterwards, in bytes."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(data)
            return file.tell()

    def get_bytes(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read the object or a part of it.

        Raises:
            FileNotFoundError: there is no such object.
        """
        with self.path(key).open("rb") as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)

    def size(self, key: str) -> int | None:
        """Size in bytes, or None when there is no such object."""
        try:
            return self.path(key).stat().st_size
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return self.size(key) is not None

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when it is not there."""
        self.path(key).unlink(missing_ok=True)
