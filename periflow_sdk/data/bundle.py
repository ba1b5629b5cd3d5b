"""Objects of a bucket that share a unit of the cache, as quick to read again as a shard."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter, itemgetter
from pathlib import Path
from zlib import crc32

from blake3 import blake3

from periflow_sdk.data.cache import Cache
from periflow_sdk.data.pin import open_shared
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.source import DataFile
from periflow_sdk.errors import PeriFlowError

OBJECT_BYTES = 16 * 1024 * 1024
"""Larger ones have a unit of their own."""
_BUNDLE_BYTES = 64 * 1024 * 1024
_NEIGHBOURS = 1024
_OPEN = 128
_NAME = "objects"
_MARK = struct.Struct("<I")
_AT_ONCE = 512
_path, _number = attrgetter("path"), itemgetter(0)


class Bundles:
    """The objects of a listing, bundled with their neighbours.

    A bundle is a sparse file: a mark for each of its objects, which is 0 until the object is there
    and then made of its bytes, and the objects, each at its own place. So processes that read
    different objects fill it together without asking each other, and what a process was killed
    over, or a machine's crash has damaged, is not taken for an object.

    Where a bundle ends is a matter of the objects' paths: one object more or less changes one
    bundle, and the others are still there when the bucket is listed again.

    Args:
        cache: Where they are kept.
        identity: Tells this link from others.
        files: The listing, sorted by path.
    """

    def __init__(self, cache: Cache, identity: str, files: Sequence[DataFile]) -> None:
        self._cache = cache
        self._identity = identity
        self._files = files
        self._places = array("Q", accumulate((_room(file) for file in files), initial=0))
        self._bounds = [0, *_ends(files)]
        self._firsts = [files[start].path for start in self._bounds[:-1]]
        self._keys: dict[int, str] = {}
        self._open = PerProcess[OrderedDict[int, mmap.mmap]](OrderedDict)
        self._lock = PerProcess(threading.Lock)
        self._is_kept = True

    def read(self, file: DataFile) -> bytes | None:
        """An object; None if it is not here."""
        if file.size > OBJECT_BYTES:
            return None
        bundle, number = self._find(file)
        content = self._map(bundle)
        if content is None:
            return None
        (mark,) = _MARK.unpack_from(content, self._mark_at(bundle, number))
        if not mark:
            return None
        start = self._starts_at(bundle, number)
        found = content[start : start + file.size]
        return found if _mark(found) == mark else None

    def keep(self, files: Sequence[DataFile], contents: Iterable[bytes]) -> None:
        """Keep objects that were just read; where that is not possible they are read again."""
        by_bundle: dict[int, list[tuple[int, bytes]]] = {}
        for file, content in zip(files, contents, strict=True):
            if self._is_kept and file.size <= OBJECT_BYTES:
                bundle, number = self._find(file)
                by_bundle.setdefault(bundle, []).append((number, content))
        for bundle, objects in by_bundle.items():
            try:
                self._write(bundle, objects)
            except FileNotFoundError:  # removed for want of room
                self._close(bundle)
            except (OSError, PeriFlowError):
                self._is_kept = False

    def _write(self, bundle: int, objects: Sequence[tuple[int, bytes]]) -> None:
        path = self._obtain(bundle)
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            runs = list(_runs(sorted(objects, key=_number)))
            for first, contents in runs:
                if os.pwritev(file, contents, self._starts_at(bundle, first)) < _bytes(contents):
                    raise OSError(f"{path} is not written")
            for first, contents in runs:
                marks = b"".join([_MARK.pack(_mark(content)) for content in contents])
                os.pwrite(file, marks, self._mark_at(bundle, first))
        finally:
            os.close(file)

    def _obtain(self, bundle: int) -> Path:
        size = self._size(bundle)

        def fill(target: Path) -> None:
            temporary = target.with_name(f".{target.name}.new")
            with temporary.open("wb") as file:
                file.truncate(size)
            temporary.rename(target)

        return self._cache.obtain(self._key(bundle), _NAME, size, fill, is_sparse=True)

    def _size(self, bundle: int) -> int:
        first, end = self._bounds[bundle], self._bounds[bundle + 1]
        return _MARK.size * (end - first) + self._places[end] - self._places[first]

    def _map(self, bundle: int) -> mmap.mmap | None:
        """A bundle in the memory, which nobody removes as long as it is there; None without one."""
        with self._lock():
            maps = self._open()
            found = maps.get(bundle)
            if found is not None:
                maps.move_to_end(bundle)
                return found
            path = self._cache.find(self._key(bundle), _NAME, self._size(bundle), is_sparse=True)
            descriptor = open_shared(path) if path is not None else None
            if descriptor is None:
                return None
            try:
                found = maps[bundle] = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            finally:
                os.close(descriptor)  # the mapping has a copy, and with it the lock
            while len(maps) > _OPEN:
                maps.popitem(last=False)
            return found

    def _close(self, bundle: int) -> None:
        with self._lock():
            self._open().pop(bundle, None)

    def _find(self, file: DataFile) -> tuple[int, int]:
        """The number of an object's bundle, and its own in the listing."""
        bundle = bisect_right(self._firsts, file.path) - 1
        first, end = self._bounds[bundle], self._bounds[bundle + 1]
        return bundle, bisect_left(self._files, file.path, first, end, key=_path)

    def _mark_at(self, bundle: int, number: int) -> int:
        return _MARK.size * (number - self._bounds[bundle])

    def _starts_at(self, bundle: int, number: int) -> int:
        first, end = self._bounds[bundle], self._bounds[bundle + 1]
        return _MARK.size * (end - first) + self._places[number] - self._places[first]

    def _key(self, bundle: int) -> str:
        key = self._keys.get(bundle)
        if key is None:
            files = self._files[self._bounds[bundle] : self._bounds[bundle + 1]]
            rows = (f"{file.path}\0{file.size}\0{file.etag}" for file in files)
            text = "\n".join(("bundle", self._identity, *rows))
            key = self._keys[bundle] = blake3(text.encode()).hexdigest()
        return key


def _ends(files: Sequence[DataFile]) -> Iterable[int]:
    """Where bundles end: after about a thousand objects, or where they are large enough."""
    size = 0
    for number, file in enumerate(files, 1):
        size += _room(file)
        at_end = crc32(file.path.encode()) % _NEIGHBOURS == 0 or size >= _BUNDLE_BYTES
        if at_end or number == len(files):
            yield number
            size = 0


def _runs(objects: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """Neighbours, which one write has room for: the number of the first one, and contents."""
    first, contents = 0, list[bytes]()
    for number, content in objects:
        if contents and (number != first + len(contents) or len(contents) == _AT_ONCE):
            yield first, contents
            contents = []
        if not contents:
            first = number
        contents.append(content)
    if contents:
        yield first, contents


def _bytes(contents: Iterable[bytes]) -> int:
    return sum(map(len, contents))


def _room(file: DataFile) -> int:
    return file.size if file.size <= OBJECT_BYTES else 0


def _mark(content: bytes) -> int:
    return crc32(content) or 1
