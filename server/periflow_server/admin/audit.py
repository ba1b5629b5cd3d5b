"""``pf-server admin audit``."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from periflow_server.admin.command import Commands
from periflow_server.admin.target import open_target

if TYPE_CHECKING:
    from periflow_server.db.audit import AuditEvent


def add_commands(commands: Commands) -> None:
    """Add the command of the audit trail."""
    parser = commands.add("audit", show_audit, help="show who did what with credentials and keys")
    parser.add_argument("--org", metavar="NAME", help="of one organization only")
    parser.add_argument("--contains", metavar="TEXT", help="with this in actor, action or subject")
    parser.add_argument("--since", metavar="DATE", help="from this day on, as 2026-11-02 (UTC)")
    parser.add_argument("--limit", type=int, default=100, help="the last N events (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def show_audit(options: argparse.Namespace) -> int:
    """Print the last events, oldest first: a line each, or JSON."""
    from periflow_server.services.audit import events

    since = _moment(options.since) if options.since else None
    with open_target(options) as target, target.database.read() as session:
        found = events(
            session,
            organization=options.org,
            text=options.contains,
            since=since,
            limit=max(1, options.limit),
        )
    if options.json:
        print(json.dumps([_document(each) for each in found], indent=2, ensure_ascii=False))
        return 0
    print("\t".join(("Time", "Actor", "Action", "Subject")))
    for each in found:
        print("\t".join((f"{each.at:%Y-%m-%d %H:%M:%S}", each.actor, each.action, each.subject)))
    return 0


def _moment(text: str) -> datetime:
    from periflow_sdk.errors import UsageError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date.", hint="Write it as 2026-11-02.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _document(event: AuditEvent) -> dict[str, object]:
    return {
        "at": event.at.isoformat(),
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "organization_id": event.organization_id,
        "project_id": event.project_id,
    }
