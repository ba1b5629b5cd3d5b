"""Two server processes on one PostgreSQL: one installation, whatever each of them is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from nursery import run

from periflow_sdk.api import models as m
from periflow_sdk.errors import PeriFlowError
from periflow_server.db.base import Database
from periflow_server.db.schema import prepare_schema
from periflow_server.db.turn import take_turn

if TYPE_CHECKING:
    from conftest import Client, ServerProcess
    from postgresql_cluster import PostgresqlCluster

pytestmark = pytest.mark.postgresql
EMPTY_MANIFEST = b'{"chunks":[],"entries":[],"version":1}'


def failed_start(server: ServerProcess, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a server that does not start says."""
    given = {**server.variables, **variables, "PERIFLOW_SERVER_DATA_DIR": str(server.data_dir)}
    return run("periflow_server", server.command()[3:], {**os.environ, **given})


def test_what_one_server_answered_for_the_other_knows(pair: Any, chunks: Any) -> None:
    one, two = pair.clients
    snapshot = chunks.snapshot(one, b"put at the one")
    two.create_dataset(two.project, m.DatasetCreate(name="digits", snapshot_id=snapshot.id))
    assert [dataset.name for dataset in one.datasets(one.project)] == ["digits"]
    ref = chunks.ref(b"put at the one")
    (source,) = one.chunk_sources(one.project, [ref])
    elsewhere = source.url.replace(pair.servers[0].url, pair.servers[1].url)
    assert httpx.get(elsewhere).content == b"put at the one"
    one.log_out()
    with pytest.raises(PeriFlowError) as refused:
        two.me()
    assert refused.value.code == "login_required"


@pytest.mark.parametrize("kind", ["organization", "project", "dataset"])
def test_of_many_who_take_a_name_at_once_one_gets_it(pair: Any, chunks: Any, kind: str) -> None:
    snapshot = chunks.snapshot(pair.clients[0])

    def take(client: Client, number: int) -> Any:
        if kind == "organization":
            return client.create_organization("wanted" if number % 3 else "Wanted")
        if kind == "project":
            return client.create_project(client.organization, "wanted")
        body = m.DatasetCreate(name="wanted", snapshot_id=snapshot.id)
        return client.create_dataset(client.project, body)

    answers = pair.at_once(take, 12)
    refused = [answer for answer in answers if isinstance(answer, PeriFlowError)]
    assert len(refused) == 11
    assert {error.code for error in refused} == {f"{kind}_exists"}


def test_one_delivery_to_both_servers_at_once_creates_once(pair: Any) -> None:
    one = pair.clients[0]
    headers = {
        "Authorization": f"Bearer {one.session.access_token}",
        "Idempotency-Key": "the same",
    }

    def post(client: Client, _: int) -> Any:
        return httpx.post(
            f"{client.url}/api/v1/organizations", json={"name": "once"}, headers=headers
        )

    answers = pair.at_once(post, 8)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_uploads_of_the_same_chunks_in_any_order_do_not_block_each_other(
    pair: Any, chunks: Any
) -> None:
    refs = [chunks.ref(f"chunk {number}".encode()) for number in range(300)]

    def ask(client: Client, number: int) -> int:
        order = refs if number % 2 else refs[::-1]
        return len(client.missing_chunks(client.project, order))

    assert pair.at_once(ask, 12) == [300] * 12


def test_servers_that_start_at_once_on_a_new_database_make_its_tables_once(
    tmp_path: Path, server_class: type[ServerProcess], new_database_url: Callable[[], str]
) -> None:
    variables = {
        "PERIFLOW_SERVER_DATABASE_URL": new_database_url(),
        "PERIFLOW_SERVER_STORAGE_URL": f"file://{tmp_path / 'store'}",
        "PERIFLOW_SERVER_SECRET_KEY": "one-key-for-the-servers-of-this-test",
    }
    servers = [server_class(tmp_path / n, variables, is_embedded=False) for n in ("one", "two")]
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(server_class.start, servers))
        assert [httpx.get(f"{s.url}/api/v1/health").status_code for s in servers] == [200, 200]
        assert not any("Traceback" in server.log() for server in servers)
    finally:
        for server in servers:
            server.close()


