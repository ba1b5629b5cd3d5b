"""Invitations: who can use them, how often, how long."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from people import invitation_codes, join_organization
from sqlalchemy import select, text
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from periflow_server.db.base import Database, utcnow
from periflow_server.db.invitation import Invitation
from periflow_server.db.schema import import_tables
from periflow_server.db.user import User
from periflow_server.services.password import hash_password

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def expire(database: Database, email: str) -> None:
    with database.write() as session:
        row = session.scalars(select(Invitation).where(Invitation.email == email)).one()
        row.expires_at = utcnow() - timedelta(seconds=1)


def test_invited_address_becomes_a_member_once(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    email = student.session.user.email
    invitation = owner.invite(owner.organization, email.upper())
    assert (invitation.email, invitation.status) == (email, "pending")
    (code,) = invitation_codes(server, email)
    joined = student.accept_invitation(code)
    assert (joined.id, joined.role) == (owner.organization, "member")
    with pytest.raises(ConflictError) as caught:
        student.accept_invitation(code)
    assert caught.value.code == "invitation_used"
    (listed,) = owner.invitations(owner.organization)
    assert (listed.status, listed.invited_by) == ("accepted", owner.username)


@pytest.mark.parametrize(
    "typed",
    [
        lambda code: f"http://server.example/invite?token={code}",
        lambda code: f"  {code.lower().replace('-', ' ')} ",
        lambda code: code.replace("0", "o").replace("1", "l"),
    ],
)
def test_code_is_taken_as_a_link_or_as_people_type_it(
    server: ServerProcess, typed: Callable[[str], str]
) -> None:
    owner, student = server.client(), server.signed_up()
    owner.invite(owner.organization, student.session.user.email)
    (code,) = invitation_codes(server, student.session.user.email)
    assert student.accept_invitation(typed(code)).id == owner.organization


def test_code_is_of_use_to_its_address_only(server: ServerProcess) -> None:
    owner, student, thief = server.client(), server.signed_up(), server.signed_up()
    owner.invite(owner.organization, student.session.user.email)
    (code,) = invitation_codes(server, student.session.user.email)
    with pytest.raises(ForbiddenError) as caught:
        thief.accept_invitation(code)
    assert caught.value.code == "invitation_for_another"
    assert student.session.user.email not in caught.value.message
    assert thief.organizations() == []
    assert student.accept_invitation(code).id == owner.organization


@pytest.mark.parametrize("code", ["0000-0000-0000-0000", "x", "http://h/invite", "\u2603"])
def test_code_that_was_never_mailed_is_wrong(server: ServerProcess, code: str) -> None:
    student = server.signed_up()
    with pytest.raises(InvalidRequestError) as caught:
        student.accept_invitation(code)
    assert caught.value.code == "wrong_invitation"


def test_expired_invitation_says_so_and_can_be_sent_anew(
    server: ServerProcess, database: Database
) -> None:
    owner, student = server.client(), server.signed_up()
    email = student.session.user.email
    owner.invite(owner.organization, email)
    (code,) = invitation_codes(server, email)
    expire(database, email)
    with pytest.raises(ConflictError) as caught:
        student.accept_invitation(code)
    assert caught.value.code == "invitation_expired"
    assert "pf org resend-invite" in (caught.value.hint or "")
    assert [each.status for each in owner.invitations(owner.organization)] == ["expired"]
    assert owner.resend_invitation(owner.organization, email).status == "pending"
    assert student.accept_invitation(invitation_codes(server, email, 2)[-1])


def test_new_mail_ends_the_code_of_the_old_one(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    email = student.session.user.email
    first = owner.invite(owner.organization, email)
    assert owner.resend_invitation(owner.organization, first.id).id == first.id
    old, new = invitation_codes(server, email, 2)
    with pytest.raises(InvalidRequestError) as caught:
        student.accept_invitation(old)
    assert caught.value.code == "wrong_invitation"
    assert student.accept_invitation(new).id == owner.organization


def test_revoked_invitation_does_not_work_until_invited_again(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    email = student.session.user.email
    owner.invite(owner.organization, email)
    owner.revoke_invitation(owner.organization, email)
    (code,) = invitation_codes(server, email)
    for attempt in (
        lambda: student.accept_invitation(code),
        lambda: owner.revoke_invitation(owner.organization, email),
        lambda: owner.resend_invitation(owner.organization, email),
    ):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.code == "invitation_revoked"
    owner.invite(owner.organization, email)
    assert student.accept_invitation(invitation_codes(server, email, 2)[-1])


def test_address_is_invited_once_and_members_are_not(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    join_organization(server, owner, student)
    with pytest.raises(ConflictError) as caught:
        owner.invite(owner.organization, student.session.user.email)
    assert caught.value.code == "already_member"
    owner.invite(owner.organization, f"new-{student.username}@example.com")
    with pytest.raises(ConflictError) as caught:
        owner.invite(owner.organization, f"new-{student.username}@example.com")
    assert caught.value.code == "invitation_exists"
    assert "pf org resend-invite" in (caught.value.hint or "")


def test_former_member_can_be_invited_again(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    join_organization(server, owner, student)
    student.leave_organization(owner.organization)
    owner.invite(owner.organization, student.session.user.email)
    code = invitation_codes(server, student.session.user.email, 2)[-1]
    assert student.accept_invitation(code).role == "member"


def test_unknown_invitation_is_not_found(server: ServerProcess) -> None:
    owner = server.client()
    for attempt in (owner.revoke_invitation, owner.resend_invitation):
        with pytest.raises(NotFoundError) as caught:
            attempt(owner.organization, "nobody@example.com")
        assert caught.value.code == "invitation_not_found"


def test_invitation_of_another_organization_is_not_found(server: ServerProcess) -> None:
    owner, other = server.client(), server.client()
    invitation = owner.invite(owner.organization, f"of-{owner.username}@example.com")
    with pytest.raises(NotFoundError):
        other.revoke_invitation(other.organization, invitation.id)


def test_codes_are_kept_as_hashes_only(server: ServerProcess, database: Database) -> None:
    owner: Client = server.client()
    email = f"secret-{owner.username}@example.com"
    owner.invite(owner.organization, email)
    (code,) = invitation_codes(server, email)
    with database.read() as session:
        rows = [repr(row) for row in session.execute(text("SELECT * FROM invitations"))]
        rows += [repr(row) for row in session.execute(text("SELECT * FROM idempotency_records"))]
    assert any(email in row for row in rows)
    for form in (code, code.replace("-", "")):
        assert not any(form in row for row in rows)
        assert form not in server.log()


def test_mail_names_who_invites_where_to_and_how_to_accept(server: ServerProcess) -> None:
    owner = server.client()
    email = f"reader-{owner.username}@example.com"
    owner.invite(owner.organization, email)
    (code,) = invitation_codes(server, email)
    mail = next(
        text
        for path in (server.data_dir / "outbox").glob("*.eml")
        if f"To: {email}" in (text := path.read_text())
    )
    body = mail.replace("=\n", "").replace("=3D", "=")
    assert f"{owner.username}-org" in body
    assert f"/invite?token={code}" in body
    assert f"pf org accept-invite --code {code}" in body
    assert "Content-Type: text/plain" in mail and "<html" not in mail


def test_mail_that_does_not_arrive_is_tried_again_and_shown_to_who_invited(
    start_server: Callable[..., ServerProcess],
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = nobody.getsockname()[1]
        server = start_server(
            PERIFLOW_SERVER_SMTP_URL=f"smtp://127.0.0.1:{port}",
            PERIFLOW_SERVER_MAIL_BACKOFF_SECONDS="0.05",
        )
        owner = signed_up_by_hand(server)
        organization = owner.create_organization("silent").id
        owner.invite(organization, "far@example.com")

        def is_tried_again() -> bool:
            (invitation,) = owner.invitations(organization)
            mail = invitation.mail
            return bool(mail and mail.status == "waiting" and mail.tries > 1 and mail.error)

        wait_until(is_tried_again, 20, server.log)
    assert not list((server.data_dir / "outbox").glob("*.eml"))


def signed_up_by_hand(server: ServerProcess) -> ApiClient:
    """A user of a server whose mail goes nowhere."""
    opened = Database(server.database_url)
    import_tables()
    try:
        with opened.write() as session:
            hashed = hash_password("correct horse battery")
            session.add(
                User(username="ada", name="Ada", email="ada@example.com", password_hash=hashed)
            )
    finally:
        opened.close()
    with ApiClient(server.url) as anonymous:
        body = m.LoginRequest(username="ada", password="correct horse battery")
        session = anonymous.log_in(body)
    return ApiClient(server.url, session.access_token)
