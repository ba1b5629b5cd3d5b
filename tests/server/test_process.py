"""The embedded server as a process: one a home, found again, hard to kill, quick to stop."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from periflow_sdk.errors import UsageError
from periflow_server.embedded import refuse_network_file_system

if TYPE_CHECKING:
    from conftest import ServerProcess

pytestmark = pytest.mark.sqlite


def test_second_server_on_a_home_says_so_and_leaves_the_first_alone(
    own_server: ServerProcess,
) -> None:
    second = subprocess.run(own_server.command(), capture_output=True, text=True, timeout=200)
    assert second.returncode == 3
    assert "running already" in second.stderr
    assert "pf server status" in second.stderr
    assert "Traceback" not in second.stderr
    assert own_server.signed_up().me()


@pytest.mark.usefixtures("by_command")
def test_killed_server_comes_back_on_its_port_with_everything_it_answered_for(
    own_server: ServerProcess,
) -> None:
    client = own_server.client()
    url = own_server.url
    own_server.restart()
    assert own_server.url == url
    assert client.me().username == client.username
    assert [project.id for project in client.projects(client.organization)] == [client.project]


@pytest.mark.usefixtures("by_command")
def test_stopped_server_takes_its_note_away_and_exits_with_0(own_server: ServerProcess) -> None:
    note = own_server.data_dir / "server.json"
    document = json.loads(note.read_text())
    assert document["pid"] == own_server.pid
    assert document["data_dir"] == str(own_server.data_dir)
    assert set(document) == {"url", "pid", "version", "data_dir", "started_at"}
    assert own_server.stop() == 0
    assert not note.exists()


def test_stop_does_not_wait_for_a_client_that_says_nothing(own_server: ServerProcess) -> None:
    host, port = own_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as idle:
        idle.sendall(b"POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert own_server.stop() == 0


def test_port_taken_by_a_stranger_is_replaced_and_the_new_one_kept(
    own_server: ServerProcess,
) -> None:
    old = int((own_server.data_dir / "port").read_text())
    own_server.stop()
    with socket.create_server(("127.0.0.1", old)):
        own_server.start()
    new = int((own_server.data_dir / "port").read_text())
    assert new != old
    assert own_server.url.endswith(f":{new}")
    own_server.restart()
    assert own_server.url.endswith(f":{new}")


def test_server_proves_that_it_holds_the_key_of_its_folder(server: ServerProcess) -> None:
    key = bytes.fromhex((server.data_dir / "key").read_text())
    port = server.url.rsplit(":", 1)[1]
    for nonce in ("one", "two"):
        with server.anonymous() as client:
            info = client.server_info(nonce)
        message = f"periflow-server:{nonce}:{port}".encode()
        assert info.proof == hmac.new(key, message, hashlib.sha256).hexdigest()
        assert (info.embedded, info.pid) == (True, server.pid)
        assert info.data_dir == str(server.data_dir)


def test_nothing_of_the_folder_is_open_to_others(server: ServerProcess) -> None:
    server.client()
    found = [server.data_dir, *server.data_dir.rglob("*")]
    assert {"key", "periflow.db", "server.json"} <= {path.name for path in found}
    assert [path for path in found if path.lstat().st_mode & 0o077] == []


def test_embedded_server_refuses_to_listen_beyond_this_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "periflow_server", "serve", "--embedded", "--host", "0.0.0.0"]
    ended = subprocess.run(
        [*command, "--home", str(tmp_path)], capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 2
    assert "loopback" in ended.stderr
    assert not (tmp_path / "server").exists()


@pytest.mark.usefixtures("by_command")
def test_server_for_others_tells_no_paths_and_proves_nothing(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(is_embedded=False)
    with server.anonymous() as client:
        info = client.server_info("nonce")
    assert (info.embedded, info.data_dir, info.proof) == (False, None, None)
    assert httpx.get(f"{server.url}/api/v1/health").json() == {"status": "ok"}


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_home_on_a_network_file_system_is_refused_with_the_way_out(
    tmp_path: Path, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        f"40 22 0:50 / {tmp_path} rw shared:2 - {kind} far:/away rw\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(UsageError, match=kind) as caught:
        refuse_network_file_system(home, mounts)
    assert "PERIFLOW_HOME" in (caught.value.hint or "")


def test_home_beside_a_network_file_system_is_fine(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:50 / {tmp_path}/ho rw - nfs4 far:/away rw\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    refuse_network_file_system(home, mounts)


def test_damaged_key_is_named_and_nothing_is_signed_with_it(own_server: ServerProcess) -> None:
    own_server.stop()
    (own_server.data_dir / "key").write_text("")
    ended = subprocess.run(own_server.command(), capture_output=True, text=True, timeout=200)
    assert ended.returncode == 1
    assert str(own_server.data_dir / "key") in ended.stderr
    assert "Traceback" not in ended.stderr
    (own_server.data_dir / "key").unlink()
    own_server.start()
    assert own_server.client().me()


def test_wrong_setting_is_named_without_its_value(tmp_path: Path) -> None:
    variables = {**os.environ, "PERIFLOW_SERVER_SECRET_KEY": "too-short-secret"}
    ended = subprocess.run(
        [sys.executable, "-m", "periflow_server", "serve", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**variables, "PERIFLOW_SERVER_DATA_DIR": str(tmp_path)},
    )
    assert ended.returncode == 2
    assert "PERIFLOW_SERVER_SECRET_KEY" in ended.stderr
    assert "too-short-secret" not in ended.stderr
