"""What a snapshot consists of: its entries and the chunks that hold their bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blake3 import blake3

from periflow_sdk.errors import IntegrityError, UnsafePathError
from periflow_sdk.snapshots.path import check_link, check_path

MAX_CHUNK_BYTES = 16 * 1024 * 1024
VERSION = 1
_JOINED = "periflow 2026-11-25 file of several chunks"
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of content by its blake3 (hex) and size in bytes."""

    hash: str
    size: int


@dataclass(frozen=True, slots=True)
class Extent:
    """``length`` bytes at ``offset`` of the manifest's chunk number ``chunk``."""

    chunk: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """``hash`` names the content: its blake3, or `joined_hash` where it is in several chunks."""

    path: str
    size: int
    mode: int
    hash: str
    extents: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class DirEntry:
    """A folder that is empty or whose mode is not 0o755; other folders follow from their files."""

    path: str
    mode: int


@dataclass(frozen=True, slots=True)
class LinkEntry:
    path: str
    target: str


Entry = FileEntry | DirEntry | LinkEntry


@dataclass(frozen=True)
class Manifest:
    """A snapshot's description. ``id`` is the blake3 of its canonical bytes."""

    chunks: tuple[Chunk, ...]
    entries: tuple[Entry, ...]

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest from bytes that nobody vouches for, and check all of it.

        Raises:
            UnsafePathError: a path or a link could leave the folder.
            IntegrityError: it is not a canonical manifest, or its sizes do not add up.
        """
        try:
            document = json.loads(data)
            manifest = _from_document(document)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise _broken(f"cannot be read ({error.__class__.__name__}: {error})") from error
        manifest.check()
        if manifest.to_bytes() != data:
            raise _broken("is not in canonical form")
        return manifest

    def to_bytes(self) -> bytes:
        """The canonical JSON: keys sorted, no spaces, UTF-8."""
        document = {
            "version": VERSION,
            "chunks": [[chunk.hash, chunk.size] for chunk in self.chunks],
            "entries": [_entry_document(entry) for entry in self.entries],
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    @cached_property
    def id(self) -> str:
        return blake3(self.to_bytes()).hexdigest()

    @property
    def files(self) -> Iterator[FileEntry]:
        return (entry for entry in self.entries if isinstance(entry, FileEntry))

    @cached_property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @cached_property
    def file_count(self) -> int:
        return sum(1 for _ in self.files)

    def check(self) -> None:
        """Check paths, order, chunks and extents; `parse` has done so already.

        Raises:
            UnsafePathError: a path or a link could leave the folder.
            IntegrityError: hashes, sizes or extents are wrong.
        """
        for chunk in self.chunks:
            if not _HASH.fullmatch(chunk.hash) or not 0 < chunk.size <= MAX_CHUNK_BYTES:
                raise _broken(f"has a wrong chunk {chunk.hash[:64]!r} of {chunk.size} bytes")
        if len({chunk.hash for chunk in self.chunks}) != len(self.chunks):
            raise _broken("names a chunk twice")
        self._check_paths()
        for entry in self.files:
            self._check_extents(entry)

    def _check_paths(self) -> None:
        leaves: set[str] = set()
        last = ""
        for entry in self.entries:
            check_path(entry.path)
            if entry.path <= last:
                raise _broken(f"has {entry.path!r} twice or out of order")
            last = entry.path
            if isinstance(entry, LinkEntry):
                check_link(entry.path, entry.target)
            elif not 0 <= entry.mode <= 0o777:
                raise _broken(f"gives {entry.path!r} the mode {entry.mode:o}")
            if not isinstance(entry, DirEntry):
                leaves.add(entry.path)
        for entry in self.entries:
            self._check_parents(entry.path, leaves)

    def _check_parents(self, path: str, leaves: set[str]) -> None:
        end = path.rfind("/")
        while end > 0:
            if path[:end] in leaves:
                raise UnsafePathError(
                    f"The path {path!r} lies below {path[:end]!r}, which is not a folder.",
                    data={"path": path},
                )
            end = path.rfind("/", 0, end)

    def _check_extents(self, entry: FileEntry) -> None:
        if not _HASH.fullmatch(entry.hash):
            raise _broken(f"has a wrong hash for {entry.path!r}")
        total = 0
        for extent in entry.extents:
            if not 0 <= extent.chunk < len(self.chunks):
                raise _broken(f"names a chunk it does not have for {entry.path!r}")
            end = extent.offset + extent.length
            if extent.offset < 0 or extent.length <= 0 or end > self.chunks[extent.chunk].size:
                raise _broken(f"reads beyond a chunk for {entry.path!r}")
            total += extent.length
        if total != entry.size:
            raise _broken(f"has {total} of the {entry.size} bytes of {entry.path!r}")


def joined_hash(chunks: Iterable[Chunk]) -> str:
    """Names the content of a file that consists of whole chunks, without another look at it."""
    digest = blake3(derive_key_context=_JOINED)
    for chunk in chunks:
        digest.update(f"{chunk.hash} {chunk.size}\n".encode())
    return digest.hexdigest()


def _entry_document(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, LinkEntry):
        return {"path": entry.path, "type": "link", "target": entry.target}
    if isinstance(entry, DirEntry):
        return {"path": entry.path, "type": "dir", "mode": entry.mode}
    return {
        "path": entry.path,
        "type": "file",
        "mode": entry.mode,
        "size": entry.size,
        "hash": entry.hash,
        "extents": [[e.chunk, e.offset, e.length] for e in entry.extents],
    }


def _from_document(document: Any) -> Manifest:
    if type(document) is not dict or document["version"] != VERSION:
        raise ValueError(f"not a manifest of version {VERSION}")
    chunks = tuple(Chunk(_text(name), _integer(size)) for name, size in document["chunks"])
    return Manifest(chunks, tuple(_entry(item) for item in document["entries"]))


def _entry(item: Any) -> Entry:
    path, kind = _text(item["path"]), item["type"]
    if kind == "link":
        return LinkEntry(path, _text(item["target"]))
    mode = _integer(item["mode"])
    if kind == "dir":
        return DirEntry(path, mode)
    if kind != "file":
        raise ValueError(f"unknown type of {path!r}")
    extents = tuple(
        Extent(_integer(chunk), _integer(offset), _integer(length))
        for chunk, offset, length in item["extents"]
    )
    return FileEntry(path, _integer(item["size"]), mode, _text(item["hash"]), extents)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("text expected")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("integer expected")
    return value


def _broken(fault: str) -> IntegrityError:
    return IntegrityError(f"The manifest {fault}.", code="bad_manifest")
