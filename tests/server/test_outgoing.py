"""Requests that wait for a service of others, and all the others beside them."""

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
    assert {(each.status_code, each.json()["code"]) for each in answers} == {(422, "access_denied")}


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
