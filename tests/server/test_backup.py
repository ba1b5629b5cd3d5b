"""`pf-server admin backup` and `restore`: everything comes back, or nothing is touched."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nursery import run

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import LoginRequiredError

if TYPE_CHECKING:
    from conftest import ServerProcess
    from postgresql_cluster import PostgresqlCluster

PASSWORD = "correct horse battery"

pytestmark = pytest.mark.sqlite


def admin(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("periflow_server", ["admin", *words], {**os.environ, **variables})


def login(username: str) -> m.LoginRequest:
    return m.LoginRequest(username=username, password=PASSWORD)


def back_up(server: ServerProcess, file: Path) -> None:
    done = admin("backup", file, "--home", server.home)
    assert done.returncode == 0, done.stderr
    assert str(file) in done.stdout


def test_backup_of_a_running_server_is_another_server_with_the_same_things(
    own_server: ServerProcess,
    start_server: Callable[..., ServerProcess],
    chunks: Any,
    tmp_path: Path,
) -> None:
    client = own_server.client("ada")
    snapshot = chunks.snapshot(client, b"what ada has uploaded")
    client.create_dataset(client.project, m.DatasetCreate(name="d", snapshot_id=snapshot.id))
    file = tmp_path / "periflow.tar"
    back_up(own_server, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    home = tmp_path / "elsewhere"
    done = admin("restore", file, "--home", home)
    assert done.returncode == 0, done.stderr
    own_server.stop()
    other = start_server("elsewhere")
    with ApiClient(other.url, client.session.access_token) as restored:
        assert [each.name for each in restored.datasets(client.project)] == ["d"]
        assert restored.manifest(client.project, snapshot.id)
        (source,) = restored.chunk_sources(client.project, [chunks.ref(b"what ada has uploaded")])
        assert restored.log_in(login("ada")).user.username == "ada"
    assert source
    assert (home / "server" / "key").read_text() == (own_server.data_dir / "key").read_text()


def test_backup_has_all_that_its_database_names_while_others_write(
    own_server: ServerProcess, chunks: Any, tmp_path: Path
) -> None:
    client = own_server.client()
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            chunks.snapshot(client, b"snapshot %d" % number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            file = tmp_path / f"{number}.tar"
            answer = admin("backup", file, "--home", own_server.home)
            assert (answer.returncode, "missing" in answer.stderr) == (0, False), answer.stderr
    finally:
        done.set()
        writer.join()
    assert not list((own_server.data_dir / "storage").glob(".backup-*"))


def test_restore_puts_what_was_there_aside(own_server: ServerProcess, tmp_path: Path) -> None:
    own_server.signed_up("before")
    back_up(own_server, tmp_path / "b.tar")
    own_server.signed_up("after")
    own_server.stop()
    assert admin("restore", tmp_path / "b.tar", "--home", own_server.home).returncode == 2
    done = admin("restore", tmp_path / "b.tar", "--home", own_server.home, "--yes")
    assert done.returncode == 0, done.stderr
    own_server.start()
    with own_server.anonymous() as client:
        assert client.log_in(login("before"))
        with pytest.raises(LoginRequiredError):
            client.log_in(login("after"))
    (aside,) = own_server.home.glob("server.before-*")
    assert (aside / "periflow.db").exists()


def test_restore_refuses_while_the_server_runs(own_server: ServerProcess, tmp_path: Path) -> None:
    back_up(own_server, tmp_path / "b.tar")
    done = admin("restore", tmp_path / "b.tar", "--home", own_server.home, "--yes")
    assert done.returncode != 0
    assert "is running" in done.stderr and "pf server stop" in done.stderr
    assert own_server.signed_up().me()


def test_backup_replaces_no_file(own_server: ServerProcess, tmp_path: Path) -> None:
    file = tmp_path / "b.tar"
    file.write_text("mine")
    done = admin("backup", file, "--home", own_server.home)
    assert (done.returncode, file.read_text()) == (5, "mine")
    assert [path.name for path in tmp_path.iterdir() if "b.tar" in path.name] == ["b.tar"]


def test_backup_that_was_cut_off_or_changed_is_refused_and_nothing_is_left(
    own_server: ServerProcess, tmp_path: Path
) -> None:
    own_server.signed_up()
    whole = tmp_path / "whole.tar"
    back_up(own_server, whole)
    data = whole.read_bytes()
    with tarfile.open(whole) as archive:
        last = archive.getmembers()[-1]
    for name, content in (
        ("half", data[: len(data) // 2]),
        ("without-its-last-file", data[: last.offset]),
        ("text", b"no tar at all"),
        ("empty", b""),
    ):
        broken = tmp_path / name
        broken.write_bytes(content)
        done = admin("restore", broken, "--home", tmp_path / "target")
        assert (done.returncode, "no whole backup" in done.stderr) == (2, True), (name, done.stderr)
        assert list((tmp_path / "target").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "storage/../../evil", "session.json"])
def test_backup_with_files_that_lead_elsewhere_is_refused(
    own_server: ServerProcess, tmp_path: Path, name: str
) -> None:
    back_up(own_server, tmp_path / "b.tar")
    evil = tmp_path / "evil.tar"
    with tarfile.open(tmp_path / "b.tar") as source, tarfile.open(evil, "w") as target:
        for member in source.getmembers()[:-1]:
            target.addfile(member, source.extractfile(member))
        target.addfile(tarfile.TarInfo(name))
    done = admin("restore", evil, "--home", tmp_path / "target")
    assert done.returncode == 2
    assert "does not belong" in done.stderr
    assert not list(tmp_path.rglob("evil"))


def test_server_for_others_on_sqlite_is_backed_up_too(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = start_server(is_embedded=False, PERIFLOW_SERVER_ORG_APPROVAL="auto")
    server.signed_up("grace")
    where = {"PERIFLOW_SERVER_DATA_DIR": str(server.data_dir)}
    done = admin("backup", tmp_path / "b.tar", **where)
    assert done.returncode == 0, done.stderr
    running = admin("restore", tmp_path / "b.tar", "--yes", **where)
    assert running.returncode != 0 and "running already" in running.stderr
    server.stop()
    assert admin("restore", tmp_path / "b.tar", "--yes", **where).returncode == 0
    server.start()
    with server.anonymous() as client:
        assert client.log_in(login("grace"))


def test_data_in_postgresql_is_left_to_its_own_tools(
    start_server: Callable[..., ServerProcess], postgresql: PostgresqlCluster, tmp_path: Path
) -> None:
    url = postgresql.create()
    server = start_server(is_embedded=False, PERIFLOW_SERVER_DATABASE_URL=url)
    done = admin(
        "backup",
        tmp_path / "b.tar",
        PERIFLOW_SERVER_DATABASE_URL=url,
        PERIFLOW_SERVER_DATA_DIR=str(server.data_dir),
    )
    assert (done.returncode, "pg_dump" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "b.tar").exists()
