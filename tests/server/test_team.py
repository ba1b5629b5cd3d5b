"""Who works in a project: added, given roles, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from people import join_organization, join_project

from periflow_sdk.errors import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)

if TYPE_CHECKING:
    from conftest import ServerProcess


@pytest.mark.parametrize(
    ("written", "role"),
    [
        ("Admin", "admin"),
        ("MAINTAINER", "maintainer"),
        ("maintain", "maintainer"),
        ("Develop", "developer"),
        ("developer", "developer"),
        ("guest", "guest"),
    ],
)
def test_roles_are_taken_as_people_write_them(
    server: ServerProcess, written: str, role: str
) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    added = owner.add_project_member(owner.project, member.username, written)
    assert (added.role, added.is_owner) == (role, False)
    assert [p.role for p in member.projects(owner.organization)] == [role]


@pytest.mark.parametrize("role", ["owner", "member", "root"])
def test_role_that_projects_do_not_have_is_refused(server: ServerProcess, role: str) -> None:
    owner = server.client()
    for attempt in (owner.add_project_member, owner.set_project_role):
        with pytest.raises(InvalidRequestError) as caught:
            attempt(owner.project, owner.username, role)
        assert caught.value.code == "unknown_role"
        assert "admin, maintainer, developer and guest" in (caught.value.hint or "")


def test_people_outside_the_organization_are_refused_with_the_way_in(
    server: ServerProcess,
) -> None:
    owner, outsider = server.client(), server.client()
    for name in (outsider.username, outsider.session.user.email, "nobody-at-all"):
        with pytest.raises(NotFoundError) as caught:
            owner.add_project_member(owner.project, name, "guest")
        assert caught.value.code == "member_not_found"
        assert "pf org invite" in (caught.value.hint or "")


def test_who_is_in_the_project_is_added_once(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "guest")
    with pytest.raises(ConflictError) as caught:
        owner.add_project_member(owner.project, member.username, "developer")
    assert caught.value.code == "project_member_exists"
    assert caught.value.data["role"] == "guest"
    assert "pf project set-role" in (caught.value.hint or "")


def test_admin_who_is_no_owner_manages_people_but_not_the_project_itself(
    server: ServerProcess,
) -> None:
    owner = server.client()
    admin, guest = join_project(server, owner, "admin"), join_project(server, owner, "guest")
    assert admin.set_project_role(owner.project, guest.username, "maintain").role == "maintainer"
    admin.remove_project_member(owner.project, guest.username)
    assert guest.projects(owner.organization) == []
    with pytest.raises(ForbiddenError):
        admin.delete_project(owner.project)
    with pytest.raises(ForbiddenError):
        admin.create_project(owner.organization, "another")


def test_role_counts_from_the_next_request_on(server: ServerProcess) -> None:
    owner = server.client()
    member = join_project(server, owner, "developer")
    member.missing_chunks(owner.project, [])
    owner.set_project_role(owner.project, member.username, "guest")
    with pytest.raises(ForbiddenError) as caught:
        member.missing_chunks(owner.project, [])
    assert caught.value.data == {**caught.value.data, "role": "guest", "action": "snapshot.write"}


def test_owners_are_admins_of_every_project_and_stay_it(server: ServerProcess) -> None:
    owner, second = server.client(), server.signed_up()
    join_organization(server, owner, second)
    owner.set_organization_role(owner.organization, second.username, "owner")
    team = {each.username: each for each in owner.project_members(owner.project)}
    assert team[second.username].is_owner and team[second.username].role == "admin"
    for attempt in (
        lambda: owner.add_project_member(owner.project, second.username, "guest"),
        lambda: owner.set_project_role(owner.project, second.username, "guest"),
        lambda: owner.remove_project_member(owner.project, second.username),
    ):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.code == "owner_role"
    assert owner.set_project_role(owner.project, second.username, "admin").role == "admin"


def test_name_that_is_not_in_the_project_is_not_found(server: ServerProcess) -> None:
    owner, member = server.client(), server.signed_up()
    join_organization(server, owner, member)
    for attempt in (
        lambda: owner.set_project_role(owner.project, member.username, "guest"),
        lambda: owner.remove_project_member(owner.project, member.username),
    ):
        with pytest.raises(NotFoundError) as caught:
            attempt()
        assert caught.value.code == "project_member_not_found"
        assert "pf project add-user" in (caught.value.hint or "")
