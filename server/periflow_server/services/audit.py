"""The audit trail, kept in the transaction of what it tells of."""

from __future__ import annotations

from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Session
from periflow_server.db.user import User


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    organization_id: str | None = None,
    project_id: str | None = None,
) -> None:
    """Note an act. None of it may be secret.

    Args:
        actor: Who, as ``user ada`` (see ``user``), ``job 3``, ``server`` or ``admin``.
        action: What, as ``credential.use``.
        subject: With what, by name and id.
    """
    session.add(
        AuditEvent(
            actor=actor,
            action=action,
            subject=subject,
            organization_id=organization_id,
            project_id=project_id,
        )
    )


def user(session: Session, user_id: str) -> str:
    """A user as an actor."""
    return f"user {session.get_one(User, user_id).username}"
