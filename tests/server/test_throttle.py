"""Rate limits: per account and address, told with the time to wait, and kept to by our client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from receiver import Receiver, Reply
from sqlalchemy import text

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import LoginRequiredError, RateLimitedError
from periflow_server.db.base import Database
from periflow_server.services.throttle import Limited, give_back, take

if TYPE_CHECKING:
    from conftest import ServerProcess


@pytest.fixture(scope="module")
def public(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: Any,
    new_database: Callable[[], dict[str, str]],
) -> Iterator[ServerProcess]:
    """A server as others reach it, behind a proxy of its own machine."""
    variables = {**new_database(), "PERIFLOW_SERVER_ORG_APPROVAL": "auto"}
    process = server_class(tmp_path_factory.mktemp("public"), variables, is_embedded=False)
    process.start()
    yield process
    process.close()


def post(server: ServerProcess, path: str, address: str, **body: str) -> httpx.Response:
    """Ask from an address, as the proxy says."""
    headers = {"X-Forwarded-For": address}
    return httpx.post(f"{server.url}/api/v1/{path}", json=body, headers=headers)


def log_in(server: ServerProcess, username: str, address: str, password: str) -> httpx.Response:
    return post(server, "sessions", address, username=username, password=password)


def test_guessing_a_password_is_stopped_and_told_for_how_long(public: ServerProcess) -> None:
    user = public.signed_up()
    answers = [log_in(public, user.username, "192.0.2.1", f"guess {n}") for n in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    refused = answers[-1].json()
    assert refused["code"] == "rate_limited"
    assert 0 < int(answers[-1].headers["retry-after"]) <= 30
    assert refused["data"]["retry_after_seconds"] == int(answers[-1].headers["retry-after"])
    assert log_in(public, user.username, "192.0.2.1", public.password).status_code == 429
    assert log_in(public, user.username, "198.51.100.9", public.password).status_code == 201


def test_right_password_gives_the_tries_back(public: ServerProcess) -> None:
    user = public.signed_up()
    for _ in range(3):
        for number in range(8):
            guess = log_in(public, user.username, "192.0.2.2", f"guess {number}")
            assert guess.status_code == 401
        assert log_in(public, user.username, "192.0.2.2", public.password).status_code == 201


def test_limits_are_the_same_for_names_that_nobody_has(public: ServerProcess) -> None:
    answers = [log_in(public, "nobody-here", "192.0.2.3", "a guess") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]
    upper = log_in(public, "NOBODY-here", "192.0.2.3", "a guess")
    assert upper.status_code == 429


def test_one_address_cannot_try_many_accounts(public: ServerProcess) -> None:
    answers = [
        post(public, "password-resets", "192.0.2.4", username=f"somebody{n}").status_code
        for n in range(31)
    ]
    assert answers == [201] * 30 + [429]
    # Of IPv6 a customer has a whole network of addresses.
    answers = [
        post(public, "password-resets", f"2001:db8:0:7::{n:x}", username=f"body{n}").status_code
        for n in range(31)
    ]
    assert answers[-1] == 429


@pytest.mark.parametrize(
    ("path", "body", "allowed"),
    [
        ("signups", {"username": "spam", "name": "S", "password": "a good password"}, 10),
        ("password-resets", {"username": "victim"}, 5),
        ("signups/confirm", {"username": "guessed", "code": "000000"}, 20),
        ("password-resets/confirm", {"username": "g", "code": "000000", "password": "p" * 9}, 20),
    ],
)
def test_what_strangers_may_ask_for_is_limited(
    public: ServerProcess, path: str, body: dict[str, str], allowed: int
) -> None:
    def ask(number: int) -> int:
        extra = {"email": f"spam{number}@example.com"} if path == "signups" else {}
        return post(public, path, "192.0.2.5", **body, **extra).status_code

    answers = [ask(number) for number in range(allowed + 1)]
    assert 429 not in answers[:-1]
    assert answers[-1] == 429


def test_mails_to_one_address_are_limited_whoever_asks(public: ServerProcess) -> None:
    answers = [
        post(
            public,
            "signups",
            f"198.51.100.{number}",
            username=f"bomber{number}",
            name="B",
            email="target@example.com",
            password="a good password",
        ).status_code
        for number in range(11)
    ]
    assert answers == [201] * 10 + [429]


def test_invitations_are_limited(start_server: Callable[..., ServerProcess]) -> None:
    server = start_server(PERIFLOW_SERVER_RATE_FACTOR="0.05")
    owner = server.client()
    with ApiClient(server.url, owner.session.access_token, tries=1) as client:
        for number in range(5):
            client.invite(owner.organization, f"guest{number}@example.com")
        with pytest.raises(RateLimitedError):
            client.invite(owner.organization, "guest6@example.com")


def test_client_that_is_told_to_wait_long_asks_once_and_says_so(
    public: ServerProcess,
) -> None:
    user = public.signed_up()
    with public.anonymous() as client:
        for _ in range(10):
            with pytest.raises(LoginRequiredError):
                client.log_in(m.LoginRequest(username=user.username, password="a guess"))
        begin = time.perf_counter()
        with pytest.raises(RateLimitedError) as caught:
            client.log_in(m.LoginRequest(username=user.username, password="a guess"))
        waited = time.perf_counter() - begin
    assert waited < caught.value.data["retry_after_seconds"]
    assert "Try again in" in (caught.value.hint or "")


@pytest.mark.parametrize(("patience", "tries"), [("1", 3), ("600", 1)])
def test_client_comes_back_no_sooner_than_it_is_asked_to(patience: str, tries: int) -> None:
    receiver = Receiver(Reply(429, b"{}", headers={"Retry-After": patience}))
    begin = time.perf_counter()
    with ApiClient(receiver.url, tries=3) as client, pytest.raises(RateLimitedError):
        client.refresh("a token")
    seconds = time.perf_counter() - begin
    assert len(receiver.posts) == tries
    assert tries - 1 <= seconds < 300
    receiver.close()


def test_tries_come_back_with_time(database: Database) -> None:
    def once() -> None:
        with database.write() as session:
            take(session, Limited.RESET, account="patient", address=None, factor=1)

    for _ in range(5):
        once()
    with pytest.raises(RateLimitedError) as caught:
        once()
    assert 0 < caught.value.data["retry_after_seconds"] <= 120
    with database.write() as session:
        row = session.scalar(text("SELECT count(*) FROM throttles"))
        assert row
        give_back(session, Limited.RESET, account="patient", address=None)
    once()


def test_what_people_typed_is_not_kept(server: ServerProcess, database: Database) -> None:
    with server.anonymous() as client, pytest.raises(LoginRequiredError):
        client.log_in(m.LoginRequest(username="my-password-by-mistake", password="x"))
    with database.read() as session:
        keys = session.scalars(text("SELECT key FROM throttles")).all()
    assert keys
    assert not [key for key in keys if "mistake" in key]
