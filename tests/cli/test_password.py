"""Passwords, sessions and signing up from an invitation through `pf`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

PASSWORD = "correct horse battery"
NEW = "staple of another kind"
LOGIN = ("login", "--username", "ada", "--password-stdin")


def test_password_is_changed_in_a_pipe_and_other_machines_are_logged_out(
    shell: Any, tmp_path: Any
) -> None:
    shell.sign_up()
    laptop = {
        "PERIFLOW_HOME": str(tmp_path / "laptop"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    shell.pf(*LOGIN, stdin=PASSWORD, **laptop)
    sessions = shell.json("session", "list")
    assert [each["is_current"] for each in sessions] == [False, True]
    done = shell.run("passwd", "--password-stdin", stdin=f"{PASSWORD}\n{NEW}\n")
    assert done.returncode == 0
    assert PASSWORD not in done.stdout + done.stderr
    assert NEW not in done.stdout + done.stderr
    assert shell.json("whoami")["username"] == "ada"
    ended = shell.run("whoami", **laptop)
    assert ended.returncode == 4
    assert "pf login" in ended.stderr
    assert shell.run(*LOGIN, stdin=PASSWORD).returncode == 4
    shell.pf(*LOGIN, stdin=NEW)


def test_password_is_asked_for_on_a_terminal_without_echo(shell: Any) -> None:
    shell.sign_up()
    terminal = shell.on_terminal("passwd")
    terminal.expect("Current password: ")
    terminal.sendline(PASSWORD)
    terminal.expect("New password: ")
    terminal.sendline("short")
    terminal.expect("has at least 8 characters")
    terminal.expect("New password: ")
    terminal.sendline(NEW)
    terminal.expect("Repeat it: ")
    terminal.sendline(NEW)
    terminal.expect("Your password was changed")
    terminal.expect_exact("pf session list")
    terminal.close()
    shell.pf(*LOGIN, stdin=NEW)


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (f"wrong password\n{NEW}\n", 2, "current password is wrong"),
        (f"{PASSWORD}\nshort\n", 2, "at least 8 characters"),
        (f"{PASSWORD}\npassword123\n", 2, "too easy to guess"),
        (f"{PASSWORD}\n{PASSWORD}\n", 2, "is the current one"),
        (f"{PASSWORD}\n", 2, "at least 8 characters"),
    ],
)
def test_wrong_password_is_refused_in_one_line(
    settled: Any, given: str, code: int, said: str
) -> None:
    done = settled.run("passwd", "--password-stdin", stdin=given)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr
    for secret in given.split("\n"):
        assert not secret or f"'{secret}'" not in done.stderr


def test_forgotten_password_is_reset_by_the_mail_in_the_outbox(shell: Any) -> None:
    shell.sign_up()
    shell.pf("logout")
    words = ("passwd", "--reset", "--username", "ada@example.com", "--password-stdin")
    done = shell.run(*words, stdin=NEW)
    assert done.returncode == 0, done.stderr
    assert re.search(r"Your code for a new password is \d{6} \(local mail: ", done.stderr)
    assert shell.json("whoami")["username"] == "ada"
    shell.pf("logout")
    shell.pf(*LOGIN, stdin=NEW)


def test_reset_at_another_server_goes_on_with_the_mailed_code(shell: Any, tmp_path: Any) -> None:
    shell.sign_up()
    elsewhere = {
        "PERIFLOW_HOME": str(tmp_path / "laptop"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    words = ("passwd", "--reset", "--username", "ada", "--password-stdin")
    first = shell.run(*words, stdin=NEW, **elsewhere)
    assert first.returncode == 2
    assert "pf passwd --reset --username ada --code CODE" in first.stderr
    mails = sorted((shell.home / "server" / "outbox").glob("*.eml"))
    found = re.search(r"X-PeriFlow-Code: (\d{6})", mails[-1].read_text())
    assert found is not None
    wrong = shell.run(*words, "--code", "999x99", stdin=NEW, **elsewhere)
    assert wrong.returncode == 2
    assert "wrong or no longer works" in wrong.stderr
    shell.pf(*words, "--code", found[1], stdin=NEW, **elsewhere)
    assert shell.json("whoami", **elsewhere)["username"] == "ada"


def test_reset_for_a_name_that_nobody_has_says_no_more_than_for_others(
    shell: Any, tmp_path: Any
) -> None:
    shell.sign_up()
    elsewhere = {
        "PERIFLOW_HOME": str(tmp_path / "laptop"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    said = [
        shell.run("passwd", "--reset", "--username", name, **elsewhere).stderr.replace(name, "NAME")
        for name in ("ada", "nobody")
    ]
    assert said[0] == said[1]


def test_sessions_are_listed_and_ended(shell: Any, tmp_path: Any) -> None:
    shell.sign_up()
    laptop = {
        "PERIFLOW_HOME": str(tmp_path / "laptop"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    shell.pf(*LOGIN, stdin=PASSWORD, **laptop)
    rows = [line.split("\t") for line in shell.pf("session", "list").splitlines()[1:]]
    assert [row[0] for row in rows] == ["", "*"]
    assert all(row[2].startswith("PeriFlow/") for row in rows)
    other = rows[0][1]
    asked = shell.run("session", "end", other)
    assert asked.returncode == 2 and "--yes" in asked.stderr
    shell.pf("session", "end", other, "-y")
    assert shell.run("whoami", **laptop).returncode == 4
    unknown = shell.run("session", "end", other, "-y")
    assert unknown.returncode == 3 and "pf session list" in unknown.stderr


def test_login_of_a_machine_replaces_the_one_before(shell: Any) -> None:
    shell.sign_up()
    before = json.loads((shell.home / "session.json").read_text())["local"]["access_token"]
    shell.pf(*LOGIN, stdin=PASSWORD)
    assert [each["is_current"] for each in shell.json("session", "list")] == [True]
    assert shell.run("whoami", PERIFLOW_API_KEY=before).returncode == 4


def test_logging_out_everywhere_ends_all_machines(shell: Any, tmp_path: Any) -> None:
    shell.sign_up()
    laptop = {
        "PERIFLOW_HOME": str(tmp_path / "laptop"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    shell.pf(*LOGIN, stdin=PASSWORD, **laptop)
    shell.pf("logout", "--all", **laptop)
    assert shell.run("whoami").returncode == 4
    assert shell.run("whoami", **laptop).returncode == 4


def test_too_many_guesses_are_refused_at_once_with_the_time_to_wait(shell: Any) -> None:
    shell.sign_up()
    for _ in range(10):
        assert shell.run(*LOGIN, stdin="a wrong guess").returncode == 4
    done = shell.run(*LOGIN, stdin=PASSWORD)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Too many tries to log in.")
    assert re.search(r"Hint: Try again in \d+ seconds", done.stderr)


def test_invited_person_signs_up_with_the_code_and_is_in(shell: Any, tmp_path: Any) -> None:
    shell.settle()
    shell.pf("org", "invite", "grace@example.com")
    mails = sorted((shell.home / "server" / "outbox").glob("*.eml"))
    found = re.search(r"X-PeriFlow-Code: (\S+)", mails[-1].read_text())
    assert found is not None
    student = {
        "PERIFLOW_HOME": str(tmp_path / "student"),
        "PERIFLOW_URL": shell.json("server", "status")["url"],
    }
    words = ("signup", "--username", "grace", "--name", "Grace", "--password-stdin", "--invite")
    wrong = shell.run(*words, "0000-0000-0000-0000", stdin=PASSWORD, **student)
    assert wrong.returncode == 2 and "invitation" in wrong.stderr
    both = shell.run(*words, found[1], "--email", "g@example.com", stdin=PASSWORD, **student)
    assert both.returncode == 2
    done = shell.run(*words, found[1], "--json", stdin=PASSWORD, **student)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["email"] == "grace@example.com"
    assert "Working in organization analytical" in done.stderr
    again = shell.run(*words, found[1], stdin=PASSWORD, **student)
    assert again.returncode == 5 and "used already" in again.stderr
    members = {each["username"]: each["role"] for each in shell.json("org", "members")}
    assert members == {"ada": "owner", "grace": "member"}
