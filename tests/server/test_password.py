"""Passwords: changed, forgotten and set anew; weak ones refused; strangers learn nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from mailserver import MailServer
from sqlalchemy import select
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, InvalidRequestError, LoginRequiredError
from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Database, utcnow
from periflow_server.db.reset import PasswordReset

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

NEW = "a quite different one"


def change(client: Client, old: str, new: str = NEW) -> None:
    client.change_password(m.PasswordChange(password=old, new_password=new))


def log_in(server: ServerProcess, username: str, password: str) -> m.Session:
    with server.anonymous() as client:
        return client.log_in(m.LoginRequest(username=username, password=password))


def works(server: ServerProcess, token: str) -> bool:
    with ApiClient(server.url, token) as client:
        try:
            client.me()
        except LoginRequiredError:
            return False
        return True


def reset(server: ServerProcess, username: str, code: str, password: str = NEW) -> m.Session:
    body = m.PasswordResetConfirmation(username=username, code=code, password=password)
    with server.anonymous() as client:
        return client.confirm_password_reset(body)


def code_for(server: ServerProcess, username: str, email: str) -> str:
    with server.anonymous() as client:
        client.request_password_reset(m.PasswordResetRequest(username=username))
    return server.mailed_code(email)


def test_changed_password_replaces_the_old_one_and_ends_other_logins(
    server: ServerProcess, database: Database
) -> None:
    client = server.signed_up()
    other = log_in(server, client.username, server.password)
    change(client, server.password)
    assert client.me()
    assert not works(server, other.access_token)
    with pytest.raises(LoginRequiredError):
        log_in(server, client.username, server.password)
    assert log_in(server, client.username, NEW)
    with database.read() as session:
        query = select(AuditEvent.action).where(AuditEvent.actor == f"user {client.username}")
        assert "password.change" in session.scalars(query).all()


def test_login_that_ended_with_the_password_says_so(server: ServerProcess) -> None:
    client = server.signed_up()
    other = log_in(server, client.username, server.password)
    change(client, server.password)
    with (
        ApiClient(server.url, other.access_token) as ended,
        pytest.raises(LoginRequiredError, match="password was changed"),
    ):
        ended.me()


def test_password_is_changed_by_who_knows_it_only(server: ServerProcess) -> None:
    client = server.signed_up()
    with pytest.raises(InvalidRequestError) as caught:
        change(client, "not the password")
    assert caught.value.code == "wrong_password"
    assert log_in(server, client.username, server.password)


@pytest.mark.parametrize(
    "weak",
    [
        "short",
        "password",
        "Password1",
        "P-a-s-s-w-o-r-d-2",
        "12345678",
        "aaaaaaaaaaaa",
        "qwertyuiop",
    ],
)
def test_weak_password_is_refused_everywhere_with_its_code(
    server: ServerProcess, weak: str
) -> None:
    client = server.signed_up()
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    base = f"{server.url}/api/v1"
    code = code_for(server, client.username, client.session.user.email)
    bodies = {
        "signups": {"username": "weak", "name": "W", "email": "weak@example.com", "password": weak},
        "users/me/password": {"password": server.password, "new_password": weak},
        "password-resets/confirm": {"username": client.username, "code": code, "password": weak},
    }
    for path, body in bodies.items():
        answer = httpx.post(f"{base}/{path}", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "weak_password"), path
        assert weak not in str(answer.json()["data"])


@pytest.mark.parametrize(
    "password", ["correct horse battery", "Zx9#kL2!", "비밀번호는열두글자이상", "--------.:,;*"]
)
def test_other_passwords_are_taken(server: ServerProcess, password: str) -> None:
    client = server.signed_up()
    change(client, server.password, f"{password}!")
    assert log_in(server, client.username, f"{password}!")


def test_name_is_no_password(server: ServerProcess) -> None:
    client = server.signed_up()
    for guess in (client.username.upper(), client.session.user.email):
        with pytest.raises(InvalidRequestError) as caught:
            change(client, server.password, guess)
        assert caught.value.code == "weak_password"


def test_forgotten_password_is_set_anew_with_the_mailed_code_and_all_logins_end(
    server: ServerProcess,
) -> None:
    client = server.signed_up()
    code = code_for(server, client.username, client.session.user.email)
    session = reset(server, client.session.user.email, code)
    assert works(server, session.access_token)
    assert not works(server, client.session.access_token)
    assert log_in(server, client.username, NEW)


def test_code_for_a_new_password_works_once_and_the_newest_only(server: ServerProcess) -> None:
    client = server.signed_up()
    email = client.session.user.email
    first = code_for(server, client.username, email)
    second = code_for(server, email, email)
    if first != second:
        with pytest.raises(InvalidRequestError) as caught:
            reset(server, client.username, first)
        assert caught.value.code == "wrong_code"
    reset(server, client.username, second)
    with pytest.raises(InvalidRequestError):
        reset(server, client.username, second, "yet another password")


def test_code_for_a_new_password_is_of_use_for_its_user_only(server: ServerProcess) -> None:
    ada, bob = server.signed_up(), server.signed_up()
    code = code_for(server, ada.username, ada.session.user.email)
    code_for(server, bob.username, bob.session.user.email)
    if code == server.mailed_code(bob.session.user.email):
        pytest.skip("the same code for both")
    with pytest.raises(InvalidRequestError):
        reset(server, bob.username, code)
    assert log_in(server, bob.username, server.password)


def test_code_for_a_new_password_is_given_up_after_five_wrong_tries(server: ServerProcess) -> None:
    client = server.signed_up()
    code = code_for(server, client.username, client.session.user.email)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    for _ in range(5):
        with pytest.raises(InvalidRequestError):
            reset(server, client.username, wrong)
    with pytest.raises(InvalidRequestError):
        reset(server, client.username, code)
    assert log_in(server, client.username, server.password)


def test_code_for_a_new_password_expires(server: ServerProcess, database: Database) -> None:
    client = server.signed_up()
    code = code_for(server, client.username, client.session.user.email)
    with database.write() as session:
        query = select(PasswordReset).where(PasswordReset.user_id == client.session.user.id)
        session.scalars(query).one().expires_at = utcnow() - timedelta(seconds=1)
    with pytest.raises(InvalidRequestError):
        reset(server, client.username, code)


def test_changed_password_is_told_to_its_owner(server: ServerProcess) -> None:
    client = server.signed_up()
    change(client, server.password)
    outbox = server.data_dir / "outbox"
    texts = [path.read_text() for path in outbox.glob("*.eml")]
    told = [text for text in texts if "password was changed" in text]
    assert any(client.session.user.email in text for text in told)
    assert not [text for text in texts if NEW in text]


@pytest.fixture(scope="module")
def mailing(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: Any,
    new_database: Callable[[], dict[str, str]],
) -> Iterator[ServerProcess]:
    """A server as others reach it: it mails, and lets everybody try as often as he likes."""
    post = MailServer(tmp_path_factory.mktemp("post"))
    variables = {**new_database(), **post.variables, "PERIFLOW_SERVER_RATE_FACTOR": "0"}
    process = server_class(tmp_path_factory.mktemp("mailing"), variables, is_embedded=False)
    process.by_command = True  # a forked one hashes too quickly to be told from one that does not
    process.post = post
    process.mailed_code = lambda email: post.newest(email, "PeriFlow code").split(" is ")[1][:6]
    process.start()
    yield process
    process.close()
    post.close()


def answer_of(call: Callable[[], Any]) -> tuple[str, str, str | None]:
    try:
        call()
    except InvalidRequestError as error:
        return error.code, error.message, error.hint
    return "", "", None


def test_strangers_get_the_same_answer_for_names_that_nobody_has(
    mailing: ServerProcess,
) -> None:
    client = mailing.signed_up()
    shapes = []
    for name in (client.username, "nobody-at-all", "nobody@example.com"):
        with mailing.anonymous() as anonymous:
            body = m.PasswordResetRequest(username=name)
            shapes.append(set(anonymous.request_password_reset(body).model_dump()))
    assert shapes == [{"expires_at"}] * 3
    refusals = [
        answer_of(lambda name=name: reset(mailing, name, "123x56"))  # type: ignore[misc]
        for name in (client.username, "nobody-at-all")
    ]
    assert refusals[0] == refusals[1]
    assert refusals[0][0] == "wrong_code"


def test_signup_with_an_address_that_has_an_account_tells_its_mailbox_alone(
    mailing: ServerProcess, post: MailServer
) -> None:
    client = mailing.signed_up()
    answers = []
    for email in (client.session.user.email, "fresh@example.com"):
        name = f"new-{email.partition('@')[0]}"
        body = m.SignupRequest(username=name, name="N", email=email, password="a good password")
        with mailing.anonymous() as anonymous:
            answers.append(set(anonymous.sign_up(body).model_dump()))
    assert answers[0] == answers[1]
    text = post.newest(client.session.user.email, "account already")
    assert client.username in text
    with mailing.anonymous() as anonymous, pytest.raises(ConflictError) as caught:
        again = m.SignupRequest(
            username=client.username.upper(), name="N", email="f@example.com", password="good one 9"
        )
        anonymous.sign_up(again)
    assert caught.value.code == "user_exists"


@pytest.fixture
def post(mailing: Any) -> MailServer:
    found: MailServer = mailing.post
    return found


@pytest.mark.parametrize("what", ["login", "reset", "confirm", "signup"])
def test_strangers_wait_as_long_for_names_that_nobody_has(
    mailing: ServerProcess, post: MailServer, what: str
) -> None:
    client = mailing.signed_up()
    with httpx.Client(base_url=f"{mailing.url}/api/v1/") as http:

        def seconds(is_known: bool, number: int) -> float:
            name = client.username if is_known else "nobody-at-all"
            email = client.session.user.email if is_known else f"nobody{number}@example.com"
            fresh = f"fresh{number}-{is_known}"
            password = "a guess of mine"
            path, body = {
                "login": ("sessions", {"username": name, "password": password}),
                "reset": ("password-resets", {"username": name}),
                "confirm": (
                    "password-resets/confirm",
                    {"username": name, "code": "x00000", "password": password},
                ),
                "signup": (
                    "signups",
                    {"username": fresh, "name": "F", "email": email, "password": password},
                ),
            }[what]
            arrived = len(post.mails)
            begin = time.perf_counter()
            answer = http.post(path, json=body)
            taken = time.perf_counter() - begin
            assert answer.status_code in (201, 401, 422), answer.text
            if what == "signup" or (what == "reset" and is_known):  # or it slows the next request
                wait_until(lambda: len(post.mails) > arrived, explain="no mail")
            return taken

        seconds(True, 0), seconds(False, 0)
        known, unknown, number = math.inf, math.inf, 0
        # Other work only adds to what a request takes: a difference that stays is the server's.
        while number < 12 or (number < 60 and not 0.6 < unknown / known < 1.6):
            number += 1
            known = min(known, seconds(True, number))
            unknown = min(unknown, seconds(False, number))
    assert 0.6 < unknown / known < 1.6


def test_no_password_is_hashed_for_a_request_with_a_token(mailing: ServerProcess) -> None:
    client = mailing.signed_up()
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    with httpx.Client(base_url=f"{mailing.url}/api/v1/", headers=headers) as http:

        def seconds(call: Callable[[], httpx.Response]) -> float:
            begin = time.perf_counter()
            assert call().is_success
            return time.perf_counter() - begin

        body = {"username": client.username, "password": mailing.password}
        hashed = min(seconds(lambda: http.post("sessions", json=body)) for _ in range(5))
        whoami = (seconds(lambda: http.get("users/me")) for _ in range(200))
        assert any(plain < hashed / 2 for plain in whoami), "each takes as long as a hash"


def test_reset_for_a_name_that_nobody_has_mails_nobody(
    mailing: ServerProcess, post: MailServer
) -> None:
    client = mailing.signed_up()
    with mailing.anonymous() as anonymous:
        anonymous.request_password_reset(m.PasswordResetRequest(username=client.username))
        anonymous.request_password_reset(m.PasswordResetRequest(username="nobody-at-all"))
    wait_until(lambda: [x for x in post.mails if "new password" in str(x["Subject"])], 20)
    assert not [each for each in post.recipients if "nobody@invalid" in each]
