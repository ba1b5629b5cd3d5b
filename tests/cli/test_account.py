"""Accounts, organizations and projects through `pf`."""

from __future__ import annotations

import json
import re
import socketserver
import stat
import threading
from http.server import SimpleHTTPRequestHandler

import pytest

PASSWORD = "correct horse battery"
SIGNUP = ("signup", "--username", "ada", "--name", "Ada", "--email", "ada@example.com")


def test_signup_reads_the_code_from_the_outbox_and_logs_in(shell) -> None:
    done = shell.run(*SIGNUP, "--password-stdin", stdin=PASSWORD)
    assert done.returncode == 0
    assert re.search(r"^Your sign-up code is \d{6} \(local mail: \S*outbox\)\.$", done.stderr, re.M)
    assert shell.json("whoami")["email"] == "ada@example.com"
    assert "Hint: pf org create" in done.stderr


def test_tokens_are_for_their_owner_only_and_never_printed(shell) -> None:
    done = shell.run(*SIGNUP, "--password-stdin", stdin=PASSWORD)
    session = shell.home / "session.json"
    assert stat.S_IMODE(session.stat().st_mode) == 0o600
    login = json.loads(session.read_text())["local"]
    assert login["username"] == "ada"
    for secret in (login["access_token"], login["refresh_token"], PASSWORD):
        assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("missing", "option"),
    [
        (("--username", "ada"), "--username"),
        (("--name", "Ada"), "--name"),
        (("--email", "ada@example.com"), "--email"),
        (("--password-stdin",), "--password-stdin"),
    ],
)
def test_signup_without_a_terminal_names_the_option_that_is_missing(shell, missing, option) -> None:
    words = [word for word in (*SIGNUP, "--password-stdin") if word not in missing]
    done = shell.run(*words, stdin=PASSWORD)
    assert done.returncode == 2
    assert option in done.stderr
    assert not (shell.home / "session.json").exists()


def test_all_wrong_fields_are_named_at_once_in_plain_words(shell) -> None:
    words = ("signup", "--username", "a b", "--email", "zoe@@bad", "--password-stdin")
    done = shell.run(*words, stdin="sesame")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        "Error: 'a b' is not a username: use letters, digits, '.', '_' and '-', starting with a "
        "letter or a digit. zoe@@bad is not an email address. A password has at least 8 "
        "characters. Name missing: give --name TEXT."
    )
    assert not shell.home.exists()


def test_wrong_name_of_an_organization_is_said_in_plain_words(shell) -> None:
    shell.sign_up()
    done = shell.run("org", "create", "a b")
    assert done.returncode == 2
    assert "Error: 'a b' is not an organization name: use letters" in done.stderr


def test_login_chooses_the_only_organization_and_project(shell) -> None:
    shell.settle()
    assert json.loads(shell.pf("logout", "--json")) == {"username": "ada"}
    words = ("login", "--username", "ada", "--password-stdin")
    done = shell.run(*words, stdin=PASSWORD)
    assert "Working in organization analytical, project engines." in done.stderr
    assert shell.pf("project", "current") == "engines\n"
    shell.pf("project", "create", "looms")
    shell.pf("logout")
    done = shell.run(*words, stdin=PASSWORD)
    assert "Working in organization analytical." in done.stderr
    assert "pf project switch" in done.stderr


def test_taken_username_is_a_conflict(shell) -> None:
    shell.sign_up("ada")
    done = shell.run(*SIGNUP, "--email", "other@example.com", "--password-stdin", stdin=PASSWORD)
    assert done.returncode == 5
    assert "ada" in done.stderr


def test_logout_ends_the_session_and_login_brings_it_back(shell) -> None:
    shell.sign_up()
    shell.pf("logout")
    done = shell.run("whoami")
    assert done.returncode == 4
    assert "pf login" in done.stderr
    wrong = shell.run("login", "--username", "ada", "--password-stdin", stdin="wrong password")
    assert wrong.returncode == 4
    shell.pf("login", "--username", "ada@example.com", "--password-stdin", stdin=PASSWORD)
    assert shell.json("whoami")["username"] == "ada"


def test_not_logged_in_is_exit_4_and_starts_no_server(shell) -> None:
    for words in (("job", "list"), ("whoami",), ("dataset", "list"), ("org", "list")):
        done = shell.run(*words)
        assert (done.returncode, done.stdout) == (4, "")
        assert "pf login" in done.stderr
    assert not (shell.home / "server").exists()


