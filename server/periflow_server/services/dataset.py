"""Datasets: named snapshots of a project with their versions, and links to buckets of others."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError
from periflow_server.db import dataset as db
from periflow_server.db.base import Session, lock, new_id
from periflow_server.db.snapshot import Snapshot
from periflow_server.permissions import Action
from periflow_server.services.access import ProjectAccess, require_own
from periflow_server.services.credential import find_in
from periflow_server.services.snapshot import hold_snapshot


def create_dataset(session: Session, access: ProjectAccess, body: m.DatasetCreate) -> m.Dataset:
    """Name a snapshot of the project, or a bucket; whoever calls has looked into that.

    Raises:
        NotFoundError: the project has no such snapshot (``snapshot_not_found``) or credential.
        ConflictError: the organization has a dataset of this name (``dataset_exists``).
    """
    dataset = db.Dataset(
        id=new_id(),
        organization_id=access.organization_id,
        project_id=access.project_id,
        name=body.name,
        details=body.metadata,
        created_by=access.user_id,
    )
    if body.link is not None:
        credential, _ = find_in(
            session, access.organization_id, access.project_id, body.link.credential_id
        )
        dataset.cloud, dataset.region = body.link.cloud, body.link.region
        dataset.storage_name, dataset.prefix = body.link.storage_name, body.link.prefix.strip("/")
        dataset.endpoint_url, dataset.credential_id = body.link.endpoint_url, credential.id
        if dataset.region is None and body.link.cloud == "s3":
            dataset.region = credential.details["aws_default_region"]
        refuse_taken(session, access, body.name)
        session.add(dataset)
    else:
        snapshot = hold_snapshot(session, access.project_id, str(body.snapshot_id))
        refuse_taken(session, access, body.name, is_upload=True)
        session.add(dataset)
        session.flush()
        _add_version(session, access, dataset, snapshot, 1)
    session.flush()
    return dataset_named(session, access.project_id, dataset.id)


def refuse_taken(
    session: Session, access: ProjectAccess, name: str, *, is_upload: bool = False
) -> None:
    """Refuse a name that a dataset of the organization has.

    Args:
        is_upload: It could become a version of the one that has the name.

    Raises:
        ConflictError: ``dataset_exists``.
    """
    if not db.is_name_taken(session, access.organization_id, name):
        return
    row = db.find_dataset(session, access.project_id, name) if is_upload else None
    raise ConflictError(
        f"A dataset named {name} exists already in this organization.",
        code="dataset_exists",
        hint="Choose another name, or add --new-version to `pf dataset upload`."
        if row is not None and row[0].credential_id is None
        else "Choose another name.",
    )


def datasets(
    session: Session, project_id: str, cursor: str | None, limit: int
) -> tuple[list[m.Dataset], str | None]:
    """The project's datasets by name, and the cursor of what follows."""
    rows = db.datasets_of(session, project_id, after=cursor, limit=limit + 1)
    items = [present(row) for row in rows[:limit]]
    return items, items[-1].name if len(rows) > limit else None


def dataset_named(session: Session, project_id: str, name: str) -> m.Dataset:
    """The project's dataset of this name or id.

    Raises:
        NotFoundError: ``dataset_not_found``.
    """
    return present(find(session, project_id, name))


def detail(session: Session, project_id: str, name: str) -> m.Dataset:
    """See :func:`dataset_named`; with the jobs that read it."""
    row = find(session, project_id, name)
    jobs = db.jobs_reading(session, row[0])
    return present(row).model_copy(update={"used_by": [job.number for job in jobs]})


def update(session: Session, access: ProjectAccess, name: str, body: m.DatasetUpdate) -> m.Dataset:
    """Give a dataset another name, other metadata or another credential.

    Jobs keep what they were submitted with, whatever it is called later.

    Raises:
        ForbiddenError: somebody else made it (``not_yours``).
        ConflictError: the name is taken (``dataset_exists``).
        InvalidRequestError: it has no credential to replace (``not_linked``).
    """
    dataset = lock(session, find_own(session, access, name))
    if body.name is not None and body.name != dataset.name:
        refuse_taken(session, access, body.name)
        dataset.name = body.name
    if body.metadata is not None:
        dataset.details = body.metadata
    if body.credential_id is not None:
        require_linked(dataset)
        credential, _ = find_in(
            session, access.organization_id, access.project_id, body.credential_id
        )
        dataset.credential_id, dataset.active = credential.id, True
    session.flush()
    return dataset_named(session, access.project_id, dataset.id)


def add_version(session: Session, access: ProjectAccess, name: str, snapshot_id: str) -> m.Dataset:
    """Make a snapshot the newest version. One that is the newest already makes no other.

    Raises:
        NotFoundError: ``dataset_not_found`` or ``snapshot_not_found``.
        ForbiddenError: somebody else made it (``not_yours``).
        ConflictError: it is linked, and has no versions (``dataset_linked``).
    """
    dataset = lock(session, find_own(session, access, name))
    if dataset.credential_id is not None:
        raise ConflictError(
            f"Dataset {dataset.name} is linked to {dataset.storage_name}, and has no versions.",
            code="dataset_linked",
            hint="Put the files into the bucket, or choose another name.",
        )
    snapshot = hold_snapshot(session, access.project_id, snapshot_id)
    if snapshot.id != dataset.snapshot_id:
        _add_version(session, access, dataset, snapshot, dataset.version + 1)
    session.flush()
    return dataset_named(session, access.project_id, dataset.id)


