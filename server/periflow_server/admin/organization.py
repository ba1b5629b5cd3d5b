"""``pf-server admin list-orgs|approve-org|refuse-org``."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from periflow_server.admin.command import Commands, confirm
from periflow_server.admin.target import open_target

if TYPE_CHECKING:
    from periflow_server.services.approval import Candidate

_STATUSES = ("staged", "active", "refused")


def add_commands(commands: Commands) -> None:
    """Add the commands of organizations."""
    listing = commands.add("list-orgs", list_organizations, help="list all organizations")
    listing.add_argument("--status", choices=_STATUSES, help="those of one status only")
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    approve = commands.add("approve-org", approve_organization, help="let organizations be used")
    approve.add_argument("names", metavar="NAME", nargs="+")
    refuse = commands.add("refuse-org", refuse_organization, help="refuse organizations that wait")
    refuse.add_argument("names", metavar="NAME", nargs="+")
    refuse.add_argument("--reason", help="what their owners are told")
    refuse.add_argument("-y", "--yes", action="store_true", help="do not ask")


def list_organizations(options: argparse.Namespace) -> int:
    """Print the organizations: a line each, or JSON."""
    from periflow_server.services.approval import candidates

    with open_target(options) as target, target.database.read() as session:
        found = candidates(session, options.status)
    if options.json:
        print(json.dumps([_document(each) for each in found], indent=2))
        return 0
    print("\t".join(("Name", "Status", "Owners", "Created")))
    for each in found:
        created = f"{each.created_at:%Y-%m-%d %H:%M} UTC"
        print("\t".join((each.name, each.status.capitalize(), ", ".join(each.owners), created)))
    return 0


def approve_organization(options: argparse.Namespace) -> int:
    """Approve all that are named, or none."""
    from periflow_server.services.approval import approve

    with open_target(options) as target, target.database.write() as session:
        done = [approve(session, name) for name in options.names]
    for each in done:
        print(f"Organization {each.name} is active now.")
    return 0


def refuse_organization(options: argparse.Namespace) -> int:
    """Refuse all that are named, or none."""
    from periflow_server.services.approval import refuse

    if not confirm(f"Refuse {', '.join(options.names)}?", yes=options.yes):
        return 1
    with open_target(options) as target, target.database.write() as session:
        done = [refuse(session, name, options.reason) for name in options.names]
    for each in done:
        print(f"Organization {each.name} was refused.")
    return 0


def _document(candidate: Candidate) -> dict[str, object]:
    return {
        "name": candidate.name,
        "status": candidate.status,
        "owners": candidate.owners,
        "created_at": candidate.created_at.isoformat(),
        "refusal": candidate.refusal,
    }
