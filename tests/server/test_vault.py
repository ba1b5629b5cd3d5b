"""Sealed secrets, and how their key is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_server import embedded
from periflow_server.db.base import Database
from periflow_server.services.vault import Vault, VaultError

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

SECRET = "opened-only-by-its-key"
OLD, NEW = "0ld" * 12, "n3w" * 12


def test_sealed_text_opens_in_its_own_row_only() -> None:
    vault = Vault(b"k" * 32)
    sealed = vault.seal("row-1", SECRET.encode())
    assert SECRET not in sealed
    assert vault.open("row-1", sealed) == SECRET.encode()
    assert vault.seal("row-1", SECRET.encode()) != sealed
    with pytest.raises(VaultError) as caught:
        vault.open("row-2", sealed)
    assert caught.value.code == "vault_damaged"


def test_changed_text_does_not_open() -> None:
    vault = Vault(b"k" * 32)
    sealed = vault.seal("row", b"value")
    form, key, body = sealed.split(".")
    flipped = body[:-3] + ("A" if body[-3] != "A" else "B") + body[-2:]
    for damaged in (f"{form}.{key}.{flipped}", f"{form}.{key}.", f"{form}.{key}.!", "", "text"):
        with pytest.raises(VaultError) as caught:
            vault.open("row", damaged)
        assert caught.value.code == "vault_damaged"


def test_other_key_opens_nothing_and_says_which_is_missing() -> None:
    sealed = Vault(b"k" * 32).seal("row", b"value")
    with pytest.raises(VaultError) as caught:
        Vault(b"o" * 32).open("row", sealed)
    assert caught.value.code == "vault_key_missing"
    assert "OLD_SECRET_KEYS" in (caught.value.hint or "")
    after = Vault(b"o" * 32, [b"k" * 32])
    assert after.open("row", sealed) == b"value"
    assert not after.is_current(sealed)
    assert after.is_current(after.seal("row", b"value"))


def test_new_key_of_a_folder_keeps_the_old_one_until_it_is_forgotten(tmp_path: Path) -> None:
    first = embedded.load_key(tmp_path)
    second, third = embedded.renew_key(tmp_path), embedded.renew_key(tmp_path)
    assert len({first, second, third}) == 3
    assert embedded.load_key(tmp_path) == third
    assert (tmp_path / embedded.OLD_KEYS).read_text().split() == [first, second]
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    embedded.forget_old_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def keep_secret(client: Client) -> str:
    document = {"name": "hub", "username": "ada", "password": SECRET}
    body = m.DockerCredentialCreate.model_validate(document)
    place = CredentialPlace.of_project(client.project)
    return client.create_credential(place, body).id


def rotate(server: ServerProcess, **variables: str) -> subprocess.CompletedProcess[str]:
    options = ["--home", str(server.home)] if server.is_embedded else []
    return subprocess.run(
        [sys.executable, "-m", "periflow_server", "admin", "rotate-keys", *options],
        capture_output=True,
        text=True,
        timeout=200,
        env={
            **os.environ,
            "PERIFLOW_SERVER_DATA_DIR": str(server.data_dir),
            **server.variables,
            **variables,
        },
    )


def sealed_with(server: ServerProcess, id: str) -> str:
    database = Database(server.database_url)
    try:
        with database.read() as session:
            query = text("SELECT sealed FROM credentials WHERE id = :id")
            return str(session.execute(query, {"id": id}).scalar_one())
    finally:
        database.close()


def opened(server: ServerProcess, id: str, key: str) -> bytes:
    try:
        secret = bytes.fromhex(key)
    except ValueError:
        secret = key.encode()
    return Vault(secret).open(id, sealed_with(server, id))


@pytest.mark.sqlite
def test_embedded_server_gets_a_new_key_while_it_is_stopped(own_server: ServerProcess) -> None:
    id = keep_secret(own_server.client())
    before = embedded.load_key(own_server.data_dir)
    running = rotate(own_server)
    assert running.returncode == 3
    assert "pf server stop" in running.stderr
    assert embedded.load_key(own_server.data_dir) == before
    own_server.stop()
    done = rotate(own_server)
    assert done.returncode == 0, done.stderr
    after = embedded.load_key(own_server.data_dir)
    assert after != before
    assert not (own_server.data_dir / embedded.OLD_KEYS).exists()
    assert SECRET.encode() in opened(own_server, id, after)
    with pytest.raises(VaultError):
        opened(own_server, id, before)
    own_server.start()


@pytest.mark.sqlite
def test_rotation_that_was_cut_off_loses_nothing(own_server: ServerProcess) -> None:
    client = own_server.client()
    id = keep_secret(client)
    own_server.stop()
    embedded.renew_key(own_server.data_dir)  # and killed here, before anything was sealed anew
    own_server.start()
    client = client.at(own_server)
    change = m.CredentialUpdate.model_validate({"values": {"username": "eve"}})
    place = CredentialPlace.of_project(client.project)
    assert client.update_credential(place, "hub", change).details["username"] == "eve"
    own_server.stop()
    assert rotate(own_server).returncode == 0
    key = embedded.load_key(own_server.data_dir)
    assert SECRET.encode() in opened(own_server, id, key)


def test_servers_change_their_key_without_a_pause(
    start_server: Callable[..., ServerProcess],
) -> None:
    variables = {"PERIFLOW_SERVER_ORG_APPROVAL": "auto"}
    server = start_server(is_embedded=False, PERIFLOW_SERVER_SECRET_KEY=OLD, **variables)
    client = server.client()
    id = keep_secret(client)
    server.stop()
    keys = {"PERIFLOW_SERVER_SECRET_KEY": NEW, "PERIFLOW_SERVER_OLD_SECRET_KEYS": OLD}
    server.variables.update(keys)
    server.start()
    assert SECRET.encode() in opened(server, id, OLD)
    done = rotate(server)
    assert done.returncode == 0, done.stderr
    assert "not needed any more" in done.stderr
    assert SECRET.encode() in opened(server, id, NEW)
    assert SECRET not in done.stdout + done.stderr
    again = rotate(server, PERIFLOW_SERVER_OLD_SECRET_KEYS="")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr


@pytest.mark.sqlite
def test_rotation_without_the_former_key_changes_nothing_and_says_so(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(
        is_embedded=False,
        PERIFLOW_SERVER_SECRET_KEY=OLD,
        PERIFLOW_SERVER_ORG_APPROVAL="auto",
    )
    id = keep_secret(server.client())
    done = rotate(server, PERIFLOW_SERVER_SECRET_KEY=NEW)
    assert done.returncode == 1
    assert id in done.stderr
    assert "OLD_SECRET_KEYS" in done.stderr
    assert SECRET.encode() in opened(server, id, OLD)
