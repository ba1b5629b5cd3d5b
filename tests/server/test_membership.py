"""Members of organizations: roles, leaving, being removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
from people import join_organization, join_project

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    LoginRequiredError,
    NotFoundError,
)

if TYPE_CHECKING:
    from conftest import ServerProcess


def test_members_are_listed_with_their_roles_to_all_members(server: ServerProcess) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    listed = member.organization_members(owner.organization)
    assert [(each.username, each.role) for each in listed] == sorted(
        [(owner.username, "owner"), (member.username, "member")]
    )
    assert listed == owner.organization_members(owner.organization)


@pytest.mark.parametrize("role", ["owner", "Owner", " OWNER "])
def test_role_is_taken_in_any_case(server: ServerProcess, role: str) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    changed = owner.set_organization_role(owner.organization, member.username, role)
    assert changed.role == "owner"
    assert member.create_project(owner.organization, f"of-{member.username}").role == "admin"


def test_demoted_owner_can_do_no_more_than_a_member(server: ServerProcess) -> None:
    owner, other = server.client(), server.signed_up()
    join_organization(server, owner, other)
    owner.set_organization_role(owner.organization, other.username, "owner")
    other.set_organization_role(owner.organization, owner.username, "member")
    with pytest.raises(ForbiddenError) as caught:
        owner.invite(owner.organization, "somebody@example.com")
    assert caught.value.code == "forbidden"
    assert "Ask an owner" in (caught.value.hint or "")


@pytest.mark.parametrize("role", ["admin", "boss", "developer"])
def test_role_that_organizations_do_not_have_is_refused_with_those_they_have(
    server: ServerProcess, role: str
) -> None:
    owner = server.client()
    with pytest.raises(InvalidRequestError) as caught:
        owner.set_organization_role(owner.organization, owner.username, role)
    assert caught.value.code == "unknown_role"
    assert caught.value.data["roles"] == ["owner", "member"]


def test_last_owner_can_neither_leave_nor_be_removed_nor_be_demoted(
    server: ServerProcess,
) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    attempts = (
        lambda: owner.leave_organization(owner.organization),
        lambda: owner.remove_organization_member(owner.organization, owner.username),
        lambda: owner.set_organization_role(owner.organization, owner.username, "member"),
    )
    for attempt in attempts:
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.code == "last_owner"
        assert "pf org set-role" in (caught.value.hint or "")
    owner.set_organization_role(owner.organization, member.username, "owner")
    owner.leave_organization(owner.organization)
    assert owner.organizations() == []


def test_people_outside_are_answered_alike_whether_they_exist_or_not(
    server: ServerProcess,
) -> None:
    owner, outsider = server.client(), server.client()
    messages = []
    for name in (outsider.username, "nobody-at-all"):
        with pytest.raises(NotFoundError) as caught:
            owner.set_organization_role(owner.organization, name, "owner")
        assert caught.value.code == "member_not_found"
        assert "pf org invite" in (caught.value.hint or "")
        messages.append(caught.value.message.replace(name, "NAME"))
    assert len(set(messages)) == 1


def test_removed_member_is_outside_from_the_next_request_on(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    run = m.AttachedJobCreate(run_id=uuid4().hex, name="run", command="train", hostname="here")
    owner.attach_job(owner.project, run)
    assert len(member.jobs(owner.project)) == 1
    assert member.jobs(owner.project, where=m.JobFilter(mine=True)) == []
    owner.remove_organization_member(owner.organization, member.username)
    for attempt in (
        lambda: member.jobs(owner.project),
        lambda: member.projects(owner.organization),
        lambda: member.organization_members(owner.organization),
    ):
        with pytest.raises(NotFoundError) as refused:
            attempt()
        assert "pf org list" in (refused.value.hint or "")
    assert member.organizations() == []


def test_who_comes_back_has_no_project_left(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "admin")
    member.leave_organization(owner.organization)
    join_organization(server, owner, member)
    assert member.projects(owner.organization) == []
    with pytest.raises(NotFoundError):
        member.jobs(owner.project)


def test_members_of_a_long_list_come_in_pages(server: ServerProcess) -> None:
    owner, *members = server.client(), server.signed_up(), server.signed_up()
    for member in members:
        join_organization(server, owner, member)
    url = f"{server.url}/api/v1/organizations/{owner.organization}/members"
    headers = {"Authorization": f"Bearer {owner.session.access_token}"}
    first = httpx.get(url, params={"limit": 2}, headers=headers).json()
    rest = httpx.get(url, params={"cursor": first["next_cursor"]}, headers=headers).json()
    assert rest["next_cursor"] is None
    names = [each["username"] for each in first["items"] + rest["items"]]
    assert names == sorted([owner.username, *(each.username for each in members)])


def test_api_key_of_who_was_removed_never_works_again(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    key = member.create_key(owner.project, m.ApiKeyCreate(name="ci", role="developer")).key
    with ApiClient(server.url, key) as machine:
        assert machine.jobs(owner.project) == []
        owner.remove_organization_member(owner.organization, member.username)
        with pytest.raises(LoginRequiredError):
            machine.jobs(owner.project)
        join_project(server, owner, "developer", member)
        assert member.jobs(owner.project) == []
        with pytest.raises(LoginRequiredError):
            machine.jobs(owner.project)


def test_log_that_is_followed_ends_with_the_membership(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "guest")
    body = m.AttachedJobCreate(run_id=uuid4().hex, name="run", command="python", hostname="here")
    job = owner.attach_job(owner.project, body).job
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(member.job_log, owner.project, job.number, wait_seconds=25)
        owner.remove_organization_member(owner.organization, member.username)
        with pytest.raises(NotFoundError):
            following.result(timeout=24)
