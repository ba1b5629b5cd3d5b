"""Tokens: refreshed, reused, ended, and never kept in the clear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from people import join_project
from sqlalchemy import inspect, select, text

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import LoginRequiredError, NotFoundError
from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables

if TYPE_CHECKING:
    from conftest import ServerProcess


def works(server: ServerProcess, access_token: str) -> bool:
    with ApiClient(server.url, access_token) as client:
        try:
            client.me()
        except LoginRequiredError:
            return False
        return True


def test_refresh_gives_a_new_pair(server: ServerProcess) -> None:
    client = server.signed_up()
    renewed = client.refresh(client.session.refresh_token)
    assert renewed.access_token != client.session.access_token
    assert renewed.refresh_token != client.session.refresh_token
    assert works(server, renewed.access_token)


def test_lost_answer_of_a_refresh_can_be_asked_for_again(server: ServerProcess) -> None:
    client = server.signed_up()
    client.refresh(client.session.refresh_token)
    again = client.refresh(client.session.refresh_token)
    assert works(server, again.access_token)


def test_reused_refresh_token_ends_the_whole_login(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(PERIFLOW_SERVER_REFRESH_LEEWAY_SECONDS="0")
    client = server.signed_up()
    renewed = client.refresh(client.session.refresh_token)
    with pytest.raises(LoginRequiredError):
        client.refresh(client.session.refresh_token)
    assert not works(server, renewed.access_token)
    assert not works(server, client.session.access_token)
    with pytest.raises(LoginRequiredError):
        client.refresh(renewed.refresh_token)


def test_expired_access_token_says_so_and_refresh_still_works(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(PERIFLOW_SERVER_ACCESS_TOKEN_SECONDS="0")
    client = server.signed_up()
    with pytest.raises(LoginRequiredError) as caught:
        client.me()
    assert caught.value.code == "token_expired"
    assert client.refresh(client.session.refresh_token).user.username == client.username


def test_client_with_an_expired_token_refreshes_by_itself(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(PERIFLOW_SERVER_ACCESS_TOKEN_SECONDS="0")
    user = server.signed_up()
    server.variables["PERIFLOW_SERVER_ACCESS_TOKEN_SECONDS"] = "3600"
    server.restart()
    session = user.session

    def renew() -> bool:
        nonlocal session
        with server.anonymous() as anonymous:
            session = anonymous.refresh(session.refresh_token)
        return True

    with ApiClient(server.url, lambda: session.access_token, on_unauthorized=renew) as client:
        assert client.me().username == user.username


def test_logout_ends_both_tokens_of_this_login_only(server: ServerProcess) -> None:
    client = server.signed_up()
    other = client.refresh(client.session.refresh_token)
    client.log_out()
    assert not works(server, client.session.access_token)
    assert not works(server, other.access_token)
    with pytest.raises(LoginRequiredError):
        client.refresh(other.refresh_token)


def test_access_token_does_not_refresh_and_refresh_token_opens_nothing(
    server: ServerProcess,
) -> None:
    session = server.signed_up().session
    assert not works(server, session.refresh_token)
    with server.anonymous() as client, pytest.raises(LoginRequiredError):
        client.refresh(session.access_token)


def test_logins_are_listed_with_what_opened_them(server: ServerProcess) -> None:
    client = server.signed_up()
    with server.anonymous() as anonymous:
        other = anonymous.log_in(m.LoginRequest(username=client.username, password=server.password))
    newest, first = client.logins()
    assert (newest.is_current, first.is_current) == (False, True)
    assert first.client.startswith("PeriFlow/")
    with ApiClient(server.url, other.access_token) as there:
        assert [each.is_current for each in there.logins()] == [True, False]
        there.end_login(first.id[:13])
    assert not works(server, client.session.access_token)
    assert works(server, other.access_token)


def test_nobody_sees_or_ends_logins_of_others(server: ServerProcess) -> None:
    client, other = server.signed_up(), server.signed_up()
    (theirs,) = other.logins()
    assert theirs.id not in [each.id for each in client.logins()]
    for name in (theirs.id, theirs.id[:8], "%", "_" * 36):
        with pytest.raises(NotFoundError) as caught:
            client.end_login(name)
        assert caught.value.code == "login_not_found"
    assert works(server, other.session.access_token)


def test_logging_out_everywhere_ends_all_logins(server: ServerProcess) -> None:
    client = server.signed_up()
    login = m.LoginRequest(username=client.username, password=server.password)
    with server.anonymous() as anonymous:
        others = [anonymous.log_in(login) for _ in range(3)]
    client.log_out_everywhere()
    for session in (client.session, *others):
        assert not works(server, session.access_token)
        with server.anonymous() as anonymous, pytest.raises(LoginRequiredError):
            anonymous.refresh(session.refresh_token)


def test_login_that_was_ended_for_safety_says_so_and_is_noted(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(PERIFLOW_SERVER_REFRESH_LEEWAY_SECONDS="0")
    client = server.signed_up()
    renewed = client.refresh(client.session.refresh_token)
    with pytest.raises(LoginRequiredError) as caught:
        client.refresh(client.session.refresh_token)
    assert caught.value.code == "token_reused"
    with (
        ApiClient(server.url, renewed.access_token) as thief,
        pytest.raises(LoginRequiredError, match="ended for safety"),
    ):
        thief.me()
    import_tables()
    database = Database(server.database_url)
    with database.read() as session:
        assert "login.reuse" in session.scalars(select(AuditEvent.action)).all()
    database.close()


def test_removed_member_is_out_with_the_next_request_and_keeps_his_login(
    server: ServerProcess,
) -> None:
    owner = server.client()
    member = join_project(server, owner, "admin")
    assert member.jobs(owner.project) == []
    owner.remove_organization_member(owner.organization, member.username)
    for call in (
        lambda: member.jobs(owner.project),
        lambda: member.projects(owner.organization),
        lambda: member.organization_members(owner.organization),
    ):
        with pytest.raises(NotFoundError):
            call()
    assert member.organizations() == []
    assert member.me().username == member.username


def test_no_token_password_or_code_is_kept_where_it_could_be_read(
    own_server: ServerProcess,
) -> None:
    client = own_server.client()
    renewed = client.refresh(client.session.refresh_token)
    code = own_server.mailed_code(f"{client.username}@example.com")
    own_server.stop()
    secrets = [
        own_server.password,
        client.session.access_token,
        client.session.refresh_token,
        renewed.access_token,
        f'"{code}"',
    ]
    files = [path for path in own_server.data_dir.iterdir() if path.is_file()]
    content = b"".join(path.read_bytes() for path in files) + own_server.log().encode()
    content += everything_in(own_server.database_url)
    assert client.username.encode() in content
    assert not [secret for secret in secrets if secret.encode() in content]


def everything_in(database_url: str) -> bytes:
    """Every row of every table, as text."""
    database = Database(database_url)
    with database.engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        rows = [connection.execute(text(f'SELECT * FROM "{table}"')).all() for table in tables]
    database.close()
    assert sum(map(len, rows)) > 3
    return repr(rows).encode()
