"""Organizations and projects: names, lists, approval."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from conftest import ServerProcess


def test_maker_of_an_organization_and_project_owns_and_administers_it(
    server: ServerProcess,
) -> None:
    client = server.signed_up()
    organization = client.create_organization(f"{client.username}.works")
    project = client.create_project(organization.id, "vision")
    assert (organization.role, organization.status) == ("owner", "active")
    assert (project.role, project.organization_id) == ("admin", organization.id)
    assert client.organizations() == [organization]
    assert client.projects(organization.id) == [project]


def test_names_of_organizations_are_unique_whatever_their_case(server: ServerProcess) -> None:
    first, second = server.signed_up(), server.signed_up()
    first.create_organization("the-one")
    for name in ("the-one", "The-ONE"):
        with pytest.raises(ConflictError, match="named the-one exists") as caught:
            second.create_organization(name)
        assert caught.value.code == "organization_exists"


def test_names_of_projects_are_unique_in_their_organization(server: ServerProcess) -> None:
    client, other = server.client(), server.client()
    with pytest.raises(ConflictError) as caught:
        client.create_project(client.organization, "project")
    assert caught.value.code == "project_exists"
    assert client.projects(client.organization)[0].name == "project"
    assert other.projects(other.organization)[0].name == "project"


def test_outsiders_do_not_learn_of_an_organization(server: ServerProcess) -> None:
    client, outsider = server.client(), server.client()
    assert all(o.id != client.organization for o in outsider.organizations())
    with pytest.raises(NotFoundError) as real:
        outsider.projects(client.organization)
    with pytest.raises(NotFoundError) as made_up:
        outsider.projects("no-such-organization")
    assert real.value.message == made_up.value.message
    with pytest.raises(NotFoundError):
        outsider.create_project(client.organization, "intruder")


def test_lists_come_in_pages_that_join_to_the_whole(server: ServerProcess) -> None:
    client = server.signed_up()
    organization = client.create_organization(f"{client.username}-pages").id
    names = sorted(client.create_project(organization, f"p{n}").name for n in range(5))
    url = f"{server.url}/api/v1/organizations/{organization}/projects"
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    seen: list[str] = []
    params: dict[str, str | int] = {"limit": 2}
    while True:
        page = httpx.get(url, params=params, headers=headers).json()
        assert len(page["items"]) <= 2
        seen += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == names
    assert [p.name for p in client.projects(organization)] == names


@pytest.mark.parametrize("name", ["", " ", "../up", "a b", "-x", "a" * 65, "naïve"])
def test_names_that_would_trouble_paths_and_shells_are_refused(
    server: ServerProcess, name: str
) -> None:
    client = server.signed_up()
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    url = f"{server.url}/api/v1/organizations"
    answer = httpx.post(url, json={"name": name}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["data"]["field"] == "name"


def test_staged_organization_takes_no_projects(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(is_embedded=False)
    client = server.signed_up()
    organization: m.Organization = client.create_organization("waiting")
    assert organization.status == "staged"
    with pytest.raises(ForbiddenError) as caught:
        client.create_project(organization.id, "early")
    assert caught.value.code == "organization_staged"
