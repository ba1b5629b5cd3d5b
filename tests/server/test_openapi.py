"""The OpenAPI document is the documentation: whatever is sent, the answers are those it names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ENDS_A_LOGIN = {
    "DELETE /api/v1/sessions",
    "DELETE /api/v1/sessions/current",
    "DELETE /api/v1/sessions/{session}",  # what is made up may be how an id begins
    "POST /api/v1/users/me/password",
}
UNREACHABLE = "http://127.0.0.1:9"


@dataclass
class World:
    """A server for others, with a user who has one of everything."""

    server: ServerProcess
    client: Client
    victim: str
    numbers: Iterator[int]

    @property
    def names(self) -> dict[str, str]:
        """What the parameters of paths may be, so that requests get to where the work is done."""
        return {
            "project": self.client.project,
            "organization": self.client.organization,
            "job": "1",
            "key": "ci",
            "username": self.client.username,
        }

    def token(self, label: str) -> str:
        """A token for an operation; one of its own where that ends it."""
        if "/agent/" in label:
            return self.attach()
        if label in ENDS_A_LOGIN:
            login = m.LoginRequest(username=self.victim, password=self.server.password)
            with self.server.anonymous() as anonymous:
                return anonymous.log_in(login).access_token
        return self.client.session.access_token

    def attach(self) -> str:
        """The token of the agent of a new job."""
        run = m.AttachedJobCreate(
            run_id=f"{next(self.numbers):032x}", name="fuzzed", command="python", hostname="here"
        )
        # By a login of its own: what is sent to other operations may have ended the first.
        login = m.LoginRequest(username=self.client.username, password=self.server.password)
        with self.server.anonymous() as anonymous:
            token = anonymous.log_in(login).access_token
        with ApiClient(self.server.url, token) as api:
            return api.attach_job(self.client.project, run).token


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: Any,
    new_database: Callable[[], dict[str, str]],
) -> Iterator[World]:
    variables = {
        **new_database(),
        "PERIFLOW_SERVER_ORG_APPROVAL": "auto",
        "PERIFLOW_SERVER_RATE_FACTOR": "0",
        "PERIFLOW_SERVER_S3_URL": UNREACHABLE,
        "PERIFLOW_SERVER_AZURE_BLOB_URL": UNREACHABLE,
        "PERIFLOW_SERVER_GCS_URL": UNREACHABLE,
        "PERIFLOW_SERVER_GOOGLE_TOKEN_URL": UNREACHABLE,
        "PERIFLOW_SERVER_WANDB_URL": UNREACHABLE,
        "PERIFLOW_SERVER_SLACK_URL": UNREACHABLE,
        "PERIFLOW_SERVER_SLACK_HOOKS_URL": UNREACHABLE,
    }
    process = server_class(tmp_path_factory.mktemp("world"), variables, is_embedded=False)
    process.start()
    client = process.client()
    found = World(process, client, process.signed_up().username, itertools.count(1))
    found.attach()
    client.create_key(client.project, m.ApiKeyCreate(name="ci", role="guest"))
    yield found
    process.close()


def failure_of(operation: Any, mode: Any, world: World, examples: int) -> str | None:
    """What is wrong with the answers to some requests of one operation."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        label = case.operation.label
        if not label.startswith("DELETE") or label in ENDS_A_LOGIN:
            known = {
                name: world.names[name]
                for name in case.path_parameters or {}
                if name in world.names
            }
            case.path_parameters = {**(case.path_parameters or {}), **known}
        if "wait" in (case.query or {}):
            case.query["wait"] = 0.1  # a job that runs may say nothing for long
        headers = {"Authorization": f"Bearer {world.token(label)}"}
        # A query can name a parameter twice, which counts as wrong, and the last one is read.
        checks = CHECKS if case.method == "GET" else [*CHECKS, negative_data_rejection]
        case.call_and_validate(headers=headers, checks=checks, timeout=200)

    try:
        ask()
    except Unsatisfiable:
        return None
    except BaseExceptionGroup as error:
        return "\n".join(str(each) for each in error.exceptions)
    return None


@pytest.mark.sqlite
def test_every_operation_answers_right_requests_as_documented(world: World) -> None:
    check_operations(world, schemathesis.GenerationMode.POSITIVE, 3)


