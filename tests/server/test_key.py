"""API keys: what they can do, in which project, how long."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi.routing import APIRoute
from people import join_project
from sqlalchemy import select

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    LoginRequiredError,
    NotFoundError,
)
from periflow_server.app import routers
from periflow_server.db.audit import AuditEvent
from periflow_server.db.base import Database, utcnow
from periflow_server.db.key import ApiKey
from periflow_server.permissions import Action, Role, is_allowed
from periflow_server.routes import PREFIX

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def action_of(route: APIRoute) -> Action:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return next(call.action for call in calls if hasattr(call, "action"))


PROJECT_ROUTES = [
    (method, route.path.removeprefix(PREFIX), action_of(route))
    for router in routers()
    for route in router.routes
    if isinstance(route, APIRoute)
    if "{project}" in route.path and not route.path.startswith(f"{PREFIX}/blobs/")
    if not action_of(route).startswith("key.")
    for method in sorted(route.methods)
]
PEOPLE_ONLY = [
    ("GET", "sessions"),
    ("DELETE", "sessions"),
    ("DELETE", "sessions/current"),
    ("POST", "users/me/password"),
    ("POST", "organizations"),
    ("POST", "invitations/accept"),
]


def key_of(client: Client, role: str = "developer", name: str = "ci", **fields: object) -> str:
    body = m.ApiKeyCreate.model_validate({"name": name, "role": role, **fields})
    return client.create_key(client.project, body).key


def with_key(server: ServerProcess, key: str) -> ApiClient:
    return ApiClient(server.url, key, tries=1)


def test_key_works_in_its_project_and_knows_it(server: ServerProcess) -> None:
    owner = server.client()
    with with_key(server, key_of(owner)) as machine:
        assert machine.jobs(owner.project) == []
        assert machine.me().username == owner.username
        here = machine.current_key()
        assert (here.project_id, here.organization_id) == (owner.project, owner.organization)
        assert (here.name, here.role, here.created_by) == ("ci", "developer", owner.username)
        assert [each.id for each in machine.organizations()] == [owner.organization]
        assert [each.id for each in machine.projects(owner.organization)] == [owner.project]


def test_key_sees_nothing_of_other_projects_of_its_owner(server: ServerProcess) -> None:
    owner = server.client()
    second = owner.create_project(owner.organization, "second").id
    elsewhere = owner.create_organization(f"{owner.username}-elsewhere").id
    with with_key(server, key_of(owner, "admin")) as machine:
        for call in (lambda: machine.jobs(second), lambda: machine.keys(second)):
            with pytest.raises(NotFoundError) as caught:
                call()
            assert caught.value.code == "project_not_found"
        with pytest.raises(NotFoundError) as caught:
            machine.projects(elsewhere)
        assert caught.value.code == "organization_not_found"
        assert [each.name for each in machine.projects(owner.organization)] == ["project"]


@pytest.mark.parametrize("role", ["guest", "developer", "maintainer", "admin"])
def test_key_may_do_what_its_role_may_and_nothing_else(server: ServerProcess, role: str) -> None:
    owner = server.client()
    key = key_of(owner, role)
    checked = 0
    for method, path, action in PROJECT_ROUTES:
        path = path.replace("{project}", owner.project)
        parts = ["none" if part.startswith("{") else part for part in path.split("/")]
        url = f"{server.url}/api/v1{'/'.join(parts)}"
        answer = httpx.request(method, url, headers={"Authorization": f"Bearer {key}"})
        refused = answer.status_code == 403 and answer.json()["code"] != "login_needed"
        assert refused != is_allowed(Role(role), action), (method, path, answer.text)
        checked += 1
    assert checked > 20


@pytest.mark.parametrize(("method", "path"), PEOPLE_ONLY)
def test_what_is_for_people_is_refused_to_keys(
    server: ServerProcess, method: str, path: str
) -> None:
    owner = server.client()
    headers = {"Authorization": f"Bearer {key_of(owner, 'admin')}"}
    answer = httpx.request(method, f"{server.url}/api/v1/{path}", headers=headers, json={})
    assert (answer.status_code, answer.json()["code"]) == (403, "login_needed")


def test_keys_make_no_keys_and_end_none(server: ServerProcess) -> None:
    owner = server.client()
    with with_key(server, key_of(owner, "admin")) as machine:
        for call in (
            lambda: machine.create_key(owner.project, m.ApiKeyCreate(name="more", role="guest")),
            lambda: machine.delete_key(owner.project, "ci"),
        ):
            with pytest.raises(ForbiddenError) as caught:
                call()
            assert caught.value.code == "login_needed"


def test_nobody_makes_a_key_that_may_do_more_than_he(server: ServerProcess) -> None:
    owner = server.client()
    developer = join_project(server, owner, "developer")
    with pytest.raises(ForbiddenError) as caught:
        key_of(developer, "maintainer")
    assert caught.value.code == "role_too_high"
    assert key_of(developer, "Develop")
    with pytest.raises(InvalidRequestError) as wrong:
        key_of(developer, "king", "other")
    assert wrong.value.code == "unknown_role"


def test_key_never_may_more_than_its_owner_may_now(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "maintainer")
    key = key_of(member, "maintainer")
    owner.set_project_role(owner.project, member.username, "guest")
    with with_key(server, key) as machine:
        assert machine.current_key().role == "guest"
        assert machine.jobs(owner.project) == []
        body = m.DatasetCreate(name="d", snapshot_id="0" * 64)
        with pytest.raises(ForbiddenError):
            machine.create_dataset(owner.project, body)


def test_key_of_a_removed_member_ends_at_once(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    key = key_of(member)
    with with_key(server, key) as machine:
        assert machine.jobs(owner.project) == []
        owner.remove_organization_member(owner.organization, member.username)
        with pytest.raises((NotFoundError, LoginRequiredError)):
            machine.jobs(owner.project)
        with pytest.raises((NotFoundError, LoginRequiredError)):
            machine.projects(owner.organization)


def test_deleted_key_ends_at_once(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    key = key_of(owner)
    owner.delete_key(owner.project, "ci")
    with with_key(server, key) as machine, pytest.raises(LoginRequiredError) as caught:
        machine.me()
    assert caught.value.code == "key_unknown"
    assert "pf key create" in (caught.value.hint or "")
    assert owner.keys(owner.project) == []
    with database.read() as session:
        query = select(AuditEvent.action).where(AuditEvent.project_id == owner.project)
        assert {"key.create", "key.delete"} <= set(session.scalars(query))


def test_expired_key_says_so(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    key = key_of(owner, expires_at=utcnow() + timedelta(hours=1))
    with with_key(server, key) as machine:
        assert machine.me()
        with database.write() as session:
            row = session.scalars(select(ApiKey).where(ApiKey.project_id == owner.project)).one()
            row.expires_at = utcnow() - timedelta(seconds=1)
        with pytest.raises(LoginRequiredError) as caught:
            machine.me()
    assert caught.value.code == "key_expired"
    with pytest.raises(InvalidRequestError) as past:
        key_of(owner, name="past", expires_at=utcnow() - timedelta(seconds=1))
    assert past.value.code == "key_expired"


def test_key_is_shown_once_and_kept_as_a_hash(server: ServerProcess, database: Database) -> None:
    owner = server.client()
    key = key_of(owner)
    (listed,) = owner.keys(owner.project)
    assert key not in listed.model_dump_json()
    with database.read() as session:
        row = session.get_one(ApiKey, listed.id)
        kept = [str(value) for value in vars(row).values()]
    assert not [value for value in kept if key in value or key.removeprefix("pf_key_") in value]
    assert key not in server.log()


def test_use_of_a_key_is_shown(server: ServerProcess) -> None:
    owner = server.client()
    key = key_of(owner)
    assert owner.keys(owner.project)[0].used_at is None
    with with_key(server, key) as machine:
        machine.jobs(owner.project)
    assert owner.keys(owner.project)[0].used_at is not None


def test_everybody_manages_his_own_keys_and_an_admin_all(server: ServerProcess) -> None:
    owner = server.client()
    one, two = join_project(server, owner, "developer"), join_project(server, owner, "guest")
    key_of(one), key_of(two, "guest")
    assert [each.created_by for each in one.keys(owner.project)] == [one.username]
    theirs = {each.created_by: each.id for each in owner.keys(owner.project)}
    assert set(theirs) == {one.username, two.username}
    with pytest.raises(ForbiddenError) as caught:
        one.delete_key(owner.project, theirs[two.username])
    assert caught.value.code == "not_yours"
    with pytest.raises(ConflictError) as several:
        owner.delete_key(owner.project, "ci")
    assert several.value.code == "ambiguous"
    one.delete_key(owner.project, "ci")
    owner.delete_key(owner.project, theirs[two.username][:12])
    assert owner.keys(owner.project) == []
    with pytest.raises(NotFoundError) as gone:
        owner.delete_key(owner.project, "ci")
    assert gone.value.code == "key_not_found"


def test_name_of_a_key_is_ones_own(server: ServerProcess) -> None:
    owner = server.client()
    key_of(owner)
    with pytest.raises(ConflictError) as caught:
        key_of(owner)
    assert caught.value.code == "key_exists"


def test_login_is_no_key(server: ServerProcess) -> None:
    with pytest.raises(NotFoundError) as caught:
        server.client().current_key()
    assert caught.value.code == "key_not_found"
    with with_key(server, "pf_key_made-up") as machine, pytest.raises(LoginRequiredError):
        machine.me()
