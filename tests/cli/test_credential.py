"""`pf credential`: the lines of the tutorial, safer ways for secrets, and what is shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from conftest import Shell

SECRET = "xyzzy-kept-by-the-server"
KEY_FILE = {
    "type": "service_account",
    "project_id": "project-id",
    "private_key": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n",
    "client_email": "service-account-email",
}


class _Services(BaseHTTPRequestHandler):
    """Stands for Weights & Biases and Slack: takes every key but `wrong`."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_wrong = "d3Jvbmc=" in self.headers["Authorization"] or "wrong" in str(self.headers)
        document: dict[str, Any] = {"ok": not is_wrong, "error": "invalid_auth"}
        document["data"] = {"viewer": None if is_wrong else {"id": "1"}}
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shell_class: type[Shell]) -> Iterator[Shell]:
    """A user with a project, whose server asks the stand-ins."""
    services = ThreadingHTTPServer(("127.0.0.1", 0), _Services)
    threading.Thread(target=services.serve_forever, args=(0.02,), daemon=True).start()
    shell = shell_class(tmp_path_factory.mktemp("credential"))
    address = f"http://127.0.0.1:{services.server_address[1]}"
    shell.env |= {"PERIFLOW_SERVER_WANDB_URL": address, "PERIFLOW_SERVER_SLACK_URL": address}
    shell.settle()
    (shell.folder / "key.json").write_text(json.dumps(KEY_FILE))
    yield shell
    shell.leave()
    services.shutdown()
    services.server_close()


def fields(name: str) -> dict[str, tuple[str, ...]]:
    """The lines of the tutorial, after `pf credential create`."""
    aws = ("--aws-access-key-id", "BKIYTQTRK42VYNAWYI7S", "--aws-secret-access-key", SECRET)
    azure = ("--storage-account-name", "mystorageaccount", "--storage-account-key")
    return {
        "docker": ("-n", name, "--username", "ada", "--password", SECRET),
        "s3": ("s3", "-n", name, *aws, "--aws-default-region", "ap-northeast-2", "--no-verify"),
        "azure-blob": ("azure-blob", "-n", name, *azure, "Za94cnkkRg==", "--no-verify"),
        "gcs": ("gcs", "-n", name, "--service-account-key-file", "key.json", "--no-verify"),
        "wandb": ("wandb", "-n", name, "--api-key", SECRET),
    }


@pytest.mark.parametrize("type", ["docker", "s3", "azure-blob", "gcs", "wandb"])
def test_lines_of_the_tutorial_print_the_id(home: Shell, type: str) -> None:
    done = home.run("credential", "create", *fields(f"tutorial-{type}")[type])
    assert done.returncode == 0, done.stderr
    id = done.stdout.strip()
    assert str(UUID(id)) == id
    assert SECRET not in done.stdout + done.stderr
    shown = home.json("credential", "view", id)
    assert (shown["name"], shown["type"]) == (f"tutorial-{type}", type)
    assert SECRET not in json.dumps(shown)


@pytest.mark.parametrize("flag", ["-g", "--group"])
def test_group_shares_with_the_organization(home: Shell, flag: str) -> None:
    line = ("credential", "create", "-n", f"shared{flag}", "--username", "u", "--password", SECRET)
    home.pf(*line, flag)
    listed = home.json("credential", "list", "-g")
    assert f"shared{flag}" in [each["name"] for each in listed]
    assert {each["scope"] for each in listed} == {"organization"}
    assert home.json("credential", "view", f"shared{flag}")["scope"] == "organization"


@pytest.mark.parametrize("words", [("--token", "xoxb-1"), ("--token-stdin",)])
def test_slack_takes_a_token_and_asks_slack(home: Shell, words: tuple[str, ...]) -> None:
    name = f"slack{len(words)}"
    home.pf("credential", "create", "slack", "-n", name, *words, stdin="xoxb-1\n")
    assert home.json("credential", "view", name)["verified_at"] is not None
    done = home.run("credential", "create", "slack", "-n", "wrong", "--token", "wrong")
    assert done.returncode == 1
    assert "does not take" in done.stderr
    assert "--no-verify" in done.stderr


