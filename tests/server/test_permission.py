"""Every route of a project and of an organization, with every role and from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from fastapi.routing import APIRoute
from people import join_organization, join_project

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ForbiddenError
from periflow_server.app import routers
from periflow_server.db.base import Database
from periflow_server.db.organization import Membership, Organization
from periflow_server.db.project import ProjectMember
from periflow_server.permissions import PERMISSIONS, Action, Role, is_allowed
from periflow_server.routes import PREFIX

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "permissions.md"


def declared_action(route: APIRoute) -> Action | None:
    calls = [dependency.call for dependency in route.dependant.dependencies]
    return next((call.action for call in calls if hasattr(call, "action")), None)


def routes_with(parameter: str) -> list[tuple[str, str, Action | None]]:
    """Methods, paths and actions; what deletes the thing itself comes last."""
    found = [
        (method, route.path.removeprefix(PREFIX), declared_action(route))
        for router in routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        if parameter in route.path and not route.path.startswith(f"{PREFIX}/blobs/")
        for method in sorted(route.methods)
    ]
    return sorted(found, key=lambda each: each[0] == "DELETE" and each[1].endswith(parameter))


ROUTES = routes_with("{project}")
ORGANIZATION_ROUTES = routes_with("{organization}")
LEAVING = "/organizations/{organization}/membership"
ROLES = [Role.OWNER, Role.ADMIN, Role.MAINTAINER, Role.DEVELOPER, Role.GUEST]
GUEST = {
    "project.read",
    "job.read",
    "dataset.read",
    "checkpoint.read",
    "snapshot.read",
    "vm.read",
    "credential.read",
    "notification.read",
}


def ask(server: ServerProcess, token: str, method: str, path: str, thing: str) -> httpx.Response:
    """Call a route with names of things that do not exist, in a project or organization."""
    path = re.sub(r"\{(project|organization)\}", thing, path, count=1)
    parts = ["none" if part.startswith("{") else part for part in path.split("/")]
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, f"{server.url}/api/v1{'/'.join(parts)}", headers=headers)


def join(database: Database, owner: Client, user: Client, role: Role | None) -> None:
    """Make the user a member of the owner's organization, and of his project with this role."""
    in_organization = "owner" if role is Role.OWNER else "member"
    with database.write() as session:
        session.add(
            Membership(
                organization_id=owner.organization,
                user_id=user.session.user.id,
                role=in_organization,
            )
        )
        if role not in (None, Role.OWNER):
            session.add(
                ProjectMember(
                    project_id=owner.project, user_id=user.session.user.id, role=str(role)
                )
            )


def ask_as_member(
    server: ServerProcess, database: Database, owner: Client, role: Role, method: str, path: str
) -> httpx.Response:
    """Call a route of the owner's organization as one of its people who came for that."""
    member = server.signed_up()
    join(database, owner, member, role if role is Role.OWNER else None)
    return ask(server, member.session.access_token, method, path, owner.organization)


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


def test_every_route_of_an_organization_declares_its_action() -> None:
    assert len(ORGANIZATION_ROUTES) > 10
    assert [each for each in ORGANIZATION_ROUTES if each[2] is None] == []


@pytest.mark.parametrize("role", [Role.OWNER, Role.MEMBER])
def test_owners_and_members_may_do_what_the_table_says(
    server: ServerProcess, database: Database, role: Role
) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, role if role is Role.OWNER else None)
    for method, path, action in ORGANIZATION_ROUTES:
        assert action is not None
        if path == LEAVING:
            answer = ask_as_member(server, database, owner, role, method, path)
        else:
            answer = ask(server, member.session.access_token, method, path, owner.organization)
        is_refused = answer.status_code == 403
        assert is_refused != is_allowed(role, action), (method, path, answer.text)
        if is_refused:
            assert answer.json()["code"] == "forbidden"


def test_outsiders_find_no_organization_on_any_route(server: ServerProcess) -> None:
    owner, outsider = server.client(), server.client()
    for method, path, _ in ORGANIZATION_ROUTES:
        token = outsider.session.access_token
        answer = ask(server, token, method, path, owner.organization)
        assert (answer.status_code, answer.json()["code"]) == (404, "organization_not_found"), path
        answer = ask(server, "pf_at_made-up", method, path, owner.organization)
        assert (answer.status_code, answer.json()["code"]) == (401, "login_required"), path


@pytest.mark.parametrize("status", ["staged", "refused"])
def test_organization_that_nobody_approved_can_be_seen_and_left_and_nothing_else(
    server: ServerProcess, database: Database, status: str
) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, Role.OWNER)
    with database.write() as session:
        session.get_one(Organization, owner.organization).status = status
    usable = set()
    for method, path, action in ORGANIZATION_ROUTES:
        if path == LEAVING:
            answer = ask_as_member(server, database, owner, Role.OWNER, method, path)
        else:
            answer = ask(server, member.session.access_token, method, path, owner.organization)
        if answer.status_code == 403:
            assert answer.json()["code"] == f"organization_{status}", (method, path)
        else:
            usable.add(str(action))
    assert usable == {"organization.read", "organization.leave", "organization.delete"}


