"""The page behind an invitation's link: for people with and without an account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from people import invitation_codes

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

PASSWORD = "correct horse battery"
NEW = {"username": "x", "name": "New", "password": "a long new passphrase"}


def invited(server: ServerProcess, owner: Client, email: str) -> str:
    owner.invite(owner.organization, email)
    return invitation_codes(server, email)[-1]


def open_page(server: ServerProcess, code: str) -> httpx.Response:
    return httpx.get(f"{server.url}/invite", params={"token": code})


def send_form(server: ServerProcess, **fields: str) -> httpx.Response:
    return httpx.post(f"{server.url}/invite", data=fields)


def test_link_of_the_mail_shows_who_invites_where_to(server: ServerProcess) -> None:
    owner = server.client()
    email = f"new-{owner.username}@example.com"
    code = invited(server, owner, email)
    mails = (path.read_text() for path in (server.data_dir / "outbox").glob("*.eml"))
    text = next(mail for mail in mails if f"To: {email}" in mail)
    link = re.search(r"http\S+/invite\?token=\S+", text.replace("=\n", "").replace("=3D", "="))
    assert link is not None
    answer = httpx.get(link[0])
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    for shown in (f"{owner.username}-org", "Test invites you", email, code):
        assert shown in answer.text


def test_opening_the_page_uses_nothing_up(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    code = invited(server, owner, student.session.user.email)
    assert [open_page(server, code).status_code for _ in range(3)] == [200, 200, 200]
    assert student.accept_invitation(code).id == owner.organization


def test_page_is_kept_by_nobody_and_tells_no_other_site(server: ServerProcess) -> None:
    owner = server.client()
    code = invited(server, owner, f"quiet-{owner.username}@example.com")
    answer = open_page(server, code)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "<script" not in answer.text
    assert not re.search(r"(src|href)=", answer.text)


def test_newcomer_signs_up_on_the_page_and_is_in(server: ServerProcess) -> None:
    owner = server.client()
    email = f"fresh-{owner.username}@example.com"
    code = invited(server, owner, email)
    name = f"fresh-{owner.username}"
    answer = send_form(server, **{**NEW, "username": name, "token": code})
    assert answer.status_code == 200, answer.text
    assert f"pf login --username {name}" in answer.text
    with ApiClient(server.url) as anonymous:
        session = anonymous.log_in(m.LoginRequest(username=name, password=NEW["password"]))
    assert session.user.email == email
    with ApiClient(server.url, session.access_token) as client:
        assert [each.id for each in client.organizations()] == [owner.organization]
    again = send_form(server, **{**NEW, "username": f"{name}2", "token": code})
    assert again.status_code == 409 and "used already" in again.text


def test_user_accepts_with_his_password_and_nobody_else_can(server: ServerProcess) -> None:
    owner, student = server.client(), server.signed_up()
    code = invited(server, owner, student.session.user.email)
    assert student.username in open_page(server, code).text
    wrong = send_form(server, token=code, password="not his password")
    assert wrong.status_code == 401 and "password is wrong" in wrong.text
    assert student.organizations() == []
    takeover = send_form(server, token=code, **NEW)
    assert takeover.status_code == 401
    assert send_form(server, token=code, password=PASSWORD).status_code == 200
    assert [each.id for each in student.organizations()] == [owner.organization]


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"username": "a b"}, 422),
        ({"username": ""}, 422),
        ({"password": "short"}, 422),
        ({"password": "password1"}, 422),
        ({"name": ""}, 422),
        ({"username": "TAKEN"}, 409),
    ],
)
def test_wrong_field_is_said_on_the_page_and_the_invitation_still_works(
    server: ServerProcess, wrong: dict[str, str], status: int
) -> None:
    owner = server.client()
    code = invited(server, owner, f"slip-{owner.username}@example.com")
    fields = {**NEW, "username": f"slip-{owner.username}", **wrong, "token": code}
    if fields["username"] == "TAKEN":
        fields["username"] = owner.username
    answer = send_form(server, **fields)
    assert answer.status_code == status, answer.text
    assert 'role="alert"' in answer.text and "<form" in answer.text
    assert fields["password"] not in answer.text
    fixed = {**NEW, "username": f"slip-{owner.username}", "token": code}
    assert send_form(server, **fixed).status_code == 200


@pytest.mark.parametrize("code", ["", "0000-0000-0000-0000", "<script>alert(1)</script>"])
def test_link_that_does_not_work_is_a_page_with_the_way_out(
    server: ServerProcess, code: str
) -> None:
    for answer in (open_page(server, code), send_form(server, token=code, password="x")):
        assert answer.status_code == 422
        assert "wrong" in answer.text and "newest mail" in answer.text
        assert "<script" not in answer.text


def test_names_of_people_are_text_on_the_page(server: ServerProcess) -> None:
    owner = server.client()
    code = invited(server, owner, f"html-{owner.username}@example.com")
    attack = '"><script>alert(1)</script>'
    answer = send_form(server, token=code, username=attack, name=attack, password="short")
    assert answer.status_code == 422
    assert "<script" not in answer.text
    assert "&quot;&gt;&lt;script&gt;" in answer.text


def test_form_that_is_too_large_is_refused(server: ServerProcess) -> None:
    assert send_form(server, token="x" * 20_000).status_code == 413
