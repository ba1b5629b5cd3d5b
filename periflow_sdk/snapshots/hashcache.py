"""Remembers the hashes of files that did not change since, so that they are not read again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from blake3 import blake3

from periflow_sdk.snapshots.chunking import Cut
from periflow_sdk.snapshots.scan import SourceFile

_KEEP_SECONDS = 30 * 24 * 3600
_RACY_NS = 100_000_000


class HashCache:
    """Hashes of cuts and of the files they hold whole, kept in an append-only file.

    A line is written as soon as a cut is hashed, so that a killed upload goes on from there; any
    thread may do so.

    Args:
        folder: Where such files lie; None remembers nothing.
        source: What is uploaded; each source has a file of its own.
    """

    def __init__(self, folder: Path | None, source: str) -> None:
        self._known: dict[str, list[str]] = {}
        self._used: dict[str, list[str]] = {}
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        if folder is None:
            return
        name = blake3(os.fsencode(source)).hexdigest(16)
        self._path = folder / f"{name}.hashes"
        # An upload is worth more than its cache: where this fails, it goes on without.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _forget_old(folder)
            self._load(self._path)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(descriptor, "ab", buffering=0)

    def __enter__(self) -> HashCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None or self._path is None:
            return
        self._file.close()
        if kind is None:
            with suppress(OSError):
                self._rewrite(self._path)

    def find(self, cut: Cut, files: Sequence[SourceFile]) -> list[str] | None:
        """The cut's hash and those of the files that it holds whole, or None."""
        if self._file is None:
            return None
        key = _key(cut, files)
        found = self._known.get(key)
        if found is None or len(found) != 1 + len(cut.whole_files(files)):
            return None
        self._used[key] = found
        return found

    def remember(self, cut: Cut, files: Sequence[SourceFile], hashes: list[str]) -> None:
        """Keep what `find` shall give, unless a file is so new that a change could hide."""
        if self._file is None:
            return
        newest = max(
            max(files[part.file].stamp.mtime_ns, files[part.file].stamp.ctime_ns)
            for part in cut.segments
        )
        if time.time_ns() - newest < _RACY_NS:
            return
        key = _key(cut, files)
        self._used[key] = hashes
        # A leading newline keeps this line whole even behind one that a kill has torn.
        with suppress(OSError):
            self._file.write(b"\n" + json.dumps([key, hashes]).encode() + b"\n")

    def _load(self, path: Path) -> None:
        if not path.exists():
            return
        for line in path.read_bytes().splitlines():
            try:
                key, hashes = json.loads(line)
                self._known[str(key)] = [str(item) for item in hashes]
            except (ValueError, TypeError):
                continue

    def _rewrite(self, path: Path) -> None:
        """Keep only what this upload used."""
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        lines = [json.dumps([key, hashes]) for key, hashes in self._used.items()]
        temporary.write_text("\n".join(lines) + "\n")
        temporary.chmod(0o600)
        temporary.replace(path)


def _key(cut: Cut, files: Sequence[SourceFile]) -> str:
    digest = blake3()
    for part in cut.segments:
        file = files[part.file]
        stamp = file.stamp
        fields = (
            os.fsencode(file.disk),
            stamp.size,
            stamp.mtime_ns,
            stamp.ctime_ns,
            stamp.inode,
            part.offset,
            part.length,
        )
        digest.update(repr(fields).encode())
    return digest.hexdigest(16)


def _forget_old(folder: Path) -> None:
    for path in folder.glob("*.hashes"):
        try:
            if time.time() - path.stat().st_mtime > _KEEP_SECONDS:
                path.unlink()
        except OSError:
            continue
