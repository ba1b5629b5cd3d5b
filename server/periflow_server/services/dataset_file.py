"""The files of a dataset, page by page: from its manifest, or from its bucket."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from periflow_sdk.api import models as m
from periflow_sdk.snapshots.manifest import FileEntry, Manifest
from periflow_server.bucket import open_bucket
from periflow_server.bucket.page import checked
from periflow_server.services import dataset_link, snapshot
from periflow_server.services.dataset import find, snapshot_of

if TYPE_CHECKING:
    from periflow_server.db.base import Database
    from periflow_server.services.access import ProjectAccess
    from periflow_server.services.vault import Vault
    from periflow_server.settings import Settings
    from periflow_server.storage.store import Store


def files(
    database: Database,
    store: Store,
    vault: Vault,
    settings: Settings,
    access: ProjectAccess,
    name: str,
    *,
    path: str,
    recursive: bool,
    version: int | None,
    cursor: str | None,
    limit: int,
) -> m.DatasetPage:
    """What lies in a folder of a dataset; the files anywhere below it if ``recursive``.

    Raises:
        NotFoundError: ``dataset_not_found``, ``dataset_version_not_found`` and what ``place_of``
            raises.
        InvalidRequestError: ``invalid_path``, and what is wrong with a bucket.
    """
    folder = checked(path) if path.strip("/") else ""
    with database.read() as session:
        dataset = find(session, access.project_id, name)[0]
        if dataset.credential_id is None:
            snapshot_id = snapshot_of(session, dataset, version)
    if dataset.credential_id is None:
        document = snapshot.manifest(database, store, access.project_id, snapshot_id)
        return page_of(
            Manifest.parse(document), folder, recursive=recursive, cursor=cursor, limit=limit
        )
    with database.write() as session:
        place = dataset_link.place_of(session, vault, access, dataset)
    bucket = open_bucket(place, settings)
    return bucket.page(folder, recursive=recursive, cursor=cursor, limit=limit)


def page_of(
    manifest: Manifest, folder: str, *, recursive: bool, cursor: str | None, limit: int
) -> m.DatasetPage:
    """A page of what a manifest has in a folder.

    Args:
        cursor: The last path of the page before.
    """
    start = f"{folder}/" if folder else ""
    found: dict[str, m.DatasetEntry] = {}
    for entry in manifest.entries:
        if not isinstance(entry, FileEntry) or not entry.path.startswith(start):
            continue
        below, slash, _ = entry.path[len(start) :].partition("/")
        if slash and not recursive:
            path = start + below
            found.setdefault(path, m.DatasetFolder(path=path))
        else:
            found[entry.path] = m.DatasetFile(path=entry.path, size=entry.size, etag=entry.hash)
    paths = sorted(found)
    first = bisect_right(paths, cursor) if cursor is not None else 0
    shown = paths[first : first + limit]
    more = first + limit < len(paths)
    return m.DatasetPage(
        items=[found[path] for path in shown], next_cursor=shown[-1] if more else None
    )
