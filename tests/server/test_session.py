"""Tokens: refreshed, reused, ended, and never kept in the clear."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import LoginRequiredError

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


def test_no_token_password_or_code_is_found_in_the_files_of_the_server(
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
    assert any(path.name == "periflow.db" for path in files)
    content = b"".join(path.read_bytes() for path in files) + own_server.log().encode()
    assert client.username.encode() in content
    assert not [secret for secret in secrets if secret.encode() in content]