def test_server_with_another_key_or_store_is_refused(
    pair: Any, tmp_path: Path, server_class: type[ServerProcess]
) -> None:
    third = server_class(tmp_path / "three", pair.servers[0].variables, is_embedded=False)
    for name, value in (
        ("SECRET_KEY", "another key than that of the others here"),
        ("STORAGE_URL", f"file://{tmp_path / 'elsewhere'}"),
    ):
        ended = failed_start(third, **{f"PERIFLOW_SERVER_{name}": value})
        assert ended.returncode == 2
        assert f"PERIFLOW_SERVER_{name}" in ended.stderr
        assert value not in ended.stderr
        assert "Traceback" not in ended.stderr


def test_key_is_changed_while_servers_with_both_keys_run(
    pair: Any, start_server: Callable[..., ServerProcess]
) -> None:
    given = pair.servers[0].variables
    changed = {
        **given,
        "PERIFLOW_SERVER_SECRET_KEY": "c0ffee" * 10,
        "PERIFLOW_SERVER_OLD_SECRET_KEYS": given["PERIFLOW_SERVER_SECRET_KEY"],
    }
    third = start_server("three", is_embedded=False, **changed)
    assert pair.clients[0].at(third).me()
    third.stop()
    back = {**given, "PERIFLOW_SERVER_OLD_SECRET_KEYS": "c0ffee" * 10}
    fourth = start_server("four", is_embedded=False, **back)
    assert pair.clients[0].at(fourth).me()


def test_a_data_folder_has_room_for_one_server(pair: Any) -> None:
    ended = failed_start(pair.servers[0])
    assert ended.returncode == 3
    assert "PERIFLOW_SERVER_DATA_DIR" in ended.stderr
    assert pair.clients[0].me()


def test_servers_go_on_when_the_database_comes_back(
    pair: Any, postgresql: PostgresqlCluster
) -> None:
    one, two = pair.clients
    postgresql.stop()
    try:
        headers = {"Authorization": f"Bearer {one.session.access_token}"}
        answer = httpx.get(f"{one.url}/api/v1/users/me", headers=headers, timeout=200)
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert httpx.get(f"{one.url}/api/v1/health").status_code in (200, 503)
    finally:
        postgresql.start()
    assert one.me() == two.me()
    assert one.create_project(one.organization, "after").id


def test_server_says_so_when_the_database_does_not_answer(
    tmp_path: Path, server_class: type[ServerProcess]
) -> None:
    url = f"postgresql://somebody:very-secret@/nothing?host={tmp_path}"
    server = server_class(tmp_path / "home", is_embedded=False)
    server.home.mkdir()
    ended = failed_start(server, PERIFLOW_SERVER_DATABASE_URL=url)
    assert ended.returncode == 1
    assert "does not answer" in ended.stderr
    assert "PERIFLOW_SERVER_DATABASE_URL" in ended.stderr
    assert "very-secret" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_work_is_done_by_one_server_at_a_time_and_once_an_interval(
    new_database_url: Callable[[], str],
) -> None:
    databases = [Database(new_database_url())]
    databases.append(Database(databases[0].url))
    prepare_schema(databases[0])
    with databases[0].write() as session:  # the first ones ever
        assert take_turn(session, "collection")
        assert take_turn(session, "placement")
    with databases[0].write() as session:
        assert take_turn(session, "collection", 3600)
        with databases[1].write() as other:
            assert not take_turn(other, "collection", 3600)
            assert take_turn(other, "placement")
    for database in databases:
        with database.write() as session:
            assert not take_turn(session, "collection", 3600)
            assert take_turn(session, "placement")
        database.close()


def test_transaction_that_hangs_holds_up_only_who_needs_its_row(
    pair: Any, new_database_url: Callable[[], str]
) -> None:
    one, two = pair.clients
    with psycopg.connect(pair.servers[0].database_url) as hanging:
        hanging.execute("SELECT 1 FROM projects WHERE id = %s FOR NO KEY UPDATE", [one.project])
        for name, client in (("beside-one", one), ("beside-two", two)):
            assert client.me()
            assert client.jobs(client.project) == []
            assert client.commit_snapshot(client.project, EMPTY_MANIFEST)
            assert client.create_project(client.organization, name)
