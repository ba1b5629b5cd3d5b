"""API keys and the context through `pf`."""

from __future__ import annotations

import json
from typing import Any

import pytest


@pytest.fixture(scope="module")
def key(settled: Any) -> str:
    """A developer's key of the settled project."""
    return str(settled.pf("key", "create", "ci").strip())


def test_key_is_printed_once_alone_on_stdout(settled: Any) -> None:
    done = settled.run("key", "create", "once", "--role", "Guest", "--expires", "never")
    assert done.returncode == 0
    assert done.stdout.startswith("pf_key_") and len(done.stdout.splitlines()) == 1
    assert "works in engines as guest, until it is deleted" in done.stderr
    listed = settled.run("key", "list")
    assert done.stdout.strip() not in listed.stdout + listed.stderr
    rows = {line.split("\t")[1]: line.split("\t") for line in listed.stdout.splitlines()}
    assert rows["once"][2:6] == ["Guest", "ada", "never", "never"]


def test_machine_with_a_key_needs_no_login_and_no_choice(
    settled: Any, key: str, tmp_path: Any
) -> None:
    machine = {
        "PERIFLOW_HOME": str(tmp_path / "machine"),
        "PERIFLOW_URL": settled.json("server", "status")["url"],
        "PERIFLOW_API_KEY": key,
    }
    assert settled.json("job", "list", **machine) == settled.json("job", "list")
    assert settled.json("project", "current", **machine)["name"] == "engines"
    assert settled.json("whoami", **machine)["username"] == "ada"
    shown = settled.json("context", "show", **machine)
    assert shown["server"] == {"value": machine["PERIFLOW_URL"], "from": "PERIFLOW_URL"}
    assert shown["project"] == {"value": "engines", "from": "PERIFLOW_API_KEY"}
    assert shown["login"]["from"] == "PERIFLOW_API_KEY"
    assert key not in json.dumps(shown)
    refused = settled.run("passwd", "--password-stdin", stdin="a\nb", **machine)
    assert refused.returncode == 4 or "at least 8" in refused.stderr
    refused = settled.run("key", "create", "more", **machine)
    assert refused.returncode == 4
    assert "cannot be done with an API key" in refused.stderr
    assert "Unset PERIFLOW_API_KEY" in refused.stderr
    assert not (tmp_path / "machine" / "session.json").exists()


def test_deleted_key_is_refused_with_the_way_to_a_new_one(settled: Any) -> None:
    gone = settled.pf("key", "create", "gone").strip()
    without_yes = settled.run("key", "delete", "gone")
    assert without_yes.returncode == 2 and "--yes" in without_yes.stderr
    settled.pf("key", "delete", "gone", "-y")
    done = settled.run("job", "list", PERIFLOW_API_KEY=gone)
    assert done.returncode == 4
    assert "pf key create" in done.stderr
    assert gone not in done.stderr
    again = settled.run("key", "delete", "gone", "-y")
    assert again.returncode == 3 and "pf key list" in again.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("key", "create", "a b"), 2, "is not a key name"),
        (("key", "create", "k", "--role", "king"), 2, "The roles are"),
        (("key", "create", "k", "--expires", "soon"), 2, "90d"),
        (("key", "create", "k", "--expires", "2001-01-01"), 2, "later time"),
        (("key", "create", "ci"), 5, "already"),
    ],
)
def test_wrong_key_is_refused_in_one_line(
    settled: Any, key: str, words: tuple[str, ...], code: int, said: str
) -> None:
    done = settled.run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stdout == ""


def test_context_says_where_each_value_came_from(settled: Any, tmp_path: Any) -> None:
    shown = settled.json("context", "show")
    config = str(settled.home / "config.json")
    assert shown["server"] == {"value": "the local server", "from": "default"}
    assert shown["login"] == {"value": "ada", "from": str(settled.home / "session.json")}
    assert shown["organization"] == {"value": "analytical", "from": config}
    assert shown["project"] == {"value": "engines", "from": config}
    (tmp_path / ".periflow.toml").write_text('organization = "acme"\nproject = "from-file"\n')
    here = json.loads(settled.run("context", "show", "--json", cwd=tmp_path).stdout)
    assert here["project"] == {"value": "from-file", "from": ".periflow.toml"}
    words = ("--project", "flag", "context", "show", "--json")
    done = settled.run(*words, cwd=tmp_path, PERIFLOW_ORG="environment", PERIFLOW_PROJECT="x")
    here = json.loads(done.stdout)
    assert here["organization"] == {"value": "environment", "from": "PERIFLOW_ORG"}
    assert here["project"] == {"value": "flag", "from": "--project"}


