"""How much a project may store. Chunks count once, from the moment somebody means to send them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, UsageError
from periflow_server.db import snapshot as db
from periflow_server.db.base import Database, Session, lock, utcnow
from periflow_server.db.project import Project
from periflow_server.settings import Settings

UNLIMITED = -1
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_MOST_BYTES = (1 << 63) - 1
_KEPT_WHEN_FULL = timedelta(minutes=10)


def parse_size(text: str) -> int:
    """Bytes of ``500GB`` and the like; powers of 1000.

    Raises:
        InvalidRequestError: it is no size (``wrong_size``).
    """
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else _MOST_BYTES
    if size >= _MOST_BYTES:
        raise InvalidRequestError(
            f"{text!r} is no size.", code="wrong_size", hint="Write it as 500GB or 2TB."
        )
    return size


def default_quota(settings: Settings) -> int | None:
    """The bytes of a project without a quota of its own; None for no limit.

    Raises:
        UsageError: the setting is no size.
    """
    if not settings.project_quota:
        return None
    try:
        return parse_size(settings.project_quota)
    except InvalidRequestError as error:
        raise UsageError(
            f"PERIFLOW_SERVER_PROJECT_QUOTA is wrong: {error.message}", hint=error.hint
        ) from None


def quota_of(project: Project, settings: Settings) -> int | None:
    """The bytes that the project may store; None for no limit."""
    if project.storage_quota is None:
        return default_quota(settings)
    return None if project.storage_quota == UNLIMITED else project.storage_quota


def storage_usage(session: Session, settings: Settings, project_id: str) -> m.StorageUsage:
    """What a project stores and may store."""
    project = session.get_one(Project, project_id)
    size, count = db.stored(session, project_id)
    return m.StorageUsage(
        used_bytes=size, chunk_count=count, quota_bytes=quota_of(project, settings)
    )


def refuse_excess(
    session: Session, settings: Settings, project_id: str, sizes: Mapping[str, int]
) -> None:
    """Raise when these chunks (hash → bytes) do not fit in any more; nobody adds others meanwhile.

    Raises:
        ConflictError: ``storage_quota_exceeded``.
    """
    project = session.get_one(Project, project_id)
    quota = quota_of(project, settings)
    if quota is None:
        return
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
            "within the hour), or ask the administrator for more.",
            data={"quota_bytes": quota, "used_bytes": used, "wanted_bytes": wanted},
        )


def free_unfinished(database: Database, project_id: str) -> None:
    """Let go soon of what unfinished uploads sent to a full project.

    An upload that still goes on loses nothing: its commit sends again what is missing.
    """
    with database.write() as session:
        db.shorten_leases(session, project_id, utcnow() + _KEPT_WHEN_FULL)


def shown_size(size: int) -> str:
    """Bytes in words."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
