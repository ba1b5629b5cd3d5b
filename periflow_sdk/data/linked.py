"""A dataset that stays in the user's bucket, read through the node's cache."""

from __future__ import annotations

import json
import os
import posixpath
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from blake3 import blake3

from periflow_sdk.data.bundle import OBJECT_BYTES, Bundles
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.partial import PartialFile
from periflow_sdk.data.process import PerProcess
from periflow_sdk.data.source import DataFile, read_slices
from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots.path import is_safe_path

_PART_BYTES = 16 * 1024 * 1024
_TREE, _FILES, _LISTING = "data", "files.json", ".files.json"
_FRESH = ".new"
_IN_FLIGHT = 128
_EXPECTED, _EXPECTED_BYTES = 4, 16 * 1024 * 1024


class Bucket(Protocol):
    """Reads objects, each only while it is what was listed; many requests may be under way."""

    def list(self) -> list[DataFile]:
        """Every object, in any order."""

    def announce(self, files: Sequence[DataFile]) -> None:
        """These will be asked for."""

    def read(self, file: DataFile, start: int, end: int) -> Future[bytes]:
        """Bytes of one."""

    def read_many(self, files: Sequence[DataFile]) -> Iterator[bytes]:
        """The whole of each, in their order; they are under way when this returns."""

    def store(
        self, file: DataFile, start: int, end: int, target: Path, final: Path | None = None
    ) -> Future[bytes]:
        """The same, written at their place in a file; then it is renamed to ``final``, if given."""


class _Reading(NamedTuple):
    """Objects that are read: what was here, what was not, and the content of that as it comes."""

    there: Sequence[bytes | None]
    absent: Sequence[DataFile]
    coming: Iterator[bytes]


