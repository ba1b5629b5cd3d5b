"""Buckets that datasets are linked to: opened for people here, and for jobs with what opens them.

People get lists and signed addresses, and never what is in a credential. A job gets that, for the
datasets that its file names. Each time is a use, and noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from periflow_server.bucket import Place, open_bucket
from periflow_server.bucket.page import checked
from periflow_server.db import dataset as db
from periflow_server.db.base import Database, Session, utcnow
from periflow_server.db.credential import Credential, credential_with_id
from periflow_server.db.job import Job
from periflow_server.db.project import Project
from periflow_server.services import attempt as attempts
from periflow_server.services import audit
from periflow_server.services.access import ProjectAccess
from periflow_server.services.credential import find_in
from periflow_server.services.dataset import find, find_own, present, require_linked
from periflow_server.services.job_credential import use_credential
from periflow_server.services.snapshot import find_snapshot
from periflow_server.services.token import AttemptIdentity
from periflow_server.services.vault import Vault

if TYPE_CHECKING:
    from periflow_server.settings import Settings

_FIRST_FILES = 20


def look(
    database: Database,
    vault: Vault,
    settings: Settings,
    access: ProjectAccess,
    link: m.DatasetLink,
) -> m.DatasetPage:
    """Whether a link leads to files that its credential may list and read: the first of them.

    Raises:
        NotFoundError: there is no such credential (``credential_not_found``).
        InvalidRequestError: it is for something else (``credential_type``), its prefix is no path
            (``invalid_path``), or see ``bucket.fault``.
    """
    if link.prefix.strip("/"):
        checked(link.prefix)
    with database.write() as session:
        credential, _ = find_in(
            session, access.organization_id, access.project_id, link.credential_id
        )
        place = _open(session, vault, access, link, credential)
    bucket = open_bucket(place, settings)
    return bucket.page("", recursive=True, cursor=None, limit=_FIRST_FILES)


def look_again(
    database: Database,
    vault: Vault,
    settings: Settings,
    access: ProjectAccess,
    name: str,
    credential_id: str,
) -> None:
    """Whether another credential opens the bucket of a dataset too; see :func:`look`."""
    with database.read() as session:
        dataset = find_own(session, access, name)
        require_linked(dataset)
        link = _link(dataset).model_copy(update={"credential_id": credential_id})
    look(database, vault, settings, access, link)


def place_of(session: Session, vault: Vault, access: ProjectAccess, dataset: db.Dataset) -> Place:
    """The bucket of a linked dataset, opened for a caller.

    Raises:
        InvalidRequestError: it is kept here (``not_linked``).
        ForbiddenError: a job asks, whose file does not name it (``dataset_not_named``).
        NotFoundError: its credential was deleted (``credential_not_found``).
    """
    require_linked(dataset)
    if access.job_id is not None:
        job = session.get_one(Job, access.job_id)
        if all(mount.get("dataset_id") != dataset.id for mount in job.datasets):
            raise _not_named(dataset.name)
    return _open(session, vault, access, _link(dataset), credential_of(session, dataset))


def sources(
    database: Database,
    vault: Vault,
    settings: Settings,
    access: ProjectAccess,
    name: str,
    paths: Sequence[str],
) -> m.DatasetSources:
    """Signed addresses of files of a linked dataset; whether they exist is not asked.

    Raises:
        as ``place_of``; InvalidRequestError: a path is none (``invalid_path``).
    """
    wanted = [checked(path) for path in paths]
    with database.write() as session:
        place = place_of(session, vault, access, find(session, access.project_id, name)[0])
    expires_at = utcnow() + timedelta(seconds=settings.url_seconds)
    urls = open_bucket(place, settings, to_sign=True).sign(wanted, expires_at)
    return m.DatasetSources(
        sources=[
            m.DatasetSource(path=path, url=url, expires_at=expires_at)
            for path, url in zip(wanted, urls, strict=True)
        ]
    )


def access_of_job(
    session: Session, vault: Vault, settings: Settings, identity: AttemptIdentity, name: str
) -> m.DatasetAccess:
    """What a job needs to read a dataset that its file names.

    Raises:
        ForbiddenError: it does not name it (``dataset_not_named``).
        NotFoundError: it was linked and deleted (``dataset_not_found``), or its credential was
            (``credential_not_found``).
        ConflictError: the attempt is over.
    """
    job, attempt, node = attempts.of_agent(session, identity, to_change=False)
    if identity.is_late:
        raise ConflictError("This attempt has ended.", code="attempt_superseded")
    mount = next((each for each in job.datasets if each["name"] == name), None)
    if mount is None:
        raise _not_named(name)
    if mount["snapshot_id"] is not None:
        return _kept(session, job, mount)
    row = db.dataset_with_id(session, job.project_id, mount["dataset_id"])
    if row is None:
        raise NotFoundError(f"The dataset {name} was deleted.", code="dataset_not_found")
    credential = credential_of(session, row[0])
    actor = f"job {job.number} (attempt {attempt.number}, node {node.rank})"
    project = session.get_one(Project, job.project_id)
    values = use_credential(session, vault, credential, actor, project)
    link = _link(row[0])
    link.endpoint_url = link.endpoint_url or _address(link, settings)
    if link.cloud == "s3" and link.region is None:
        link.region = values["aws_default_region"]
    return m.DatasetAccess.model_validate({"dataset": present(row), "link": link, "secret": values})


def credential_of(session: Session, dataset: db.Dataset) -> Credential:
    """The credential that a linked dataset is opened with.

    Raises:
        NotFoundError: it was deleted (``credential_not_found``).
    """
    id = require_linked(dataset)
    credential = credential_with_id(session, dataset.organization_id, dataset.project_id, id)
    if credential is None:
        raise NotFoundError(
            f"The credential that opens dataset {dataset.name} was deleted.",
            code="credential_not_found",
            hint=f"Give it another one: pf dataset edit {dataset.name} -i CREDENTIAL",
        )
    return credential


def _kept(session: Session, job: Job, mount: dict[str, Any]) -> m.DatasetAccess:
    """The version that the job was submitted with, even if its dataset was deleted since."""
    snapshot = find_snapshot(session, job.project_id, mount["snapshot_id"])
    row = db.dataset_with_id(session, job.project_id, mount.get("dataset_id", ""))
    pinned = {
        "version": mount.get("version", 1),
        "snapshot_id": snapshot.id,
        "size": snapshot.size,
        "file_count": snapshot.file_count,
    }
    if row is not None:
        dataset = present(row).model_copy(update=pinned)
    else:
        dataset = m.Dataset(
            id=mount.get("dataset_id", ""),
            name=mount["name"],
            cloud="fai",
            active=False,
            created_by="",
            created_at=snapshot.created_at,
            **pinned,
        )
    return m.DatasetAccess(dataset=dataset, snapshot_id=snapshot.id)


def _open(
    session: Session,
    vault: Vault,
    access: ProjectAccess,
    link: m.DatasetLink,
    credential: Credential,
) -> Place:
    if credential.type != link.cloud:
        raise InvalidRequestError(
            f"Credential {credential.name} is for {credential.type}, and the dataset is in "
            f"{link.cloud}.",
            code="credential_type",
            hint=f"Run `pf credential list -t {link.cloud}`.",
        )
    actor = (
        audit.user(session, access.user_id)
        if access.job_id is None
        else f"job {session.get_one(Job, access.job_id).number}"
    )
    values = use_credential(
        session, vault, credential, actor, session.get_one(Project, access.project_id)
    )
    return Place(
        cloud=link.cloud,
        storage_name=link.storage_name,
        region=link.region or credential.details.get("aws_default_region"),
        prefix=link.prefix,
        endpoint_url=link.endpoint_url,
        credential=credential.name,
        verified_at=credential.verified_at,
        values=values,
    )


def _link(dataset: db.Dataset) -> m.DatasetLink:
    return m.DatasetLink.model_validate(
        {name: getattr(dataset, name) for name in m.DatasetLink.model_fields}
    )


def _address(link: m.DatasetLink, settings: Settings) -> str | None:
    """Where the server finds a service that is not at its cloud's own address."""
    defaults = type(settings).model_fields
    field = {"s3": "s3_url", "azure-blob": "azure_blob_url", "gcs": "gcs_url"}[link.cloud]
    url: str | None = getattr(settings, field)
    return url if url != defaults[field].default else None


def _not_named(name: str) -> ForbiddenError:
    return ForbiddenError(
        f"The file of this job does not name the dataset {name}.",
        code="dataset_not_named",
        hint="Add it to `data` in the job file, and submit the job again.",
    )
