"""The same delivery twice creates once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def post(client: Client, name: str, key: str | None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    if key is not None:
        headers["Idempotency-Key"] = key
    url = f"{client.url}/api/v1/organizations"
    return httpx.post(url, json={"name": name}, headers=headers)


def test_same_key_gives_the_first_answer_again(server: ServerProcess) -> None:
    client = server.signed_up()
    first, second = (post(client, f"{client.username}-i", "key-1") for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert len(client.organizations()) == 1


def test_another_key_is_another_request(server: ServerProcess) -> None:
    client = server.signed_up()
    name = f"{client.username}-o"
    assert post(client, name, "key-1").status_code == 201
    assert post(client, name, "key-2").status_code == 409
    assert post(client, name, None).status_code == 409


def test_key_of_another_user_is_not_shared(server: ServerProcess) -> None:
    first, second = server.signed_up(), server.signed_up()
    assert post(first, f"{first.username}-k", "shared").status_code == 201
    answer = post(second, f"{second.username}-k", "shared")
    assert answer.json()["name"] == f"{second.username}-k"


def test_refused_request_keeps_no_answer(server: ServerProcess) -> None:
    client, other = server.signed_up(), server.signed_up()
    other.create_organization("for-a-while")
    assert post(client, "for-a-while", "key").status_code == 409
    assert post(client, "now-free", "key").status_code == 201


def test_simultaneous_deliveries_create_once(server: ServerProcess) -> None:
    client = server.signed_up()
    with ThreadPoolExecutor(8) as pool:
        name = f"{client.username}-s"
        answers = list(pool.map(lambda _: post(client, name, "same"), range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
