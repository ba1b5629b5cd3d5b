"""What an organization's devices were used for: device hours by project, user and month.

A device counts from the moment an attempt got it until the attempt ended. Runs that people attach
hold no devices of ours.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_server.db import usage as db
from periflow_server.db.base import Session, utcnow
from periflow_server.db.organization import member_names
from periflow_server.db.project import Project
from periflow_server.db.usage import Hold, UsageRecord

_MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
Key = tuple[str, str, str]
"""Month, project and username."""


@dataclass
class _Sum:
    seconds: float = 0.0
    jobs: set[str] = field(default_factory=set)
    earlier_jobs: int = 0


def usage(
    session: Session, organization_id: str, since: str | None, until: str | None
) -> list[m.Usage]:
    """Device hours by month, project and user.

    Args:
        since: The first month, as ``2024-05``; None for all.
        until: The last month.

    Raises:
        InvalidRequestError: one of them is no month, or they are in the wrong order
            (``wrong_month``).
    """
    first, last = _start(since, "since"), _start(until, "until")
    if first and last and first > last:
        raise _wrong_month(f"The months from {since} to {until} are none.")
    end = _following(last) if last else None
    sums = _sums(db.holds(session, organization_id, since=first, until=end), first, end)
    for record in db.usage_records(session, organization_id, since, until):
        found = sums[(record.month, record.project, record.username)]
        found.seconds += record.device_seconds
        found.earlier_jobs += record.jobs
    members = member_names(session, organization_id)
    return [
        m.Usage(
            project=project,
            user=username,
            is_member=username in members,
            month=month,
            device_hours=round(found.seconds / 3600, 4),
            jobs=len(found.jobs) + found.earlier_jobs,
        )
        for (month, project, username), found in sorted(sums.items())
    ]


def keep_usage(session: Session, project: Project, job_id: str | None = None) -> None:
    """Write down what a project, or one job of it, has used, before it is deleted."""
    held = db.holds(session, project.organization_id, project_id=project.id, job_id=job_id)
    for (month, name, username), found in _sums(held, None, None).items():
        session.add(
            UsageRecord(
                organization_id=project.organization_id,
                project=name,
                username=username,
                month=month,
                device_seconds=found.seconds,
                jobs=len(found.jobs),
            )
        )


def _sums(
    held: Iterable[Hold], first: datetime | None, end: datetime | None
) -> defaultdict[Key, _Sum]:
    sums: defaultdict[Key, _Sum] = defaultdict(_Sum)
    now = utcnow()
    for hold in held:
        if not hold.devices:
            continue
        since = max(hold.since, first) if first else hold.since
        until = min(hold.until or now, end) if end else hold.until or now
        for month, seconds in _by_month(since, until):
            found = sums[(month, hold.project, hold.username)]
            found.seconds += seconds * len(hold.devices)
            found.jobs.add(hold.job_id)
    return sums


def _by_month(since: datetime, until: datetime) -> Iterator[tuple[str, float]]:
    """The time between two moments, cut where months (UTC) end."""
    while since < until:
        end = min(until, _following(since))
        yield f"{since:%Y-%m}", (end - since).total_seconds()
        since = end


def _following(moment: datetime) -> datetime:
    """The start of the next month."""
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return datetime(year, month, 1, tzinfo=UTC)


def _start(month: str | None, name: str) -> datetime | None:
    if month is None:
        return None
    if not _MONTH.fullmatch(month) or not 1970 <= int(month[:4]) <= 9998:
        raise _wrong_month(f"{name}: {month!r} is no month.")
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def _wrong_month(message: str) -> InvalidRequestError:
    return InvalidRequestError(message, code="wrong_month", hint="Give months as 2024-05.")
