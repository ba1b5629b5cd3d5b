"""People of an organization as tests need them: invited, joined, in a project with a role."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

from waiting import wait_until

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

MAIL_SECONDS = 60
_CODE = re.compile(r"--code (\S+)")


def invitation_codes(server: ServerProcess, email: str, count: int = 1) -> list[str]:
    """The codes of the invitations mailed to an address, once there are so many, oldest first."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [each[1] for text in _mails(server, email) if (each := _CODE.search(text))]
        return len(found) >= count

    wait_until(is_there, MAIL_SECONDS, lambda: f"no invitation was mailed to {email}")
    return found


def join_organization(server: ServerProcess, owner: Client, member: Client) -> None:
    """Invite a user into the owner's organization, and accept as he would."""
    email = member.session.user.email
    owner.invite(owner.organization, email)
    member.accept_invitation(invitation_codes(server, email)[-1])


def join_project(
    server: ServerProcess, owner: Client, role: str, member: Client | None = None
) -> Client:
    """A user (a new one) who is in the owner's project with this role."""
    member = member or server.signed_up()
    join_organization(server, owner, member)
    owner.add_project_member(owner.project, member.username, role)
    member.organization, member.project = owner.organization, owner.project
    return member


def _mails(server: ServerProcess, email: str) -> list[str]:
    """The texts of the mails to an address, oldest first."""
    outboxes = getattr(server, "outboxes", [server.data_dir / "outbox"])
    paths = sorted((path for each in outboxes for path in each.glob("*.eml")), key=_name)
    mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in paths]
    bodies = [mail.get_body(("plain",)) for mail in mails if mail["To"] == email]
    return [str(body.get_content()) for body in bodies if body is not None]


def _name(path: Path) -> str:
    return path.name
