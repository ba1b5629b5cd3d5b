"""Invitations: an address, a code that went there by mail, and who may use it once.

The code is 80 random bits, so a plain hash keeps it safe. What comes in by people may be the code
or the whole link, with or without dashes, in any case.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from periflow_sdk.api import models as m
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from periflow_server.db import invitation as db
from periflow_server.db.base import Session, lock, new_id, utcnow
from periflow_server.db.organization import (
    Membership,
    Organization,
    locked_organization,
    member_named,
)
from periflow_server.db.user import User, user_with_address
from periflow_server.letter import invitation_message
from periflow_server.services import audit
from periflow_server.services.mail import mail_state, queue_mail
from periflow_server.services.organization import OrganizationAccess, wire
from periflow_server.settings import Settings

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 16
_LOOKALIKES = str.maketrans("OIL", "011")


@dataclass(frozen=True)
class Invited:
    """What somebody who has a code may know of it; ``username`` is his, if he has an account."""

    code: str
    email: str
    organization: str
    inviter: str
    username: str | None


def invite(
    session: Session, access: OrganizationAccess, body: m.InvitationCreate, settings: Settings
) -> m.Invitation:
    """Invite an address into the organization, by mail.

    Raises:
        ConflictError: it is a member's (``already_member``), or was invited already
            (``invitation_exists``).
    """
    organization = locked_organization(session, access.organization_id)
    if (there := member_named(session, organization.id, body.email)) is not None:
        raise ConflictError(
            f"{body.email} is in organization {organization.name} already, as {there[1].username}.",
            code="already_member",
            hint="Run `pf org members`.",
        )
    row = db.find_invitation(session, organization.id, body.email)
    if row is not None and _status(row[0]) == "pending":
        raise ConflictError(
            f"{body.email} was invited already, and can still accept.",
            code="invitation_exists",
            hint=f"Run `pf org resend-invite {body.email}` to send a new mail.",
        )
    invitation = row[0] if row else db.Invitation(id=new_id(), email=body.email)
    invitation.organization_id, invitation.invited_by = organization.id, access.user_id
    invitation.created_at, invitation.accepted_at = utcnow(), None
    audit.note(session, access, "invitation.create", body.email)
    return _send(session, organization, invitation, access.user_id, settings)


def invitations(
    session: Session, access: OrganizationAccess, cursor: str | None, limit: int
) -> tuple[list[m.Invitation], str | None]:
    """The organization's invitations by address, and the cursor of what follows."""
    rows = db.invitations_of(session, access.organization_id, after=cursor, limit=limit + 1)
    items = [_wire(session, *row) for row in rows[:limit]]
    return items, items[-1].email if len(rows) > limit else None


def resend(
    session: Session, access: OrganizationAccess, name: str, settings: Settings
) -> m.Invitation:
    """Send the mail anew, with a new code; the one before stops working.

    Raises:
        NotFoundError: ``invitation_not_found``.
        ConflictError: it was accepted or revoked (``invitation_used``, ``invitation_revoked``).
    """
    organization = locked_organization(session, access.organization_id)
    invitation = _find(session, access, name)
    _refuse_settled(invitation)
    audit.note(session, access, "invitation.resend", invitation.email)
    return _send(session, organization, invitation, access.user_id, settings)


def revoke(session: Session, access: OrganizationAccess, name: str) -> None:
    """Take an invitation back.

    Raises:
        NotFoundError: ``invitation_not_found``.
        ConflictError: it was accepted or revoked (``invitation_used``, ``invitation_revoked``).
    """
    locked_organization(session, access.organization_id)
    invitation = _find(session, access, name)
    _refuse_settled(invitation)
    invitation.status = "revoked"
    audit.note(session, access, "invitation.revoke", invitation.email)


def look(session: Session, text: str) -> Invited:
    """What a code (or link) leads to; raises as ``open_invitation``."""
    invitation, organization = open_invitation(session, text, is_held=False)
    user = user_with_address(session, invitation.email)
    return Invited(
        code=_spelled(_code_in(text)),
        email=invitation.email,
        organization=organization.name,
        inviter=session.get_one(User, invitation.invited_by).name,
        username=user.username if user else None,
    )