def test_file_of_the_folder_chooses_the_project_and_nothing_else(
    settled: Any, tmp_path: Any
) -> None:
    file = tmp_path / ".periflow.toml"
    file.write_text('organization = "analytical"\nproject = "engines"\n')
    done = settled.run("project", "current", cwd=tmp_path)
    assert done.stdout == "engines\n"
    for text in ('url = "http://evil.example"\n', "project = 7\n", "project = [\n"):
        file.write_text(text)
        done = settled.run("project", "current", cwd=tmp_path)
        assert done.returncode == 2
        assert ".periflow.toml" in done.stderr


def test_context_is_changed_across_organizations(shell: Any) -> None:
    shell.settle()
    shell.pf("org", "create", "other")
    shell.pf("project", "create", "looms")
    rows = [line.split("\t") for line in shell.pf("context", "list").splitlines()[1:]]
    assert sorted(row[:2] for row in rows) == [["", "analytical/engines"], ["*", "other/looms"]]
    shell.pf("context", "use", "engines")
    assert shell.json("context", "show")["organization"]["value"] == "analytical"
    shell.pf("project", "create", "looms")
    done = shell.run("context", "use", "looms")
    assert done.returncode == 5
    assert "analytical/looms" in done.stderr and "other/looms" in done.stderr
    done = shell.run("context", "use", "other/looms", PERIFLOW_PROJECT="engines")
    assert done.returncode == 0
    assert "PERIFLOW_PROJECT" in done.stderr
    assert shell.json("context", "show")["organization"]["value"] == "other"
    done = shell.run("context", "use", "loom")
    assert done.returncode == 3 and "pf context list" in done.stderr


def test_server_of_the_context_is_kept_until_it_is_changed_back(shell: Any) -> None:
    shell.sign_up()
    url = "http://127.0.0.1:9"
    shell.pf("context", "use", "--server", url)
    shown = shell.json("context", "show")
    assert shown["server"] == {"value": url, "from": str(shell.home / "config.json")}
    done = shell.run("job", "list")
    assert done.returncode in (4, 6) and url in done.stderr
    shell.pf("context", "use", "--server", "local")
    assert shell.json("whoami")["username"] == "ada"
    assert shell.run("context", "use", "--server", "ftp://x").returncode == 2
    assert shell.run("context", "use").returncode == 2


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t"])
def test_blank_around_a_key_does_not_matter(settled: Any, key: str, end: str) -> None:
    assert settled.json("whoami", PERIFLOW_API_KEY=f"{key}{end}")["username"] == "ada"


@pytest.mark.parametrize("middle", ["\n", "\x01", "키", " "])
def test_damaged_key_is_refused_and_never_printed(settled: Any, key: str, middle: str) -> None:
    done = settled.run("--debug", "whoami", PERIFLOW_API_KEY=f"{key[:20]}{middle}{key[20:]}")
    assert done.returncode == 4
    assert "a character that no token has" in done.stderr and "PERIFLOW_API_KEY" in done.stderr
    assert key[20:] not in done.stdout + done.stderr and key[:20] not in done.stderr


def test_key_without_its_server_starts_none(settled: Any, key: str, tmp_path: Any) -> None:
    home = tmp_path / "machine"
    done = settled.run("whoami", PERIFLOW_API_KEY=key, PERIFLOW_HOME=str(home))
    assert done.returncode == 2 and "PERIFLOW_URL" in done.stderr
    assert not (home / "server").exists()


def test_password_in_the_address_is_refused_and_never_printed(settled: Any) -> None:
    done = settled.run("whoami", PERIFLOW_URL="http://ada:s3cr3tpw@127.0.0.1:1")
    assert done.returncode == 2 and "pf login" in done.stderr
    assert "s3cr3tpw" not in done.stdout + done.stderr
