"""How much a project may store. Chunks count once, from the moment somebody means to send them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.api.size import shown_size
from periflow_sdk.errors import ConflictError
from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, Session, lock, utcnow
from periflow_server.db.project import Project
from periflow_server.permissions import Action, whom_to_ask
from periflow_server.settings import Settings

UNLIMITED = -1
_KEPT_WHEN_FULL = timedelta(minutes=10)


def quota_of(project: Project, settings: Settings) -> int | None:
    """The bytes that the project may store: the lesser of two limits; None without any."""
    limit = settings.project_quota if project.storage_limit is None else project.storage_limit
    limits = [each for each in (limit, project.storage_quota) if each not in (None, UNLIMITED)]
    return min(limits, default=None)


def set_quota(session: Session, project_id: str, quota: int | None) -> None:
    """Let the organization limit what its project stores; None takes that back."""
    session.get_one(Project, project_id).storage_quota = quota


def storage_usage(session: Session, settings: Settings, project_id: str) -> m.StorageUsage:
    """What a project stores and may store."""
    project = session.get_one(Project, project_id)
    size, count = db.stored(session, project_id)
    return m.StorageUsage(
        used_bytes=size, chunk_count=count, quota_bytes=quota_of(project, settings)
    )


def admit(
    session: Session, settings: Settings, project_id: str, sizes: Mapping[str, int]
) -> set[str]:
    """Those of the chunks (hash → bytes) that are new to the project.

    Raises:
        ConflictError: they do not fit in any more (``storage_quota_exceeded``).
    """
    project = session.get_one(Project, project_id)
    quota = quota_of(project, settings)
    if quota is None:
        return db.unknown_chunks(session, project_id, sizes)
    lock(session, project)
    new = db.unknown_chunks(session, project_id, sizes)
    wanted = sum(sizes[name] for name in new)
    used, _ = db.stored(session, project_id)
    if wanted and used + wanted > quota:
        raise ConflictError(
            f"The project {project.name} may store {shown_size(quota)} and has {shown_size(used)}; "
            f"{shown_size(wanted)} more do not fit.",
            code="storage_quota_exceeded",
            hint="Delete datasets or checkpoints (`pf project storage` shows the sum; it falls "
            f"within a day), or ask {whom_to_ask(Action.QUOTA_CHANGE)} for more.",
            data={"quota_bytes": quota, "used_bytes": used, "wanted_bytes": wanted},
        )
    return new


def free_unfinished(database: Database, project_id: str) -> None:
    """Let go soon of what unfinished uploads sent to a full project.

    An upload that still goes on loses nothing: its commit sends again what is missing.
    """
    with database.write() as session:
        db.shorten_leases(session, project_id, utcnow() + _KEPT_WHEN_FULL)