def open_invitation(
    session: Session, text: str, *, is_held: bool = True
) -> tuple[db.Invitation, Organization]:
    """The invitation that a code (or link) can still accept, and where it leads.

    Args:
        is_held: It is ours until the end of the transaction.

    Raises:
        InvalidRequestError: there is no such code (``wrong_invitation``).
        ConflictError: it was used, revoked, or has expired (``invitation_used``,
            ``invitation_revoked``, ``invitation_expired``).
    """
    invitation = db.invitation_with_code(session, _hash(text))
    if invitation is None:
        raise InvalidRequestError(
            "This invitation code is wrong, or a newer mail has replaced it.",
            code="wrong_invitation",
            hint="Copy the code or the link from the newest mail.",
        )
    if is_held:
        invitation = lock(session, invitation)
    _refuse_settled(invitation)
    if _status(invitation) == "expired":
        raise ConflictError(
            "This invitation has expired.",
            code="invitation_expired",
            hint=f"Ask who invited you to run `pf org resend-invite {invitation.email}`.",
        )
    return invitation, session.get_one(Organization, invitation.organization_id)


def accept(session: Session, text: str, user_id: str) -> m.Organization:
    """Make the user a member of the organization whose invitation this is.

    Raises:
        ForbiddenError: it was sent to another address (``invitation_for_another``).
        InvalidRequestError, ConflictError: as ``open_invitation``.
    """
    user = session.get_one(User, user_id)
    invitation, organization = open_invitation(session, text)
    if invitation.email != user.email:
        raise ForbiddenError(
            f"This invitation was sent to another address than yours, {user.email}.",
            code="invitation_for_another",
            hint="Log in as who was invited (`pf login`), or ask for an invitation to your "
            "address.",
        )
    invitation.status, invitation.accepted_at = "accepted", utcnow()
    membership = session.get(Membership, (organization.id, user.id))
    if membership is None:
        membership = Membership(organization_id=organization.id, user_id=user.id, role="member")
        session.add(membership)
    audit.record(
        session,
        actor=audit.user(session, user.id),
        action="invitation.accept",
        subject=invitation.email,
        organization_id=organization.id,
    )
    return wire(organization, membership.role)


def _send(
    session: Session,
    organization: Organization,
    invitation: db.Invitation,
    user_id: str,
    settings: Settings,
) -> m.Invitation:
    code = _new_code()
    lifetime = timedelta(seconds=settings.invitation_seconds)
    invitation.status, invitation.code_hash = "pending", _hash(code)
    invitation.expires_at = utcnow() + lifetime
    session.add(invitation)
    inviter = session.get_one(User, user_id)
    message = invitation_message(
        invitation.email,
        organization.name,
        inviter.name,
        code=code,
        link=f"{settings.url.rstrip('/')}/invite?token={code}",
        url=settings.url,
        days=max(1, round(lifetime / timedelta(days=1))),
    )
    invitation.mail_id = queue_mail(session, message)
    session.flush()
    return _wire(session, invitation, inviter.username)


def _find(session: Session, access: OrganizationAccess, name: str) -> db.Invitation:
    row = db.find_invitation(session, access.organization_id, name)
    if row is None:
        raise NotFoundError(
            f"Nobody was invited as {name}.",
            code="invitation_not_found",
            hint="Run `pf org invitations`.",
        )
    return lock(session, row[0])


def _refuse_settled(invitation: db.Invitation) -> None:
    if invitation.status == "accepted":
        raise ConflictError(
            "This invitation was used already: it works once.",
            code="invitation_used",
            hint="Run `pf org list` to see where you are.",
        )
    if invitation.status == "revoked":
        raise ConflictError(
            "This invitation was taken back.",
            code="invitation_revoked",
            hint=f"An owner of the organization can run `pf org invite {invitation.email}`.",
        )


def _status(invitation: db.Invitation) -> m.InvitationStatus:
    if invitation.status == "pending" and invitation.expires_at <= utcnow():
        return "expired"
    return invitation.status


def _wire(session: Session, invitation: db.Invitation, username: str) -> m.Invitation:
    return m.Invitation(
        id=invitation.id,
        organization_id=invitation.organization_id,
        email=invitation.email,
        status=_status(invitation),
        invited_by=username,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
        mail=mail_state(session, invitation.mail_id) if invitation.mail_id else None,
    )


def _new_code() -> str:
    return _spelled("".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)))


def _spelled(letters: str) -> str:
    return "-".join(letters[start : start + 4] for start in range(0, len(letters), 4))


def _code_in(text: str) -> str:
    """The code in what a person gives: the code itself or a link that has it."""
    if "token=" in text:
        text = next(iter(parse_qs(urlsplit(text.strip()).query).get("token", [])), "")
    return re.sub(r"[\s-]", "", text).upper().translate(_LOOKALIKES)


def _hash(code: str) -> str:
    return hashlib.sha256(_code_in(code).encode("utf-8", "surrogateescape")).hexdigest()
