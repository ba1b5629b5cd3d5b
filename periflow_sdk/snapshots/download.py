"""Fetching a snapshot: every chunk verified, nothing under the final name before it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import IntegrityError, PeriFlowError
from periflow_sdk.snapshots.chunkread import fetch_chunks
from periflow_sdk.snapshots.manifest import Manifest
from periflow_sdk.snapshots.partial import PartialFolder, check_target
from periflow_sdk.snapshots.progress import Progress
from periflow_sdk.snapshots.transfer import Transfer, Tuning, disk_full, free_bytes, is_full

_ASKED_AT_ONCE = 64


def read_manifest(client: ApiClient, project: str, snapshot_id: str) -> Manifest:
    """Fetch and check the description of a snapshot.

    Raises:
        NotFoundError: there is no such snapshot in the project.
        UnsafePathError: a path in it could leave the target folder.
        IntegrityError: it is damaged, or not the one that was asked for.
    """
    manifest = Manifest.parse(client.manifest(project, snapshot_id))
    if len(snapshot_id) == 64 and manifest.id != snapshot_id:
        raise IntegrityError(
            f"The manifest of snapshot {snapshot_id[:12]} is not the one that was stored.",
            code="bad_manifest",
        )
    return manifest


def download_snapshot(
    client: ApiClient,
    project: str,
    snapshot_id: str,
    target: Path,
    *,
    progress: Progress | None = None,
    tuning: Tuning | None = None,
) -> Manifest:
    """Fetch a snapshot into a folder that appears only when it is whole.

    What a killed download has left in ``.<name>.part`` beside the target is used by the next.

    Args:
        client: The control plane.
        project: Id of the project that the snapshot belongs to.
        snapshot_id: Which snapshot.
        target: The folder that shall appear; it must not exist or be empty.
        progress: Told of every byte.

    Raises:
        UsageError: the target is there already (``target_exists``).
        NotFoundError: there is no such snapshot.
        UnsafePathError: the manifest holds a path that leaves the target.
        IntegrityError: a chunk stays damaged after several tries.
        PeriFlowError: the disk is full (``disk_full``), the store does not deliver
            (``transfer_failed``), or another process is at it (``download_running``).
    """
    check_target(target)
    manifest = read_manifest(client, project, snapshot_id)
    with _disk_errors(target, lambda: manifest.size):
        part = PartialFolder(target, manifest)
    with part, _disk_errors(part.target, part.missing_bytes):
        with Transfer(client, project, progress, tuning or Tuning()) as transfer:
            _fetch(transfer, manifest, part)
        part.publish()
    return manifest


def _fetch(transfer: Transfer, manifest: Manifest, part: PartialFolder) -> None:
    """Fetch whatever is not there yet."""

    def weight(number: int) -> int:
        """Bytes of files that a chunk stands for."""
        return sum(place.length for place in part.placements[number])

    transfer.progress.total(manifest.size, manifest.file_count)
    for number in part.finished:
        transfer.progress.skipped(weight(number))
    needed = part.missing_bytes()
    if needed > free_bytes(part.folder):
        raise disk_full(part.target.parent, needed)
    part.prepare()
    finished = set(part.finished)
    rest = [number for number in range(len(manifest.chunks)) if number not in finished]
    fetch_chunks(
        transfer,
        [manifest.chunks[number] for number in rest],
        lambda index, content, source: part.write(rest[index], content, source),
        lambda index: weight(rest[index]),
        lambda index: part.pour(rest[index]),
    )


@contextmanager
def _disk_errors(target: Path, missing: Callable[[], int]) -> Iterator[None]:
    """Turns what the target's disk says into an error with the way out."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise disk_full(target.parent, missing()) from error
        raise PeriFlowError(
            f"{error.filename or target} cannot be written: {error.strerror}.",
            code="write_failed",
        ) from error
