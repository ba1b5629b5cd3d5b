"""`pf-server admin list-orgs|approve-org|refuse-org`, beside a server that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nursery import run
from waiting import wait_until

from periflow_sdk.errors import ConflictError, ForbiddenError

if TYPE_CHECKING:
    from conftest import ServerProcess


@pytest.fixture
def staging(start_server: Callable[..., ServerProcess]) -> ServerProcess:
    """A server as others would reach it: new organizations wait."""
    return start_server(is_embedded=False)


class Admin:
    """The administrator's shell beside a server."""

    def __init__(self, server: ServerProcess) -> None:
        self.env = {
            **os.environ,
            **server.variables,
            "PERIFLOW_SERVER_DATA_DIR": str(server.data_dir),
        }

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run("periflow_server", ["admin", *words], self.env)

    def listed(self, *words: str) -> dict[str, Any]:
        done = self.run("list-orgs", "--json", *words)
        assert done.returncode == 0, done.stderr
        return {each["name"]: each for each in json.loads(done.stdout)}


def mails(server: ServerProcess, subject: str) -> list[str]:
    texts = [path.read_text() for path in (server.data_dir / "outbox").glob("*.eml")]
    return [text for text in texts if f"Subject: {subject}" in text]


def test_organization_waits_is_approved_and_can_be_used(staging: ServerProcess) -> None:
    admin = Admin(staging)
    owner = staging.signed_up()
    organization = owner.create_organization("works")
    assert organization.status == "staged"
    for attempt in (
        lambda: owner.create_project(organization.id, "early"),
        lambda: owner.invite(organization.id, "somebody@example.com"),
        lambda: owner.usage(organization.id),
    ):
        with pytest.raises(ForbiddenError) as caught:
            attempt()
        assert caught.value.code == "organization_staged"
        assert "approve-org works" in (caught.value.hint or "")
    listed = admin.listed("--status", "staged")["works"]
    assert listed["owners"] == [owner.username]
    done = admin.run("approve-org", "works")
    assert (done.returncode, done.stdout) == (0, "Organization works is active now.\n")
    assert [each.status for each in owner.organizations()] == ["active"]
    assert owner.create_project(organization.id, "first").role == "admin"
    wait_until(lambda: mails(staging, "Your PeriFlow organization works is active"), 20)


def test_refused_organization_says_why_and_can_still_be_approved(
    staging: ServerProcess,
) -> None:
    admin = Admin(staging)
    owner = staging.signed_up()
    organization = owner.create_organization("dubious")
    assert admin.run("refuse-org", "dubious").returncode == 2
    done = admin.run("refuse-org", "dubious", "--reason", "not ours", "--yes")
    assert done.returncode == 0, done.stderr
    (refused,) = owner.organizations()
    assert (refused.status, refused.refusal) == ("refused", "not ours")
    with pytest.raises(ForbiddenError) as caught:
        owner.create_project(organization.id, "early")
    assert caught.value.code == "organization_refused"
    assert "not ours" in caught.value.message
    assert admin.run("approve-org", "dubious").returncode == 0
    assert owner.create_project(organization.id, "late")


def test_wrong_names_and_states_change_nothing(staging: ServerProcess) -> None:
    admin = Admin(staging)
    owner = staging.signed_up()
    owner.create_organization("one")
    owner.create_organization("two")
    done = admin.run("approve-org", "one", "no-such")
    assert done.returncode == 3
    assert "no-such" in done.stderr and "list-orgs" in done.stderr
    assert admin.listed()["one"]["status"] == "staged"
    assert admin.run("approve-org", "one").returncode == 0
    for words in (("approve-org", "one"), ("refuse-org", "one", "--yes")):
        done = admin.run(*words)
        assert done.returncode == 5
        assert "active already" in done.stderr
    assert set(admin.listed("--status", "staged")) == {"two"}
    table = admin.run("list-orgs").stdout.splitlines()
    assert [line.split("\t")[:2] for line in table] == [
        ["Name", "Status"],
        ["one", "Active"],
        ["two", "Staged"],
    ]
    with pytest.raises(ConflictError):
        owner.create_organization("one")


@pytest.mark.sqlite
def test_embedded_server_is_administered_by_its_home(own_server: ServerProcess) -> None:
    owner = own_server.client()
    admin = Admin(own_server)
    home = str(own_server.home)
    assert admin.listed("--home", home)[f"{owner.username}-org"]["status"] == "active"


@pytest.mark.sqlite
def test_folder_without_a_database_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "periflow_server", "admin", "list-orgs", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr and "PERIFLOW_SERVER_DATABASE_URL" in done.stderr
    assert list(tmp_path.iterdir()) == []