class LinkedSource:
    """Objects of a bucket as they were when they were listed.

    One that has another ETag by then is refused, so that what is read never mixes two states; the
    next time the dataset is opened it is listed anew, and what has not changed is still there.

    Args:
        identity: Tells this link from others in the cache.
        bucket: Reads it.
        cache: Where objects are kept.
        address: The url and the storage options for those who read it by fsspec.
        listed_once: Name of what the listing is kept for: the processes of one attempt of a job
            on this machine see the same. None: it is listed now.
    """

    def __init__(
        self,
        identity: str,
        bucket: Bucket,
        cache: Cache,
        address: tuple[str, dict[str, Any]],
        listed_once: str | None = None,
    ) -> None:
        self.url, self.storage_options = address
        self._identity = identity
        self._bucket = bucket
        self._cache = cache
        self._listed_once = listed_once
        self._files: Sequence[DataFile] | None = None
        self._folder: Path | None = None
        self._has_looked = False
        self._expected = PerProcess[dict[tuple[str, ...], _Reading]](dict)
        self._is_warm = False

    def files(self) -> Sequence[DataFile]:
        if self._files is None:
            self._files = self._listed() if self._listed_once else self._list()
        return self._files

    def folder(self) -> Path:
        files = self.files()
        size = sum(file.size for file in files)

        def fill(target: Path) -> None:
            _Tree(self._bucket, files, target, self._known()).fill()
            _write_listing(target.with_name(_LISTING), files)

        self._folder = self._cache.obtain(self._tree_key, _TREE, size, fill, self.url)
        self._cache.note(_hash(self._identity), self._tree_key)
        return self._folder

    def fetch(self, file: DataFile) -> Path:
        if (place := self._local(file)) is not None:
            return place
        name = posixpath.basename(file.path)
        place = self._cache.obtain(self._key(file), name, file.size, self._filler(file))
        self._cache.note(self._alone, "")
        return place

    def read(self, files: Sequence[DataFile]) -> list[bytes]:
        reading = self._expected().pop(_paths(files), None)
        if reading is not None:
            with suppress(PeriFlowError):  # what was expected long ago is asked for again
                return self._finished(reading)
        return self._finished(self._begun(files))

    def expect(self, files: Sequence[DataFile]) -> None:
        expected = self._expected()
        if not self._is_warm and sum(file.size for file in files) <= _EXPECTED_BYTES:
            while len(expected) >= _EXPECTED:  # others were read after all
                expected.pop(next(iter(expected)), None)
            with suppress(PeriFlowError):  # whoever reads them will hear of it
                expected[_paths(files)] = self._begun(files)

    def _begun(self, files: Sequence[DataFile]) -> _Reading:
        # A look for each of many would cost as much as keeping it.
        some_are_alone = self._cache.noted(self._alone) is not None
        there = [self._content(file, some_are_alone) for file in files]
        absent = [file for file, content in zip(files, there, strict=True) if content is None]
        self._bucket.announce(absent)
        return _Reading(there, absent, self._bucket.read_many(absent))

    def _finished(self, reading: _Reading) -> list[bytes]:
        there, absent, coming = reading
        read = [*coming]
        self._bundles.keep(absent, read)
        self._is_warm = not absent
        come = iter(read)
        return [next(come) if content is None else content for content in there]

    def read_range(self, file: DataFile, start: int, end: int) -> bytes:
        place = self._local(file)
        if place is not None:
            return read_slices(place, [(start, end - start)])[0]
        self._bucket.announce([file])
        return self._bucket.read(file, start, end).result()

    @cached_property
    def _bundles(self) -> Bundles:
        return Bundles(self._cache, self._identity, self.files())

    def _content(self, file: DataFile, may_be_alone: bool) -> bytes | None:
        if self._whole() is None:
            if (content := self._bundles.read(file)) is not None:
                return content
            if file.size <= OBJECT_BYTES and not may_be_alone:
                return None
        place = self._local(file)
        try:
            if place is None and file.size > OBJECT_BYTES:
                place = self.fetch(file)
            return place.read_bytes() if place is not None else None
        except FileNotFoundError:  # it had to go meanwhile
            return None

    def _local(self, file: DataFile) -> Path | None:
        """The file where it is on this disk already."""
        if (folder := self._whole()) is not None:
            return folder / file.path
        return self._cache.find(self._key(file), posixpath.basename(file.path), file.size)

    def _whole(self) -> Path | None:
        """The folder of all of it where that is on this disk already."""
        if not self._has_looked:
            self._has_looked = True
            self._folder = self._cache.find(self._tree_key, _TREE)
        return self._folder

    def _filler(self, file: DataFile) -> Callable[[Path], None]:
        def fill(target: Path) -> None:
            self._bucket.announce([file])
            if file.size <= _PART_BYTES:
                _sweep(target.parent)
                fresh = _fresh(target.parent, 0)
                self._bucket.store(file, 0, file.size, fresh, target).result()
                return
            _store_large(self._bucket, file, target)

        return fill

    def _known(self) -> Callable[[DataFile], Path | None]:
        """Finds what is on this disk already: in the last folder of this link, or fetched alone."""
        key = self._cache.noted(_hash(self._identity))
        root = self._cache.find(key, _TREE) if key is not None else None
        listing = _read_listing(root.with_name(_LISTING)) if root is not None else None
        old = set(listing or ())

        def find(file: DataFile) -> Path | None:
            if root is not None and file in old:
                return root / file.path
            return self._cache.find(self._key(file), posixpath.basename(file.path), file.size)

        return find

    def _listed(self) -> Sequence[DataFile]:
        """The listing that the first process of this attempt has made."""

        def fill(target: Path) -> None:
            temporary = target.with_name(_LISTING)
            _write_listing(temporary, self._list())
            temporary.rename(target)

        key = _hash("listing", self._identity, self._listed_once or "")
        listing = _read_listing(self._cache.obtain(key, _FILES, 0, fill))
        return listing if listing is not None else self._list()

    def _list(self) -> Sequence[DataFile]:
        found = [file for file in self._bucket.list() if not file.path.endswith("/")]
        usable = [file for file in found if is_safe_path(file.path)]
        if len(usable) < len(found):
            odd = next(file.path for file in found if not is_safe_path(file.path))
            warnings.warn(
                f"{len(found) - len(usable)} objects are left out because their names cannot be "
                f"paths of files, for example {odd!r}",
                stacklevel=2,
            )
        return sorted(usable, key=lambda file: file.path)

    def _key(self, file: DataFile) -> str:
        return _hash(self._identity, file.path, str(file.size), file.etag or "")

    @cached_property
    def _alone(self) -> str:
        """The note that objects of this link were fetched one by one."""
        return _hash("alone", self._identity)

    @property
    def _tree_key(self) -> str:
        return _hash(
            "tree", self._identity, *(f"{f.path}\0{f.size}\0{f.etag}" for f in self.files())
        )