@pytest.mark.postgresql
def test_every_operation_answers_wrong_requests_as_documented(world: World) -> None:
    check_operations(world, schemathesis.GenerationMode.NEGATIVE, 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_answers_a_hundred_requests_as_documented(world: World, mode: Any) -> None:
    check_operations(world, mode, 100)


def check_operations(world: World, mode: Any, examples: int) -> None:
    schema = schemathesis.openapi.from_url(f"{world.server.url}/api/v1/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 80
    failures = {each.label: failure_of(each, mode, world, examples) for each in operations}
    found = [f"{label}: {failure}" for label, failure in failures.items() if failure]
    assert not found, "\n".join(found)


def operations(world: World) -> Iterator[tuple[str, str, dict[str, Any]]]:
    document = httpx.get(f"{world.server.url}/api/v1/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_operation_that_needs_a_login_says_so_and_does(world: World) -> None:
    open_to_all = []
    for method, path, operation in operations(world):
        if "security" not in operation:
            open_to_all.append(path)
            continue
        url = f"{world.server.url}{path.replace('{', '').replace('}', '')}"
        answer = httpx.request(method, url)
        assert (answer.status_code, answer.json()["code"]) == (401, "login_required"), path
    assert set(open_to_all) == {
        "/api/v1/server",
        "/api/v1/health",
        "/api/v1/permissions",
        "/api/v1/signups",
        "/api/v1/signups/confirm",
        "/api/v1/signups/invited",
        "/api/v1/password-resets",
        "/api/v1/password-resets/confirm",
        "/api/v1/sessions",
        "/api/v1/sessions/refresh",
        "/api/v1/blobs/{project}/{name}",
    }


def test_every_refusal_is_documented_as_a_problem(world: World) -> None:
    for _, path, operation in operations(world):
        refusals = {s: a for s, a in operation["responses"].items() if int(s) >= 400}
        assert refusals, path
        for answer in refusals.values():
            (content,) = answer["content"]
            assert content == "application/problem+json", path
            schema = answer["content"][content]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}, path


@pytest.mark.parametrize("path", ["/api/v1/users/me", "/api/v1/sessions", "/api/v1/server"])
def test_pages_of_other_origins_get_no_permission_to_read_answers(world: World, path: str) -> None:
    headers = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for method in ("OPTIONS", "GET"):
        answer = httpx.request(method, f"{world.server.url}{path}", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert method != "OPTIONS" or answer.status_code == 405


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_what_a_page_can_send_without_asking_is_not_read(world: World, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    body = f'{{"username": "{world.client.username}", "password": "{world.server.password}"}}'
    answer = httpx.post(f"{world.server.url}/api/v1/sessions", content=body, headers=headers)
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/api/v1/sessions", 65 << 10, 413),
        ("/api/v1/signups", 65 << 10, 413),
        ("/api/v1/password-resets/confirm", 65 << 10, 413),
        ("/api/v1/organizations", 3 << 20, 413),
        ("/api/v1/organizations", 1 << 20, 422),
    ],
)
def test_bodies_are_bounded_strangers_most(world: World, path: str, size: int, status: int) -> None:
    headers = {"Authorization": f"Bearer {world.client.session.access_token}"}
    body = {"name": "x" * size, "username": "x", "password": "x", "code": "1234", "email": "a@b.c"}
    answer = httpx.post(f"{world.server.url}{path}", json=body, headers=headers)
    assert answer.status_code == status, answer.text[:300]


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b'{"username":' * 5_000, b"9" * 50_000, b"\xff\xfe\x00", b'"\\ud800"', b"NaN"],
)
def test_body_that_is_hard_to_read_is_refused_and_nothing_breaks(world: World, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{world.server.url}/api/v1/sessions", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("sessions", {"username": 7, "password": "x"}),
        ("organizations", {"name": True}),
        ("projects/{project}/jobs/attached", {"num_ranks": "1"}),
        ("projects/{project}/keys", {"name": "n", "role": "guest", "expires_at": 1893456000}),
    ],
)
def test_values_are_not_converted(world: World, path: str, body: dict[str, Any]) -> None:
    usual = {"run_id": "0" * 32, "name": "n", "command": "c", "hostname": "h"}
    url = f"{world.server.url}/api/v1/{path.format(project=world.client.project)}"
    headers = {"Authorization": f"Bearer {world.client.session.access_token}"}
    given = {**usual, **body} if "attached" in path else body
    answer = httpx.post(url, json=given, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), answer.text


@pytest.mark.parametrize("name", ["' OR 1=1 --", "%", "_", "x'); DROP TABLE users; --", "\x00"])
def test_names_are_never_part_of_a_query(world: World, name: str) -> None:
    with world.server.anonymous() as anonymous:
        answer = httpx.post(
            f"{world.server.url}/api/v1/sessions", json={"username": name, "password": name}
        )
        assert answer.status_code == 401
        assert anonymous.server_info()
    assert world.client.me().username == world.client.username
