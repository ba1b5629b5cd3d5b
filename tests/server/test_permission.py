"""Every route of a project, with every role and from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi.routing import APIRoute

from periflow_server.app import routers
from periflow_server.db.base import Database
from periflow_server.db.organization import Membership
from periflow_server.db.project import ProjectMember
from periflow_server.permissions import Action, Role, is_allowed

if TYPE_CHECKING:
    from conftest import Client, ServerProcess


def declared_action(route: APIRoute) -> Action | None:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return next((call.action for call in calls if hasattr(call, "action")), None)


ROUTES = [
    (method, route.path, declared_action(route))
    for router in routers()
    for route in router.routes
    if isinstance(route, APIRoute)
    if "{project}" in route.path and not route.path.startswith("/blobs/")
    for method in sorted(route.methods)
]
ROLES = [Role.ADMIN, Role.MAINTAINER, Role.DEVELOPER, Role.GUEST]


def ask(server: ServerProcess, token: str, method: str, path: str, project: str) -> httpx.Response:
    """Call a route with names of things that do not exist."""
    path = path.replace("{project}", project)
    parts = ["none" if part.startswith("{") else part for part in path.split("/")]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{server.url}/api/v1{'/'.join(parts)}", headers=headers)


def join(database: Database, owner: Client, user: Client, role: Role | None) -> None:
    """Make the user a member of the owner's organization, and of his project with this role."""
    with database.write() as session:
        session.add(
            Membership(
                organization_id=owner.organization, user_id=user.session.user.id, role="member"
            )
        )
        if role is not None:
            session.add(
                ProjectMember(
                    project_id=owner.project, user_id=user.session.user.id, role=role.value
                )
            )


def test_every_route_of_a_project_declares_its_action() -> None:
    assert len(ROUTES) > 5
    assert [(method, path) for method, path, action in ROUTES if action is None] == []


def test_outsiders_find_no_project_on_any_route(server: ServerProcess) -> None:
    owner, outsider = server.client(), server.client()
    token = outsider.session.access_token
    for method, path, _ in ROUTES:
        answer = ask(server, token, method, path, owner.project)
        assert (answer.status_code, answer.json()["code"]) == (404, "project_not_found"), path


def test_strangers_without_a_token_are_asked_to_log_in_on_every_route(
    server: ServerProcess,
) -> None:
    owner = server.client()
    for method, path, _ in ROUTES:
        answer = ask(server, "pf_at_made-up", method, path, owner.project)
        assert (answer.status_code, answer.json()["code"]) == (401, "login_required"), path


def test_member_of_the_organization_alone_is_outside_its_projects(
    server: ServerProcess, database: Database
) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, None)
    assert member.projects(owner.organization) == []
    for method, path, _ in ROUTES:
        answer = ask(server, member.session.access_token, method, path, owner.project)
        assert answer.status_code == 404, path


@pytest.mark.parametrize("role", ROLES)
def test_members_may_do_what_their_role_allows_and_nothing_else(
    server: ServerProcess, database: Database, role: Role
) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, role)
    for method, path, action in ROUTES:
        assert action is not None
        answer = ask(server, member.session.access_token, method, path, owner.project)
        is_refused = answer.status_code == 403
        assert is_refused != is_allowed(role, action), (method, path, answer.text)


def test_members_make_no_projects(server: ServerProcess, database: Database) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, Role.ADMIN)
    url = f"{server.url}/api/v1/organizations/{owner.organization}/projects"
    headers = {"Authorization": f"Bearer {member.session.access_token}"}
    answer = httpx.post(url, json={"name": "mine"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