def _add_version(
    session: Session, access: ProjectAccess, dataset: db.Dataset, snapshot: Snapshot, number: int
) -> None:
    dataset.snapshot_id, dataset.version = snapshot.id, number
    session.add(
        db.DatasetVersion(
            dataset_id=dataset.id,
            version=number,
            project_id=dataset.project_id,
            snapshot_id=snapshot.id,
            created_by=access.user_id,
        )
    )


def versions(
    session: Session, project_id: str, name: str, cursor: str | None, limit: int
) -> tuple[list[m.DatasetVersion], str | None]:
    """The versions, the newest first, and the cursor of what follows."""
    if cursor is not None and not (cursor.isdecimal() and len(cursor) < 10):
        raise InvalidRequestError("This cursor is not one of this list.")
    dataset = find(session, project_id, name)[0]
    before = int(cursor) if cursor else None
    rows = db.versions_of(session, dataset.id, before=before, limit=limit + 1)
    items = [
        m.DatasetVersion(
            version=version.version,
            snapshot_id=version.snapshot_id,
            size=snapshot.size,
            file_count=snapshot.file_count,
            created_by=username,
            created_at=version.created_at,
        )
        for version, username, snapshot in rows[:limit]
    ]
    return items, str(items[-1].version) if len(rows) > limit else None


def snapshot_of(session: Session, dataset: db.Dataset, version: int | None) -> str:
    """The snapshot of a version, or of the newest.

    Raises:
        NotFoundError: ``dataset_version_not_found``.
    """
    if version is None or version == dataset.version:
        return str(dataset.snapshot_id)
    found = db.version_numbered(session, dataset.id, version)
    if found is None:
        raise NotFoundError(
            f"Dataset {dataset.name} has no version {version}; the newest is {dataset.version}.",
            code="dataset_version_not_found",
            hint=f"Run `pf dataset view {dataset.name}`.",
        )
    return found.snapshot_id


def delete_dataset(
    session: Session, access: ProjectAccess, name: str, *, force: bool = False
) -> None:
    """Forget a dataset. Jobs keep what they mount of one that is kept here.

    Args:
        force: Although jobs read the linked one, which then fail.

    Raises:
        NotFoundError: ``dataset_not_found``.
        ForbiddenError: somebody else made it (``not_yours``).
        ConflictError: jobs read it, and it is linked (``dataset_in_use``).
    """
    dataset = find_own(session, access, name)
    jobs = db.jobs_reading(session, dataset) if dataset.credential_id is not None else []
    if jobs and not force:
        numbers = [job.number for job in jobs]
        raise ConflictError(
            f"Dataset {dataset.name} is read by job {', '.join(map(str, numbers))}.",
            code="dataset_in_use",
            hint="Wait for them, or stop them first.",
            data={"used_by": numbers},
        )
    session.delete(dataset)


def find_own(session: Session, access: ProjectAccess, name: str) -> db.Dataset:
    """The project's dataset of this name or id, to be changed.

    Raises:
        NotFoundError: ``dataset_not_found``.
        ForbiddenError: somebody else made it (``not_yours``).
    """
    dataset = find(session, access.project_id, name)[0]
    require_own(access, dataset.created_by, Action.DATASET_CHANGE_ANY)
    return dataset


def find(session: Session, project_id: str, name: str) -> db.DatasetRow:
    """The project's dataset of this name or id.

    Raises:
        NotFoundError: ``dataset_not_found``.
    """
    row = db.find_dataset(session, project_id, name)
    if row is None:
        raise NotFoundError(
            f"There is no dataset {name} in this project.",
            code="dataset_not_found",
            hint="Run `pf dataset list`.",
        )
    return row


def require_linked(dataset: db.Dataset) -> str:
    """The id of the credential that a linked dataset is opened with.

    Raises:
        InvalidRequestError: it is kept here (``not_linked``).
    """
    if dataset.credential_id is None:
        raise InvalidRequestError(
            f"Dataset {dataset.name} is kept here, and is not linked to a bucket.",
            code="not_linked",
            hint=f"Run `pf dataset view {dataset.name}`.",
        )
    return dataset.credential_id


def present(row: db.DatasetRow) -> m.Dataset:
    """A dataset as it goes over the wire."""
    dataset, username, snapshot = row
    return m.Dataset(
        id=dataset.id,
        name=dataset.name,
        cloud=dataset.cloud,
        region=dataset.region,
        storage_name=dataset.storage_name,
        prefix=dataset.prefix,
        endpoint_url=dataset.endpoint_url,
        credential_id=dataset.credential_id,
        active=dataset.active,
        metadata=dataset.details,
        snapshot_id=dataset.snapshot_id,
        version=dataset.version,
        size=snapshot.size if snapshot else None,
        file_count=snapshot.file_count if snapshot else None,
        created_by=username,
        created_at=dataset.created_at,
    )
