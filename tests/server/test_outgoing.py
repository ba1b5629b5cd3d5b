"""Requests that wait for a service of others or for the store, and all the others beside them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
from cloud import S3_KEY
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace

if TYPE_CHECKING:
    from pathlib import Path

    from cloud import Endpoint
    from conftest import Client, ServerProcess

# More than a server has threads, which are forty.
REQUESTS = 50


def test_bucket_that_never_answers_keeps_nobody_else_waiting(
    server: ServerProcess, endpoint: Endpoint
) -> None:
    released = threading.Event()

    def answer(_: Any) -> tuple[int, bytes]:
        released.wait(120)
        return 403, b"<Error><Code>AccessDenied</Code></Error>"

    endpoint.answer = answer
    slow, other = _client_with_key(server), _client_with_key(server)
    with ThreadPoolExecutor(REQUESTS + 1) as pool:
        try:
            stuck = [pool.submit(_look, slow, endpoint.url) for _ in range(REQUESTS)]
            wait_until(lambda: len(endpoint.asked) > 1, 60, "nobody asked")
            assert other.me().username == other.username
            stuck.append(pool.submit(_look, other, endpoint.url))
            asked = f"/{other.username}"
            wait_until(
                lambda: any(each.path.startswith(asked) for each in endpoint.asked),
                60,
                "somebody else's bucket was not asked",
            )
            assert not any(each.done() for each in stuck)
        finally:
            released.set()
        answers = [each.result() for each in stuck]
    # Those whose turn did not come in time, on a machine that is slow, are told so.
    outcomes = {(each.status_code, each.json()["code"]) for each in answers}
    assert (422, "access_denied") in outcomes
    assert outcomes <= {(422, "access_denied"), (503, "busy")}


def test_store_that_never_answers_keeps_nobody_waiting_who_does_not_need_it(
    tmp_path: Path, server_class: type[ServerProcess], endpoint: Endpoint
) -> None:
    process = server_class(
        tmp_path / "home",
        {
            "PERIFLOW_SERVER_STORAGE_URL": "s3://bucket/prefix",
            "PERIFLOW_SERVER_STORAGE_ENDPOINT": endpoint.url,
            "PERIFLOW_SERVER_STORAGE_KEY_ID": S3_KEY,
            "PERIFLOW_SERVER_STORAGE_SECRET": "secret",
        },
    )
    process.start()
    released = threading.Event()

    def answer(_: Any) -> tuple[int, bytes]:
        released.wait(120)
        return 403, b"<Error><Code>AccessDenied</Code></Error>"

    with ThreadPoolExecutor(REQUESTS) as pool:
        try:
            client = process.client()
            endpoint.asked.clear()
            endpoint.answer = answer
            stuck = [pool.submit(_ask_store, client) for _ in range(REQUESTS)]
            wait_until(lambda: len(endpoint.asked) > 1, 60, "the store was not asked")
            assert client.me().username == client.username
            client.create_project(client.organization, "meanwhile")
            assert not any(each.done() for each in stuck)
        finally:
            released.set()
            answers = [each.result() for each in stuck]
            process.close()
    assert {each.status_code for each in answers} == {503}
    assert {each.json()["code"] for each in answers} <= {"store_refused", "busy"}
    assert all(each.headers["Retry-After"] for each in answers if each.json()["code"] == "busy")


def _ask_store(client: Client) -> httpx.Response:
    return httpx.post(
        f"{client.url}/api/v1/projects/{client.project}/snapshots",
        content=b'{"chunks":[],"entries":[],"version":1}',
        headers={"Authorization": f"Bearer {client.session.access_token}"},
        timeout=120,
    )


def _client_with_key(server: ServerProcess) -> Client:
    client = server.client()
    key = m.S3CredentialCreate(
        name="key",
        aws_access_key_id=S3_KEY,
        aws_secret_access_key="secret",
        aws_default_region="us-east-1",
    )
    client.create_credential(CredentialPlace.of_project(client.project), key, verify=False)
    return client


def _look(client: Client, endpoint_url: str) -> httpx.Response:
    link = {
        "cloud": "s3",
        "storage_name": client.username,
        "endpoint_url": endpoint_url,
        "credential_id": "key",
    }
    return httpx.post(
        f"{client.url}/api/v1/projects/{client.project}/datasets/check-link",
        json=link,
        headers={"Authorization": f"Bearer {client.session.access_token}"},
        timeout=120,
    )