def test_expired_access_token_is_refreshed_once_for_all(shell) -> None:
    shell.sign_up()
    path = shell.home / "session.json"
    sessions = json.loads(path.read_text())
    sessions["local"]["access_token"] = "pf_at_" + "0" * 43
    path.write_text(json.dumps(sessions))
    racing = [shell.start("whoami", "--json") for _ in range(4)]
    answers = [process.communicate(timeout=200) for process in racing]
    assert [process.returncode for process in racing] == [0] * 4, answers
    assert {json.loads(out)["username"] for out, _ in answers} == {"ada"}
    fresh = json.loads(path.read_text())["local"]
    assert fresh["refresh_token"] != sessions["local"]["refresh_token"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_session_that_cannot_be_refreshed_is_a_login_error(shell) -> None:
    shell.sign_up()
    path = shell.home / "session.json"
    sessions = json.loads(path.read_text())
    sessions["local"] |= {"access_token": "pf_at_gone", "refresh_token": "pf_rt_gone"}
    path.write_text(json.dumps(sessions))
    done = shell.run("whoami")
    assert done.returncode == 4 and "pf login" in done.stderr


def test_api_key_from_the_environment_comes_before_the_session(shell) -> None:
    shell.sign_up()
    token = json.loads((shell.home / "session.json").read_text())["local"]["access_token"]
    (shell.home / "session.json").unlink()
    assert shell.json("whoami", PERIFLOW_API_KEY=token)["username"] == "ada"
    refused = shell.run("whoami", PERIFLOW_API_KEY="pf_at_wrong")
    assert refused.returncode == 4 and "PERIFLOW_API_KEY holds no key" in refused.stderr


@pytest.mark.parametrize("words", [("job", "list"), ("login", "--username", "a"), ("whoami",)])
def test_unreachable_server_is_exit_6_with_its_address(shell, words) -> None:
    url = "http://127.0.0.1:9"
    done = shell.run(
        *words, *(["--password-stdin"] if "login" in words else []), stdin="x", PERIFLOW_URL=url
    )
    assert done.returncode == 6
    assert url in done.stderr
    assert not (shell.home / "server").exists()


@pytest.mark.parametrize("url", ["not a url", "ftp://host", "127.0.0.1:8000"])
def test_url_that_is_none_is_a_usage_error(shell, url: str) -> None:
    done = shell.run("whoami", PERIFLOW_URL=url)
    assert done.returncode == 2
    assert url in done.stderr and "http://HOST:PORT" in done.stderr


def test_server_of_something_else_is_exit_6(shell, tmp_path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        done = shell.run("whoami", PERIFLOW_URL=url)
        with_key = shell.run("whoami", PERIFLOW_URL=url, PERIFLOW_API_KEY="pf_at_x")
        other.shutdown()
    assert done.returncode == 6 and url in done.stderr
    assert with_key.returncode != 0 and "Traceback" not in with_key.stderr


def test_created_things_become_current_and_are_marked(shell) -> None:
    shell.sign_up()
    shell.pf("org", "create", "one")
    shell.pf("project", "create", "first")
    shell.pf("project", "create", "second")
    assert shell.pf("org", "current") == "one\n"
    assert shell.json("project", "current")["name"] == "second"
    rows = [line.split("\t") for line in shell.pf("project", "list").splitlines()]
    assert rows[0][:2] == ["", "Name"]
    assert {row[1]: row[0] for row in rows[1:]} == {"first": "", "second": "*"}
    shell.pf("project", "switch", "first")
    assert shell.pf("project", "current") == "first\n"


def test_switching_the_organization_clears_the_project(shell) -> None:
    shell.settle()
    shell.pf("org", "create", "other")
    done = shell.run("project", "current")
    assert done.returncode == 2
    assert "pf project switch" in done.stderr
    shell.pf("org", "switch", "analytical")
    assert shell.run("job", "list").returncode == 2
    shell.pf("project", "switch", "engines")
    shell.pf("org", "switch", "analytical")
    assert shell.pf("project", "current") == "engines\n"


def test_project_of_another_organization_is_refused_with_the_way_there(shell) -> None:
    shell.settle()
    shell.pf("org", "create", "other")
    done = shell.run("project", "switch", "engines")
    assert done.returncode == 3
    assert "belongs to organization analytical" in done.stderr
    assert "pf org switch analytical" in done.stderr


def test_names_in_the_environment_win_over_the_file(shell) -> None:
    shell.settle()
    shell.pf("project", "create", "looms")
    assert shell.json("project", "current", PERIFLOW_PROJECT="engines")["name"] == "engines"
    assert shell.json("--project", "looms", "project", "current")["name"] == "looms"
    shell.pf("org", "create", "other")
    current = shell.json(
        "project", "current", PERIFLOW_ORG="analytical", PERIFLOW_PROJECT="engines"
    )
    assert current["name"] == "engines"
    wrong = shell.run("project", "current", PERIFLOW_ORG="analytica")
    assert wrong.returncode == 3 and "Did you mean analytical?" in wrong.stderr


def test_unknown_organization_gets_the_nearest_names_and_the_list(shell) -> None:
    shell.settle()
    done = shell.run("org", "switch", "analitical")
    assert done.returncode == 3
    assert "Did you mean analytical?" in done.stderr and "pf org list" in done.stderr


def test_second_user_does_not_inherit_the_first_one_s_context(shell) -> None:
    shell.settle()
    shell.sign_up("grace")
    done = shell.run("org", "current")
    assert done.returncode == 2 and "No organization is chosen" in done.stderr
    assert shell.json("org", "list") == []


def test_signup_at_another_server_is_finished_with_the_mailed_code(shell, tmp_path) -> None:
    shell.pf("server", "start")
    elsewhere = {"PERIFLOW_URL": shell.json("server", "status")["url"]}
    elsewhere["PERIFLOW_HOME"] = str(tmp_path / "laptop")
    first = shell.run(*SIGNUP, "--password-stdin", stdin=PASSWORD, **elsewhere)
    assert first.returncode == 2
    assert "pf signup --username ada --code CODE" in first.stderr
    assert "The code is in the outbox of that server" in first.stderr
    (mail,) = (shell.home / "server" / "outbox").glob("*.eml")
    found = re.search(r"X-PeriFlow-Code: (\S+)", mail.read_text())
    assert found is not None
    wrong = shell.run("signup", "--username", "ada", "--code", "000000", **elsewhere)
    assert wrong.returncode in (2, 4) and "code" in wrong.stderr
    shell.pf("signup", "--username", "ada", "--code", found[1], **elsewhere)
    assert shell.json("whoami", **elsewhere)["username"] == "ada"
    assert shell.run("whoami").returncode == 4
