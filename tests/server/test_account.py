"""Signing up with the code from the mail, and logging in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, LoginRequiredError

if TYPE_CHECKING:
    from conftest import ServerProcess


def signup(username: str, email: str | None = None) -> m.SignupRequest:
    email = email or f"{username}@example.com"
    return m.SignupRequest(username=username, name="Ada", email=email, password="a good password")


def confirm(server: ServerProcess, username: str, code: str) -> m.Session:
    with server.anonymous() as client:
        return client.confirm_signup(m.SignupConfirmation(username=username, code=code))


def log_in(server: ServerProcess, username: str, password: str) -> m.Session:
    with server.anonymous() as client:
        return client.log_in(m.LoginRequest(username=username, password=password))


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"


def test_code_from_the_mail_makes_the_user_and_logs_in(server: ServerProcess) -> None:
    with server.anonymous() as client:
        pending = client.sign_up(signup("mail-1"))
    assert pending.username == "mail-1"
    session = confirm(server, "mail-1", server.mailed_code("mail-1@example.com"))
    assert session.user.username == "mail-1"
    with server.anonymous() as client, pytest.raises(LoginRequiredError):
        client.me()


def test_no_user_exists_before_the_code_is_given(server: ServerProcess) -> None:
    with server.anonymous() as client:
        client.sign_up(signup("unproved"))
    with pytest.raises(LoginRequiredError):
        log_in(server, "unproved", "a good password")


def test_wrong_code_is_refused_and_the_right_one_still_works(server: ServerProcess) -> None:
    with server.anonymous() as client:
        client.sign_up(signup("mistyped"))
    code = server.mailed_code("mistyped@example.com")
    with pytest.raises(InvalidRequestError) as caught:
        confirm(server, "mistyped", wrong(code))
    assert caught.value.code == "wrong_code"
    assert confirm(server, "mistyped", code).user.username == "mistyped"


def test_code_stops_working_after_five_wrong_tries(server: ServerProcess) -> None:
    with server.anonymous() as client:
        client.sign_up(signup("guessed"))
    code = server.mailed_code("guessed@example.com")
    for _ in range(5):
        with pytest.raises(InvalidRequestError):
            confirm(server, "guessed", wrong(code))
    with pytest.raises(InvalidRequestError) as caught:
        confirm(server, "guessed", code)
    assert caught.value.code == "wrong_code"


def test_code_works_once(server: ServerProcess) -> None:
    with server.anonymous() as client:
        client.sign_up(signup("once"))
    code = server.mailed_code("once@example.com")
    confirm(server, "once", code)
    with pytest.raises(InvalidRequestError) as caught:
        confirm(server, "once", code)
    assert caught.value.code == "wrong_code"


def test_expired_code_is_refused(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(PERIFLOW_SERVER_SIGNUP_SECONDS="0")
    with server.anonymous() as client:
        client.sign_up(signup("late"))
    with pytest.raises(InvalidRequestError) as caught:
        confirm(server, "late", server.mailed_code("late@example.com"))
    assert caught.value.code == "wrong_code"


def test_second_signup_of_a_name_replaces_the_first(server: ServerProcess) -> None:
    with server.anonymous() as client:
        client.sign_up(signup("again", "first@example.com"))
        client.sign_up(signup("again", "second@example.com"))
    first = server.mailed_code("first@example.com")
    second = server.mailed_code("second@example.com")
    if first != second:
        with pytest.raises(InvalidRequestError):
            confirm(server, "again", first)
    assert confirm(server, "again", second).user.email == "second@example.com"


@pytest.mark.parametrize(
    ("username", "email", "named"),
    [("taken", "new@example.com", "taken"), ("other", "TAKEN@example.com", "taken@example.com")],
)
def test_taken_name_or_address_is_a_conflict_that_names_it(
    server: ServerProcess, username: str, email: str, named: str
) -> None:
    with server.anonymous() as client:
        try:
            client.sign_up(signup("taken"))
            confirm(server, "taken", server.mailed_code("taken@example.com"))
        except ConflictError:
            pass  # the other case of this test was first
        with pytest.raises(ConflictError, match=named) as caught:
            client.sign_up(signup(username, email))
    assert caught.value.code == "user_exists"


def test_login_works_by_name_and_by_address(server: ServerProcess) -> None:
    client = server.signed_up()
    for login in (client.username, f"{client.username}@example.com".upper()):
        assert log_in(server, login, server.password).user.username == client.username


def test_wrong_password_and_unknown_user_get_the_same_answer(server: ServerProcess) -> None:
    client = server.signed_up()
    answers = []
    for username in (client.username, "nobody-at-all"):
        with pytest.raises(LoginRequiredError) as caught:
            log_in(server, username, "not the password")
        error = caught.value
        answers.append((error.code, error.message, error.hint))
    assert answers[0] == answers[1]
    assert answers[0][0] == "wrong_credentials"


def test_mail_is_readable_by_its_owner_only(server: ServerProcess) -> None:
    server.signed_up()
    mails = list((server.data_dir / "outbox").iterdir())
    assert mails
    assert all(mail.suffix == ".eml" and mail.stat().st_mode & 0o077 == 0 for mail in mails)
