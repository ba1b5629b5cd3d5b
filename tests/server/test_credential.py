"""Credentials: sealed, shown without their values, in scopes, changed and deleted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from people import join_organization, join_project
from sqlalchemy import select

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.errors import (
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from periflow_server.db.base import Base, Database
from periflow_server.db.credential import Credential

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

SECRET = "correct-horse-of-the-registry"


def docker(name: str = "hub", password: str = SECRET, **fields: Any) -> m.DockerCredentialCreate:
    document = {"name": name, "username": "ada", "password": password, **fields}
    return m.DockerCredentialCreate.model_validate(document)


def of_project(client: Client) -> CredentialPlace:
    return CredentialPlace.of_project(client.project)


def of_organization(client: Client) -> CredentialPlace:
    return CredentialPlace.of_organization(client.organization)


def code_of(call: Any, kind: type[ApiError]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.hint
    assert SECRET not in f"{caught.value.message}{caught.value.hint}{caught.value.data}"
    return caught.value.code


def test_credential_is_shown_to_people_without_its_value(server: ServerProcess) -> None:
    client = server.client()
    place = of_project(client)
    created = client.create_credential(place, docker())
    assert created.details == {"username": "ada", "password": "********", "registry": "docker.io"}
    assert (created.scope, created.created_by) == ("project", client.username)
    assert client.credentials(place) == [created]
    for reference in ("hub", created.id, created.id[:8]):
        assert client.credential(place, reference) == created
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    for path in (place.path, f"{place.path}/hub"):
        answer = httpx.get(f"{server.url}/api/v1/{path}", headers=headers)
        assert SECRET not in answer.text


def test_value_is_sealed_in_the_database_and_in_no_log(
    server: ServerProcess, database: Database
) -> None:
    client = server.client()
    created = client.create_credential(of_project(client), docker())
    client.update_credential(
        of_project(client), "hub", m.CredentialUpdate.model_validate({"values": {"username": "e"}})
    )
    with database.read() as session:
        row = session.get_one(Credential, created.id)
        tables = {
            name: [str(each) for each in session.execute(select(table))]
            for name, table in Base.metadata.tables.items()
        }
    assert row.sealed.startswith("v1.")
    assert SECRET not in str(tables) + server.log()
    acts = [line for line in tables["audit_events"] if created.id in line]
    assert ["credential.create" in acts[0], "credential.update" in acts[1]] == [True, True]
    assert all(f"user {client.username}" in line for line in acts)


def test_end_of_a_keys_id_tells_keys_apart(server: ServerProcess) -> None:
    client = server.client()
    body = m.S3CredentialCreate.model_validate(
        {
            "name": "bucket",
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "aws_secret_access_key": SECRET,
            "aws_default_region": "us-east-1",
        }
    )
    created = client.create_credential(of_project(client), body, verify=False)
    assert created.details["aws_access_key_id"] == "********MPLE"
    assert created.verified_at is None


def test_names_are_unique_in_their_scope_and_the_projects_hides_the_shared_one(
    server: ServerProcess,
) -> None:
    client = server.client()
    project, organization = of_project(client), of_organization(client)
    own = client.create_credential(project, docker())
    shared = client.create_credential(organization, docker())
    for place in (project, organization):
        code = code_of(lambda place=place: client.create_credential(place, docker()), ConflictError)
        assert code == "credential_exists"
    assert [each.id for each in client.credentials(organization)] == [shared.id]
    assert {each.id for each in client.credentials(project)} == {own.id, shared.id}
    assert client.credential(project, "hub").id == own.id
    assert client.credential(project, shared.id).scope == "organization"
    other = CredentialPlace.of_project(client.create_project(client.organization, "second").id)
    assert [each.id for each in client.credentials(other)] == [shared.id]
    assert client.create_credential(other, docker()).name == "hub"


def test_name_in_the_form_of_anothers_id_hides_nothing(server: ServerProcess) -> None:
    client = server.client()
    place = of_project(client)
    first = client.create_credential(place, docker())
    client.create_credential(place, docker(first.id))
    assert client.credential(place, first.id).name == "hub"


def test_lists_come_by_name_in_pages_and_by_type(server: ServerProcess) -> None:
    client = server.client()
    place = of_project(client)
    for name in ("c", "a", "b"):
        client.create_credential(place, docker(name))
    client.create_credential(of_organization(client), docker("b"))
    wandb = m.WandbCredentialCreate.model_validate({"name": "w", "api_key": SECRET})
    client.create_credential(place, wandb, verify=False)
    headers = {"Authorization": f"Bearer {client.session.access_token}"}
    names, cursor = [], ""
    while cursor is not None:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        answer = httpx.get(f"{server.url}/api/v1/{place.path}", params=query, headers=headers)
        names += [each["name"] for each in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
    assert names == ["a", "b", "b", "c", "w"]
    assert [each.name for each in client.credentials(place, "wandb")] == ["w"]


def test_update_keeps_the_id_and_what_is_not_given(server: ServerProcess) -> None:
    client = server.client()
    place = of_project(client)
    created = client.create_credential(place, docker())
    change = m.CredentialUpdate.model_validate({"name": "new", "values": {"username": "eve"}})
    changed = client.update_credential(place, "hub", change)
    assert (changed.id, changed.name) == (created.id, "new")
    assert changed.details["username"] == "eve"
    assert changed.updated_at > created.updated_at
    for values, code in (
        ({"token": "x"}, "credential_field"),
        ({"registry": "not a host"}, "invalid_request"),
    ):
        change = m.CredentialUpdate.model_validate({"values": values})
        with pytest.raises(InvalidRequestError) as caught:
            client.update_credential(place, "new", change)
        assert caught.value.code == code
    client.create_credential(place, docker("taken"))
    rename = m.CredentialUpdate(name="taken")
    assert (
        code_of(lambda: client.update_credential(place, "new", rename), ConflictError)
        == "credential_exists"
    )


def test_slack_credential_changes_from_webhook_to_token(server: ServerProcess) -> None:
    client = server.client()
    place = of_project(client)
    webhook = {"name": "team", "webhook_url": "https://hooks.slack.com/services/T/B/x"}
    body = m.SlackCredentialCreate.model_validate(webhook)
    client.create_credential(place, body, verify=False)
    change = m.CredentialUpdate.model_validate({"values": {"token": "xoxb-1"}})
    changed = client.update_credential(place, "team", change, verify=False)
    assert changed.details == {"token": "********"}


def test_own_credentials_are_a_developers_to_change_and_those_of_others_a_maintainers(
    server: ServerProcess,
) -> None:
    owner = server.client()
    place = of_project(owner)
    developer = join_project(server, owner, "developer")
    maintainer = join_project(server, owner, "maintainer")
    owner.create_credential(place, docker("lead"))
    developer.create_credential(place, docker("mine"))
    assert [each.name for each in developer.credentials(place)] == ["lead", "mine"]
    rename = m.CredentialUpdate(name="stolen")
    for call in (
        lambda: developer.update_credential(place, "lead", rename),
        lambda: developer.delete_credential(place, "lead"),
    ):
        assert code_of(call, ForbiddenError) == "not_yours"
    maintainer.update_credential(place, "lead", m.CredentialUpdate(name="leads"))
    developer.delete_credential(place, "mine")
    maintainer.delete_credential(place, "leads")
    assert owner.credentials(place) == []


def test_shared_credentials_are_changed_in_the_organization_by_their_maker_or_an_owner(
    server: ServerProcess,
) -> None:
    owner = server.client()
    place = of_organization(owner)
    admin = join_project(server, owner, "admin")
    member = server.signed_up()
    join_organization(server, owner, member)
    owner.create_credential(place, docker("lead"))
    member.create_credential(place, docker("mine"))
    for call in (
        lambda: member.delete_credential(place, "lead"),
        lambda: admin.delete_credential(place, "mine"),
        lambda: admin.update_credential(place, "lead", m.CredentialUpdate(name="x")),
    ):
        assert code_of(call, ForbiddenError) == "not_yours"
    # Not by the way of a project either.
    assert (
        code_of(lambda: admin.delete_credential(of_project(owner), "lead"), ForbiddenError)
        == "shared_credential"
    )
    member.delete_credential(place, "mine")
    owner.delete_credential(place, "lead")
    assert owner.credentials(place) == []


def test_credentials_of_one_project_are_unknown_in_another(server: ServerProcess) -> None:
    client, stranger = server.client(), server.client()
    created = client.create_credential(of_project(client), docker())
    second = CredentialPlace.of_project(client.create_project(client.organization, "second").id)
    for caller, place in ((client, second), (stranger, of_project(stranger))):
        for reference in ("hub", created.id, created.id[:8]):
            call = lambda c=caller, p=place, r=reference: c.credential(p, r)  # noqa: E731
            assert code_of(call, NotFoundError) == "credential_not_found"


@pytest.mark.parametrize(
    "document",
    [
        {"type": "docker", "username": "ada", "password": ""},
        {"type": "docker", "username": "ada", "password": SECRET, "registry": "https://x/y"},
        {"type": "wandb", "api_key": f"{SECRET} with spaces"},
        {"type": "slack"},
        {"type": "slack", "token": "xoxb-1", "webhook_url": "https://hooks.slack.com/x"},
        {"type": "gcs", "service_account_key": f'{{"private_key": "{SECRET}"}}'},
        {"type": "azure-blob", "storage_account_name": "acc", "storage_account_key": SECRET},
        {"type": "s3", "aws_access_key_id": "A", "aws_secret_access_key": SECRET},
        {"type": "ftp", "password": SECRET},
        {"type": "wandb", "api_key": "k", "password": SECRET},
    ],
)
def test_wrong_values_are_refused_without_being_repeated(
    server: ServerProcess, anybody: Client, document: dict[str, str]
) -> None:
    answer = httpx.post(
        f"{server.url}/api/v1/{of_project(anybody).path}",
        params={"verify": "false"},
        json={"name": "wrong", **document},
        headers={"Authorization": f"Bearer {anybody.session.access_token}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert SECRET not in answer.text
    assert len(json.dumps(answer.json())) < 600


@pytest.fixture
def anybody(server: ServerProcess) -> Client:
    return server.client()
