"""What people are told of a job, put into the outbox with the change that it tells of."""

from __future__ import annotations

from datetime import datetime
from email.message import EmailMessage
from typing import Any, get_args

from periflow_sdk.api.jobfile import JobSpec, NotifyOn
from periflow_server.db.base import Session, utcnow
from periflow_server.db.event import Event
from periflow_server.db.job import Job
from periflow_server.db.notification import Delivery, Notification, notifications_of
from periflow_server.db.organization import Organization
from periflow_server.db.project import Project
from periflow_server.db.user import User

_OCCASIONS = frozenset(get_args(NotifyOn))
_SAID = {
    "running": "is running",
    "success": "has succeeded",
    "failed": "has failed",
    "stopped": "was stopped",
    "preempted": "was preempted",
    "node-lost": "has lost its node",
}


def note_change(
    session: Session, job: Job, kind: str, message: str, *, attempt: int | None = None
) -> None:
    """Write a change into a job's history, and tell everybody who wants to know of it."""
    event = Event(job_id=job.id, kind=kind, message=message, attempt=attempt)
    session.add(event)
    if kind in _OCCASIONS:
        _announce(session, job, event)


def _announce(session: Session, job: Job, event: Event) -> None:
    messages: dict[str, Delivery] = {}
    if (plugin := JobSpec.model_validate(job.spec).plugin.slack) and event.kind in plugin.on:
        target = slack_target(plugin.credential_id, plugin.channel)
        messages[target] = Delivery(
            kind="slack",
            target=target,
            credential_id=plugin.credential_id,
            channel=plugin.channel,
        )
    for rule, _ in notifications_of(session, job.project_id):
        if event.kind in rule.on:
            messages[rule.target] = Delivery(
                notification_id=rule.id, kind=rule.kind, target=rule.target
            )
    if not messages:
        return
    session.flush()  # the event gets its id and time
    content = _job_content(session, job, event)
    for message in messages.values():
        message.project_id, message.job_id, message.event_id = job.project_id, job.id, event.id
        message.content = content
        session.add(message)


def queue_test(session: Session, rule: Notification, username: str) -> Delivery:
    """Put a test message of a rule into the outbox."""
    data = {**_place(session, rule.project_id), "message": f"{username} tests this notification."}
    message = Delivery(
        project_id=rule.project_id,
        notification_id=rule.id,
        kind=rule.kind,
        target=rule.target,
        content=_content("test", utcnow(), data),
    )
    session.add(message)
    session.flush()
    return message


def slack_target(credential_id: str, channel: str) -> str:
    """A channel in the form that can be compared."""
    return f"slack:{credential_id}:{channel.strip().lstrip('#').lower()}"


def subject(content: dict[str, Any]) -> str:
    """A message in one line."""
    data = content["data"]
    where = f"{data['organization']['name']}/{data['project']['name']}"
    if "job" not in data:
        return f"A test from {where}"
    job = data["job"]
    occasion = content["type"].removeprefix("job.")
    name = "".join(sign if sign.isprintable() else " " for sign in job["name"])
    return f"Job {job['number']} ({name}) of {where} {_SAID[occasion]}"


def text(content: dict[str, Any]) -> str:
    """A message in a few lines."""
    data = content["data"]
    lines = [f"{subject(content)}.", data["message"]]
    if "job" in data:
        lines.append(f"pf job view {data['job']['number']}")
    return "\n".join(lines)


def slack_text(content: dict[str, Any]) -> str:
    """The same for Slack, where three signs mean something."""
    plain = text(content)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def mail(content: dict[str, Any], to: User) -> EmailMessage:
    """The same as a mail."""
    message = EmailMessage()
    message["To"] = to.email
    message["Subject"] = subject(content)
    message.set_content(f"Hello {to.name},\n\n{text(content)}\n\n`pf notify list` says why.\n")
    return message


def _job_content(session: Session, job: Job, event: Event) -> dict[str, Any]:
    creator = session.get_one(User, job.created_by).username
    fields = ("id", "number", "name", "exit_code", "step", "total_steps", "vm", "num_devices")
    data = {
        **_place(session, job.project_id),
        "job": {**{name: getattr(job, name) for name in fields}, "created_by": creator},
        "attempt": event.attempt,
        "message": event.message,
    }
    return _content(f"job.{event.kind}", event.time, data)


def _content(kind: str, moment: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "timestamp": moment.isoformat(), "data": data}


def _place(session: Session, project_id: str) -> dict[str, Any]:
    project = session.get_one(Project, project_id)
    organization = session.get_one(Organization, project.organization_id)
    return {
        "organization": {"id": organization.id, "name": organization.name},
        "project": {"id": project.id, "name": project.name},
    }
