"""Every error is a problem document."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from periflow_sdk.api import models as m
from periflow_server.middleware import RequestMiddleware
from periflow_server.repetition import RepeatMiddleware

if TYPE_CHECKING:
    from conftest import ServerProcess

MEMBERS = {"type", "title", "status", "detail", "code", "hint", "data", "request_id"}


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert set(document) == MEMBERS
    assert (document["status"], document["code"]) == (status, code)
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def test_unknown_route_and_method(server: ServerProcess) -> None:
    check(httpx.get(f"{server.url}/api/v1/nothing"), 404, "not_found")
    check(httpx.get(f"{server.url}/elsewhere"), 404, "not_found")
    check(httpx.patch(f"{server.url}/api/v1/server"), 405, "method_not_allowed")


def test_missing_login(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.url}/api/v1/users/me")
    assert "pf login" in check(answer, 401, "login_required")["hint"]
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "a b", "name": "A", "email": "a@b.de", "password": "12345678"}, "username"),
        ({"username": "a", "name": "A", "email": "nowhere", "password": "12345678"}, "email"),
        ({"username": "a", "name": "A", "email": "a@b.de"}, "password"),
        ({"username": "a", "name": "A", "email": "a@b.de", "password": "12345678", "x": 1}, "x"),
    ],
)
def test_wrong_body_names_its_field(
    server: ServerProcess, body: dict[str, object], field: str
) -> None:
    answer = httpx.post(f"{server.url}/api/v1/signups", json=body)
    document = check(answer, 422, "invalid_request")
    assert document["data"]["field"] == field
    assert document["detail"].startswith(f"{field}: ")


def test_refused_password_is_not_repeated(server: ServerProcess) -> None:
    body = {"username": "a", "name": "A", "email": "a@b.de", "password": "tiny"}
    answer = httpx.post(f"{server.url}/api/v1/signups", json=body)
    check(answer, 422, "weak_password")
    assert "tiny" not in answer.text
    assert "tiny" not in server.log()


def test_body_that_is_no_json(server: ServerProcess) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/api/v1/sessions", content=b"{nope", headers=headers)
    check(answer, 422, "invalid_request")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_body_that_is_too_large(server: ServerProcess, is_streamed: bool) -> None:
    size = 9 << 20
    content = (b" " * (1 << 16) for _ in range(size >> 16)) if is_streamed else b" " * size
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/api/v1/sessions", content=content, headers=headers)
    check(answer, 413, "too_large")


def test_crash_names_the_request_and_no_internals(own_server: ServerProcess) -> None:
    client = own_server.signed_up()
    # Chunks are kept below this folder; as a file it breaks the route that makes folders there.
    store = own_server.data_dir / "storage"
    store.rename(own_server.data_dir / "gone")
    store.write_text("in the way")
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    base = f"{own_server.url}/api/v1"
    organization = httpx.post(f"{base}/organizations", json={"name": "o"}, headers=headers).json()
    projects = f"{base}/organizations/{organization['id']}/projects"
    project = httpx.post(projects, json={"name": "p"}, headers=headers).json()["id"]
    query = {"chunks": [{"hash": "0" * 64, "size": 1}]}
    url = f"{base}/projects/{project}/chunks/missing"
    answer = httpx.post(url, json=query, headers=headers)
    document = check(answer, 500, "server_error")
    assert str(own_server.data_dir) not in answer.text
    assert "Traceback" not in answer.text
    assert document["request_id"] in own_server.log()


@pytest.mark.parametrize("disk", ["files", "sqlite", "postgresql"])
def test_full_disk_of_the_server_is_told_although_its_log_has_no_room(disk: str) -> None:
    def broken() -> Exception:
        if disk == "files":
            return OSError(errno.ENOSPC, "No space left on device")
        orig = psycopg.errors.DiskFull() if disk == "postgresql" else sqlite3.OperationalError()
        if isinstance(orig, sqlite3.OperationalError):
            orig.sqlite_errorcode = sqlite3.SQLITE_FULL
        error = OperationalError("INSERT", {}, orig)
        error.__cause__ = orig
        return error

    async def app(*_: object) -> None:
        raise broken()

    inner = RepeatMiddleware(app) if disk == "postgresql" else app
    answer = TestClient(RequestMiddleware(inner)).get("/api/v1/users/me")
    check(answer, 507, "server_disk_full")


@pytest.mark.parametrize("list_", ["jobs?cursor", "datasets/named/versions?cursor", "jobs?since"])
def test_number_and_moment_that_no_database_has_are_refused(
    server: ServerProcess, chunks: Any, list_: str
) -> None:
    client = server.client()
    body = m.DatasetCreate(name="named", snapshot_id=chunks.snapshot(client).id)
    client.create_dataset(client.project, body)
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    for text in ("9" * 30, "²", "0001-01-01T00:00:00%2B14:00"):
        url = f"{server.url}/api/v1/projects/{client.project}/{list_}={text}"
        check(httpx.get(url, headers=headers), 422, "invalid_request")
