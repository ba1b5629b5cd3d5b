"""Whether the store has what the database names, whole: chunks, manifests and logs."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from blake3 import blake3

from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots.manifest import Manifest
from periflow_server.db import soundness as db
from periflow_server.db.base import Database
from periflow_server.db.log import LogSegment
from periflow_server.storage.key import chunk_key, manifest_key
from periflow_server.storage.store import Store

_READ_AT_ONCE = 4
Kind = Literal["chunk", "manifest", "log"]


@dataclass(frozen=True)
class Damage:
    """One object that is not what it should be.

    ``what``: ``missing``, ``wrong size`` or ``wrong bytes``. ``needed_by``: what cannot be
    downloaded whole, in words.
    """

    kind: Kind
    key: str
    what: str
    project: str
    needed_by: list[str]


@dataclass
class Report:
    """What a check has found; ``size`` in bytes of the objects looked at."""

    objects: int = 0
    size: int = 0
    unnamed: int = 0
    unnamed_size: int = 0
    damages: list[Damage] = field(default_factory=list)


def check_store(
    database: Database, store: Store, *, quick: bool, tell: Callable[[str], None]
) -> Report:
    """Look at every object that the database names; the server may be running.

    What is deleted or collected meanwhile is no damage. Memory is bounded by a few chunks.

    Args:
        quick: Look at sizes only, and read nothing.
        tell: Hears of each project before it is looked at.

    Raises:
        StoreError: the store does not answer, or refuses the key.
    """
    report = Report()
    with database.read() as session:
        projects = db.projects(session)
    for project in projects:
        tell(f"{project.organization}/{project.name}")
        _ProjectCheck(database, store, project, report, quick=quick).run()
    tell("logs")
    _check_logs(database, store, report, quick=quick)
    return report


class _ProjectCheck:
    def __init__(
        self,
        database: Database,
        store: Store,
        project: db.ProjectName,
        report: Report,
        *,
        quick: bool,
    ) -> None:
        self._database = database
        self._store = store
        self._project = project
        self._report = report
        self._quick = quick

    def run(self) -> None:
        with self._database.read() as session:
            # Before the listing: what is sent and committed meanwhile is not looked for in vain.
            chunks = db.needed_chunks(session, self._project.id)
            snapshots = db.snapshot_ids(session, self._project.id)
        self._check_chunks(chunks)
        self._check_manifests(snapshots)

    def _check_chunks(self, chunks: Mapping[str, int]) -> None:
        folder = chunk_key(self._project.id, "")
        there = {key.rpartition("/")[2]: size for key, size in self._store.listing(folder)}
        unnamed = [size for name, size in there.items() if name not in chunks]
        self._report.unnamed += len(unnamed)
        self._report.unnamed_size += sum(unnamed)
        self._report.objects += len(chunks)
        self._report.size += sum(chunks.values())
        faults = {
            name: "missing" if name not in there else "wrong size"
            for name, size in chunks.items()
            if there.get(name) != size
        }
        if not self._quick:
            faults.update(self._wrong_bytes([name for name in chunks if name not in faults]))
        self._note_chunks(faults)

    def _wrong_bytes(self, names: list[str]) -> Iterator[tuple[str, str]]:
        with ThreadPoolExecutor(_READ_AT_ONCE, thread_name_prefix="check") as pool:
            for name, what in zip(names, pool.map(self._fault_of, names), strict=True):
                if what:
                    yield name, what

    def _fault_of(self, name: str) -> str:
        try:
            data = self._store.get_bytes(chunk_key(self._project.id, name))
        except FileNotFoundError:
            return "missing"
        return "" if blake3(data).hexdigest() == name else "wrong bytes"

    def _note_chunks(self, faults: Mapping[str, str]) -> None:
        with self._database.read() as session:
            snapshots = db.snapshots_of_chunks(session, self._project.id, sorted(faults))
            affected = sorted({each for found in snapshots.values() for each in found})
            uses = db.uses(session, self._project.id, affected)
        for name in sorted(snapshots):
            key = chunk_key(self._project.id, name)
            needed = _words(snapshots[name], uses)
            self._note("chunk", key, faults[name], needed)

    def _check_manifests(self, snapshots: list[str]) -> None:
        faults = {}
        for name in snapshots:
            self._report.objects += 1
            if what := self._manifest_fault(name):
                faults[name] = what
        with self._database.read() as session:
            still = set(db.snapshot_ids(session, self._project.id))
            uses = db.uses(session, self._project.id, sorted(faults))
        for name in sorted(still.intersection(faults)):
            key = manifest_key(self._project.id, name)
            self._note("manifest", key, faults[name], _words([name], uses))

    def _manifest_fault(self, name: str) -> str:
        try:
            document = self._store.get_bytes(manifest_key(self._project.id, name))
            self._report.size += len(document)
            return "" if Manifest.parse(document).id == name else "wrong bytes"
        except FileNotFoundError:
            return "missing"
        except PeriFlowError as error:
            if error.code.startswith("store_"):
                raise
            return "wrong bytes"

    def _note(self, kind: Kind, key: str, what: str, needed_by: list[str]) -> None:
        place = f"{self._project.organization}/{self._project.name}"
        self._report.damages.append(Damage(kind, key, what, place, needed_by))


def remove_damaged_chunks(store: Store, damages: Collection[Damage]) -> int:
    """Remove chunks with wrong bytes, so that the next upload of the same files sends them anew."""
    keys = [each.key for each in damages if each.kind == "chunk" and each.what != "missing"]
    store.delete(keys)
    return len(keys)


def _words(snapshots: list[str], uses: Mapping[str, list[str]]) -> list[str]:
    found = [word for name in snapshots for word in uses.get(name, [f"snapshot {name[:12]}"])]
    return sorted(set(found))


def _check_logs(database: Database, store: Store, report: Report, *, quick: bool) -> None:
    with database.read() as session:
        segments = db.log_segments(session)
    report.objects += len(segments)
    if quick:
        there = store.sizes("logs", [each.key for each in segments], lambda: len(segments))
        report.size += sum(there.values())
        faults = {each.key: "missing" for each in segments if each.key not in there}
    else:
        faults = {each.key: what for each in segments if (what := _log_fault(store, each))}
        report.size += sum(each.size for each in segments)
    for key, what in faults.items():
        with database.read() as session:
            if db.has_log_segment(session, key):
                report.damages.append(Damage("log", key, what, "", ["log of a job"]))


def _log_fault(store: Store, segment: LogSegment) -> str:
    try:
        data = zlib.decompress(store.get_bytes(segment.key))
    except FileNotFoundError:
        return "missing"
    except zlib.error:
        return "wrong bytes"
    return "" if len(data) == segment.size else "wrong size"
