"""The audit trail: who did what with things that matter. It outlives what it tells of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, utcnow


class AuditEvent(Base):
    """One act. ``organization_id`` and ``project_id`` are no references: they may be gone."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    organization_id: Mapped[str | None] = mapped_column(index=True)
    project_id: Mapped[str | None]


def newest_events(
    session: Session,
    *,
    organization_id: str | None,
    text: str | None,
    since: datetime | None,
    limit: int,
) -> list[AuditEvent]:
    """The last events, oldest first.

    Args:
        organization_id: Of one organization only.
        text: Whose actor, action or subject has this in it.
        since: Not older than this.
    """
    query: Select[AuditEvent] = select(AuditEvent)
    if organization_id is not None:
        query = query.where(AuditEvent.organization_id == organization_id)
    if text is not None:
        columns = (AuditEvent.actor, AuditEvent.action, AuditEvent.subject)
        query = query.where(or_(*(each.contains(text, autoescape=True) for each in columns)))
    if since is not None:
        query = query.where(AuditEvent.at >= since)
    newest = session.scalars(query.order_by(AuditEvent.id.desc()).limit(limit))
    return list(newest)[::-1]
