"""The local server through `pf`: found, proven, started once, stopped."""

from __future__ import annotations

import hmac
import json
import os
import signal
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest


def test_first_need_starts_a_server_and_says_so_in_one_line(shell) -> None:
    done = shell.run("server", "start")
    assert done.returncode == 0
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("Started")]
    status = shell.json("server", "status")
    assert set(status) == {"url", "pid", "version", "data_dir"}
    assert line == (
        f"Started the local PeriFlow server at {status['url']} "
        f"(data in {status['data_dir']}; stop with pf server stop)"
    )
    assert status["url"].startswith("http://127.0.0.1:")
    assert stat.S_IMODE(shell.home.stat().st_mode) == 0o700


def test_status_starts_nothing_and_says_stopped(shell) -> None:
    done = shell.run("server", "status")
    assert done.returncode == 1
    assert "does not run" in done.stdout
    document = shell.run("server", "status", "--json")
    assert document.returncode == 1
    assert json.loads(document.stdout)["url"] is None
    assert not shell.home.exists()


def test_stop_ends_it_and_the_next_command_starts_it_at_the_same_address(shell) -> None:
    shell.pf("server", "start")
    before = shell.json("server", "status")
    assert f"pid {before['pid']}" in shell.pf("server", "stop")
    assert not psutil.pid_exists(before["pid"]) or (
        psutil.Process(before["pid"]).status() == psutil.STATUS_ZOMBIE
    )
    assert shell.json("server", "stop") == {"pid": None, "running_jobs": 0}
    shell.pf("server", "start")
    after = shell.json("server", "status")
    assert after["url"] == before["url"] and after["pid"] != before["pid"]


def test_commands_started_at_once_start_one_server(shell) -> None:
    started = [shell.start("server", "start", "--json") for _ in range(6)]
    answers = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0] * 6
    assert len({json.loads(out)["pid"] for out, _ in answers}) == 1
    assert sum("Started the local" in err for _, err in answers) == 1


def test_server_outlives_the_terminal(shell) -> None:
    terminal = shell.on_terminal("server", "start")
    terminal.expect("runs at")
    terminal.close(force=True)
    pid = shell.json("server", "status")["pid"]
    assert os.getsid(pid) == pid


def test_killed_server_is_replaced(shell) -> None:
    shell.sign_up()
    pid = shell.json("server", "status")["pid"]
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == pid], timeout=200)
    assert shell.json("whoami")["username"] == "ada"
    assert shell.json("server", "status")["pid"] != pid


def test_server_that_cannot_start_shows_the_end_of_its_log(shell) -> None:
    shell.pf("server", "start")
    shell.pf("server", "stop")
    for path in (shell.home / "server").glob("periflow.db*"):
        path.unlink()
    (shell.home / "server" / "periflow.db").write_text("this is not a database, sorry\n" * 50)
    done = shell.run("server", "start")
    assert done.returncode == 6
    assert "exit code" in done.stderr and "database" in done.stderr
    assert "Traceback" not in done.stderr
    assert "database" in "".join(shell.json("server", "logs"))


def test_stop_says_that_jobs_go_on(settled) -> None:
    number = settled.run_job("sleep 1000")
    settled.wait_for_job(number, "running")
    done = settled.run("server", "stop")
    assert "1 job goes on without it" in done.stderr
    assert settled.json("job", "view", number)["status"] == "running"
    settled.pf("job", "stop", number, "-y")


class _Listener(socketserver.ThreadingTCPServer):
    """Someone who answers on a port, and keeps what he was sent."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: dict[str, Any], key: bytes | None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answer = answer
        self.key = key
        self.heard: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Answer(BaseHTTPRequestHandler):
    server: _Listener
    close_connection = True
    protocol_version: ClassVar[str] = "HTTP/1.0"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.heard.append(f"{self.requestline}\n{self.headers}\n{body!r}")
        nonce = parse_qs(urlsplit(self.path).query).get("nonce", [""])[0]
        answer = dict(self.server.answer)
        if self.server.key is not None:
            message = f"periflow-server:{nonce}:{self.server.port}".encode()
            answer["proof"] = hmac.new(self.server.key, message, "sha256").hexdigest()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def _listener(answer: dict[str, Any], key: bytes | None = None) -> Iterator[_Listener]:
    with _Listener(answer, key) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _point_at(home: Path, port: int, pid: int = 1) -> None:
    (home / "server" / "server.json").write_text(
        json.dumps(
            {
                "url": f"http://127.0.0.1:{port}",
                "pid": pid,
                "version": "0.2.0",
                "data_dir": str(home / "server"),
                "started_at": "2026-01-01T00:00:00Z",
            }
        )
    )


def test_stranger_on_the_port_gets_no_secret(shell) -> None:
    shell.sign_up()
    shell.pf("server", "stop")
    secrets = json.loads((shell.home / "session.json").read_text())["local"]
    answer = {"version": "0.2.0", "pid": os.getpid(), "embedded": True, "proof": "0" * 64}
    with _listener(answer) as stranger:
        _point_at(shell.home, stranger.port)
        (shell.home / "server" / "port").write_text(f"{stranger.port}\n")
        assert shell.json("whoami")["username"] == "ada"
        login = shell.run("login", "--username", "ada", "--password-stdin", stdin="hunter2secret")
        assert login.returncode == 4
        heard = "\n".join(stranger.heard)
    assert "/api/v1/server?nonce=" in heard
    assert shell.json("server", "status")["url"] != f"http://127.0.0.1:{stranger.port}"
    for secret in (secrets["access_token"], secrets["refresh_token"], "hunter2secret"):
        assert secret not in heard
    assert "authorization" not in heard.lower()


def test_stranger_is_not_stopped(shell) -> None:
    shell.pf("server", "start")
    shell.pf("server", "stop")
    with _listener({"version": "0.2.0", "pid": os.getpid(), "proof": "x"}) as stranger:
        _point_at(shell.home, stranger.port, pid=os.getpid())
        assert "does not run" in shell.pf("server", "stop")


@pytest.mark.parametrize(("version", "code"), [("0.9.0", 1), ("0.1.7", 0), ("0.3.2", 0)])
def test_version_skew_is_said_and_far_skew_is_refused(shell, version: str, code: int) -> None:
    shell.pf("server", "start")
    shell.pf("server", "stop")
    key = bytes.fromhex((shell.home / "server" / "key").read_text().strip())
    with _listener({"version": version, "pid": os.getpid(), "embedded": True}, key) as old:
        _point_at(shell.home, old.port)
        done = shell.run("server", "start")
    assert done.returncode == code
    assert f"version {version}" in done.stderr and "pf server stop" in done.stderr