def test_secrets_come_by_stdin_and_environment_without_a_warning(home: Shell) -> None:
    line = ("credential", "create", "docker", "-n", "piped", "--username", "u", "--password-stdin")
    done = home.run(*line, stdin=f"{SECRET}\n")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    done = home.run("credential", "create", "wandb", "-n", "env", WANDB_API_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    assert "WANDB_API_KEY" in done.stderr
    key_file = (home.folder / "key.json").read_text()
    words = ("gcs", "-n", "piped-gcs", "--service-account-key-stdin", "--no-verify")
    home.pf("credential", "create", *words, stdin=key_file)


def test_secret_in_the_command_line_is_taken_with_a_warning(home: Shell) -> None:
    done = home.run("credential", "create", *fields("argv")["docker"])
    assert "Warning: --password stood in the command line" in done.stderr
    assert "--password-stdin" in done.stderr
    shown = home.pf("credential", "create", "s3", "--help")
    assert "`ps`" in shown


def test_secrets_are_asked_for_on_a_terminal_without_an_echo(home: Shell) -> None:
    terminal = home.on_terminal("credential", "create")
    for question, answer in (
        ("Type", "docker"),
        ("Name", "asked"),
        ("Username", "ada"),
        ("Password", SECRET),
    ):
        terminal.expect(f"{question}:")
        terminal.sendline(answer)
    terminal.expect("Created the docker credential asked")
    terminal.expect("\n")
    terminal.wait()
    assert terminal.exitstatus == 0
    assert SECRET not in terminal.before
    assert home.json("credential", "view", "asked")["details"]["username"] == "ada"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "docker|s3|azure-blob|gcs|wandb|slack"),
        (("-n", "x", "s3"), 2, "pf credential create s3 -n NAME"),
        (("dokcer", "-n", "x"), 2, "pf credential create docker"),
        (("wandb", "-n", "x"), 2, "--api-key-stdin"),
        (("docker", "--username", "u", "--password", "p"), 2, "-n NAME"),
        (("slack", "-n", "x", "--token", SECRET, "--webhook-url", SECRET), 2, "either a token"),
        (("wandb", "-n", "x", "--api-key", f"{SECRET} x"), 2, "space"),
        (("gcs", "-n", "x", "--service-account-key-file", "missing.json"), 2, "missing.json"),
        (("slack", "-n", "x", "--webhook-url", f"https://a.b/{SECRET}"), 2, "hooks.slack.com"),
        (("wandb", "-n", "not a name", "--api-key", SECRET), 2, "not a name"),
    ],
)
def test_mistakes_get_one_line_and_the_way_out_and_no_secret(
    home: Shell, words: tuple[str, ...], code: int, says: str
) -> None:
    done = home.run("credential", "create", *words, "--debug")
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert done.stdout == ""


def test_name_that_is_taken_is_a_conflict(home: Shell) -> None:
    line = ("credential", "create", "-n", "twice", "--username", "u", "--password", SECRET)
    home.pf(*line)
    done = home.run(*line)
    assert done.returncode == 5
    assert "pf credential update twice" in done.stderr


def test_update_renames_and_changes_values(home: Shell) -> None:
    home.pf("credential", "create", "wandb", "-n", "changing", "--api-key", SECRET)
    id = home.json("credential", "view", "changing")["id"]
    home.pf("credential", "update", "changing", "-n", "changed", "--api-key-stdin", stdin="new")
    assert home.json("credential", "view", "changed")["id"] == id
    done = home.run("credential", "update", "changed", "--password", SECRET)
    assert done.returncode == 2
    assert "--api-key" in done.stderr
    assert home.run("credential", "update", "changed").returncode == 2


def test_delete_takes_several_and_tells_what_uses_them(home: Shell) -> None:
    for name in ("one", "two"):
        home.pf("credential", "create", "wandb", "-n", name, "--api-key", SECRET)
    extra = "plugin:\n  wandb:\n    credential: one\n"
    home.pf("job", "run", "-f", home.write_job("holding.yml", "sleep 60", extra))
    asked = home.run("credential", "delete", "one", "two")
    assert asked.returncode == 2
    assert "add --yes" in asked.stderr
    assert "one (wandb, project) is used by job" in asked.stderr
    assert "two (wandb, project) is used by nothing" in asked.stderr
    shown = home.run("credential", "delete", "one", "two", "--dry-run")
    assert "two (wandb, project) is used by nothing" in shown.stdout
    assert "pf credential delete one two" in shown.stderr
    home.pf("credential", "delete", "one", "two", "-y")
    home.pf("job", "stop", "latest", "-y")
    done = home.run("credential", "view", "one")
    assert done.returncode == 3
    assert "pf credential list" in done.stderr


def test_job_file_with_a_wrong_credential_is_refused_before_anything_is_sent(home: Shell) -> None:
    home.pf("credential", "create", "wandb", "-n", "metrics", "--api-key", SECRET)
    (home.folder / "code").mkdir()
    (home.folder / "code" / "main.py").write_text("print()")
    for section, code, says in (
        ("plugin:\n  wandb:\n    credential: metrisc\n", 3, "Did you mean metrics"),
        ("plugin:\n  slack:\n    credential: metrics\n    channel: c\n", 2, "is for wandb"),
    ):
        file = home.write_job("wrong.yml", "true", section)
        done = home.run("job", "run", "-f", file, "-d", "code")
        assert done.returncode == code, done.stderr
        assert says in done.stderr
        assert "Uploading" not in done.stderr


def test_empty_secret_is_refused_by_the_name_of_its_option(home: Shell) -> None:
    done = home.run("credential", "create", "-n", "none", "--username", "u", "--password", "")
    assert done.returncode == 2 and "--password may not be empty" in done.stderr