class _Tree:
    """A folder on its way into the cache; files are there under their names only when whole."""

    def __init__(
        self,
        bucket: Bucket,
        files: Sequence[DataFile],
        target: Path,
        known: Callable[[DataFile], Path | None],
    ) -> None:
        self._bucket = bucket
        self._files = files
        self._target = target
        self._known = known
        self._part = target.with_name(f".{target.name}.part")

    def fill(self) -> None:
        self._part.mkdir(parents=True, exist_ok=True)
        for folder in sorted({posixpath.dirname(file.path) for file in self._files}):
            try:
                (self._part / folder).mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise _both_file_and_folder(folder) from None
        _sweep(self._target.parent)
        missing = [f for f in self._files if not (self._is_there(f) or self._is_linked(f))]
        self._bucket.announce(missing)
        large = [file for file in missing if file.size > _PART_BYTES]
        self._store_small(file for file in missing if file.size <= _PART_BYTES)
        for file in large:
            _store_large(self._bucket, file, self._part / file.path)
        self._part.rename(self._target)

    def _is_there(self, file: DataFile) -> bool:
        try:
            return os.stat(self._part / file.path).st_size == file.size  # noqa: PTH116 - many
        except FileNotFoundError:
            return False

    def _is_linked(self, file: DataFile) -> bool:
        """Whether it could be taken from elsewhere on this disk."""
        place = self._known(file)
        try:
            if place is not None:
                os.link(place, self._part / file.path)
            return place is not None
        except OSError:
            return False

    def _store_small(self, files: Iterable[DataFile]) -> None:
        under_way: deque[Future[bytes]] = deque()
        for number, file in enumerate(files):
            if len(under_way) >= _IN_FLIGHT:
                under_way.popleft().result()
            fresh = _fresh(self._target.parent, number % (2 * _IN_FLIGHT))
            final = self._part / file.path
            under_way.append(self._bucket.store(file, 0, file.size, fresh, final))
        for answer in under_way:
            answer.result()


def _paths(files: Sequence[DataFile]) -> tuple[str, ...]:
    return tuple(file.path for file in files)


def _fresh(folder: Path, number: int) -> Path:
    """A file on its way: what a killed process had asked for may arrive still, under its own."""
    return folder / f".{os.getpid()}-{number}{_FRESH}"


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left on its way."""
    for each in folder.glob(f".*{_FRESH}"):
        each.unlink(missing_ok=True)


def _store_large(bucket: Bucket, file: DataFile, target: Path) -> None:
    """Fetch an object in parts; those that an earlier process has left are there."""
    with PartialFile(target, file.size, range(0, file.size, _PART_BYTES)) as parts:
        asked = {bucket.store(file, start, end, parts.path): start for start, end in parts.missing}
        for answer in as_completed(asked):
            answer.result()
            parts.finish(asked[answer])


def _write_listing(path: Path, files: Sequence[DataFile]) -> None:
    rows = [[file.path, file.size, file.etag] for file in files]
    path.write_text(json.dumps(rows), encoding="utf-8")


def _read_listing(path: Path) -> Sequence[DataFile] | None:
    """What was listed; None where it cannot be read, which is not the same as no files."""
    try:
        return [DataFile(*row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return None


def _both_file_and_folder(path: str) -> PeriFlowError:
    return PeriFlowError(
        f"The bucket has an object {path!r} and others below that name, which no disk can hold.",
        code="not_a_folder",
        hint="Read it file by file: dataset.open(), dataset.read(), dataset.fs.",
    )


def _hash(*parts: str) -> str:
    return blake3("\n".join(parts).encode()).hexdigest()