def test_members_make_no_projects(server: ServerProcess, database: Database) -> None:
    owner, member = server.client(), server.signed_up()
    join(database, owner, member, Role.ADMIN)
    url = f"{server.url}/api/v1/organizations/{owner.organization}/projects"
    headers = {"Authorization": f"Bearer {member.session.access_token}"}
    answer = httpx.post(url, json={"name": "mine"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_table_gives_each_role_what_people_were_promised() -> None:
    def may(role: Role) -> set[str]:
        return {str(action) for action in Action if is_allowed(role, action)}

    # A key of a guest's can do no more than he.
    assert may(Role.GUEST) == GUEST | {"key.manage"}
    assert {"job.run", "snapshot.write", "dataset.write"} <= may(Role.DEVELOPER)
    for anyones in (
        *("job.stop-any", "job.delete-any", "checkpoint.delete-any"),
        *("dataset.change-any", "credential.change-any"),
    ):
        assert anyones not in may(Role.DEVELOPER)
        assert anyones in may(Role.MAINTAINER)
    assert may(Role.ADMIN) - may(Role.MAINTAINER) == {"member.manage", "key.manage-any"}
    assert "project.delete" not in may(Role.ADMIN)
    owners_only = {
        "invitation.manage",
        "membership.manage",
        "project.create",
        "usage.read",
        "organization.delete",
    }
    assert owners_only <= may(Role.OWNER) - may(Role.MEMBER) - may(Role.ADMIN)
    assert {"project.delete", "organization.read"} <= may(Role.OWNER)
    assert may(Role.JOB) <= may(Role.DEVELOPER)


def test_every_action_is_in_the_table_once() -> None:
    assert sorted(str(each.action) for each in PERMISSIONS) == sorted(map(str, Action))


def test_documentation_has_the_table(server: ServerProcess) -> None:
    with server.anonymous() as anyone:
        permissions = anyone.permissions()
    for scope, roles in (
        ("organization", ("member", "owner")),
        ("project", ("guest", "developer", "maintainer", "admin", "owner")),
    ):
        for each in permissions:
            if each.scope == scope:
                marks = " | ".join("yes" if role in each.roles else "-" for role in roles)
                line = f"| {each.words} | {marks} |"
                assert line in PAGE.read_text(), f"docs/permissions.md lacks: {line}"


@pytest.mark.parametrize(("role", "allowed"), [("developer", False), ("maintainer", True)])
def test_datasets_of_others_are_for_maintainers_to_delete(
    server: ServerProcess, chunks: Any, role: str, allowed: bool
) -> None:
    owner = server.client()
    other = join_project(server, owner, role)
    snapshot = chunks.snapshot(owner)
    for client in (owner, other):
        body = m.DatasetCreate(name=f"of-{client.username}", snapshot_id=snapshot.id)
        client.create_dataset(owner.project, body)
    other.delete_dataset(owner.project, f"of-{other.username}")
    if allowed:
        other.delete_dataset(owner.project, f"of-{owner.username}")
        return
    with pytest.raises(ForbiddenError) as caught:
        other.delete_dataset(owner.project, f"of-{owner.username}")
    assert caught.value.code == "not_yours"
    assert "maintainer" in (caught.value.hint or "")


@pytest.mark.parametrize(("role", "allowed"), [("developer", False), ("maintainer", True)])
def test_jobs_of_others_are_for_maintainers_to_stop_and_to_delete(
    server: ServerProcess, role: str, allowed: bool
) -> None:
    owner = server.client()
    other = join_project(server, owner, role)
    body = m.AttachedJobCreate(
        run_id=uuid4().hex, name="run", command="python train.py", hostname="here"
    )
    attached = owner.attach_job(owner.project, body)
    job = str(attached.job.number)
    with ApiClient(server.url, attached.token) as agent:
        upload = m.CheckpointStart(upload_id="one", step=5, save_type="NORMAL", size=10)
        checkpoint = agent.start_checkpoint(upload).id
        if allowed:
            assert other.stop_job(owner.project, job).status == "stopping"
        agent.finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))
    if allowed:
        other.delete_checkpoint(owner.project, checkpoint)
        other.delete_job(owner.project, job)
        return
    for call, thing in (
        (other.stop_job, job),
        (other.preempt_job, job),
        (other.delete_job, job),
        (other.delete_checkpoint, checkpoint),
    ):
        with pytest.raises(ForbiddenError) as caught:
            call(owner.project, thing)
        assert caught.value.code == "not_yours"
    owner.delete_checkpoint(owner.project, checkpoint)
    owner.delete_job(owner.project, job)


def test_member_without_a_project_uses_the_organization(server: ServerProcess) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    assert [each.id for each in member.organizations()] == [owner.organization]
    assert member.projects(owner.organization) == []
