"""Organizations, invitations, projects and roles through `pf`, by several people."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Shell

PASSWORD = "correct horse battery"


class Person:
    """Somebody with a home of his own, at the server of the lead's machine."""

    def __init__(self, shell: Shell, folder: Path, name: str) -> None:
        self.name = name
        self.email = f"{name}@example.com"
        self._shell = shell
        self._env = {
            "PERIFLOW_URL": shell.json("server", "status")["url"],
            "PERIFLOW_HOME": str(folder / name),
        }

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._shell.run(*words, **options, **self._env)

    def pf(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.pf(*words, "--json"))

    def sign_up(self) -> None:
        words = ("signup", "--username", self.name, "--name", self.name, "--email", self.email)
        self.run(*words, "--password-stdin", stdin=PASSWORD)
        self.pf("signup", "--username", self.name, "--code", self.code())

    def code(self, pattern: str = r"X-PeriFlow-Code: (\S+)") -> str:
        """What the newest mail to him says."""
        mails = sorted((self._shell.home / "server" / "outbox").glob("*.eml"), reverse=True)
        for text in (mail.read_text() for mail in mails):
            if f"To: {self.email}" in text and (found := re.search(pattern, text)):
                return found[1]
        raise AssertionError(f"no mail for {self.email}")


@pytest.fixture(scope="module")
def people(
    settled: Shell, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Person, Person]]:
    """Grace is in the lead's organization and project as a developer; Eve is in nothing."""
    folder = tmp_path_factory.mktemp("people")
    grace, eve = Person(settled, folder, "grace"), Person(settled, folder, "eve")
    for person in (grace, eve):
        person.sign_up()
    settled.pf("org", "invite", grace.email)
    grace.pf("org", "accept-invite", "--code", grace.code())
    settled.pf("project", "add-user", "grace", "Developer")
    grace.pf("org", "switch", "analytical")
    grace.pf("project", "switch", "engines")
    return grace, eve


def refused(done: subprocess.CompletedProcess[str], exit_code: int, *shown: str) -> None:
    """The command failed with one clear line and the next step, and printed no result."""
    assert (done.returncode, done.stdout) == (exit_code, ""), done.stderr
    assert done.stderr.count("Error: ") == 1 and "Traceback" not in done.stderr
    assert "Hint: " in done.stderr
    for text in shown:
        assert text in done.stderr


def test_lists_say_active_and_roles_as_the_tutorial_does(settled: Shell) -> None:
    header, row = (line.split("\t") for line in settled.pf("org", "list").splitlines())
    assert header == ["", "Name", "ID", "Status", "Role"]
    assert (row[0], row[1], row[3], row[4]) == ("*", "analytical", "Active", "Owner")
    assert settled.json("org", "list")[0]["status"] == "active"
    assert settled.pf("project", "list").splitlines()[1].endswith("\tAdmin")


def test_invitation_is_shown_where_no_mail_is_sent(settled: Shell) -> None:
    done = settled.run("org", "invite", "passed-on@example.com")
    assert done.returncode == 0
    assert done.stdout.startswith("Invited passed-on@example.com to analytical")
    url = settled.json("server", "status")["url"]
    link = re.search(rf"Pass on: ({re.escape(url)}/invite\?token=\S+)", done.stderr)
    assert link is not None
    assert link[1].partition("token=")[2] in done.stderr.partition("--invite ")[2]
    row = next(
        line.split("\t")
        for line in settled.pf("org", "invitations").splitlines()
        if line.startswith("passed-on@")
    )
    assert row[1:4] == ["Pending", "sent", "ada"]
    again = settled.run("org", "invite", "passed-on@example.com")
    refused(again, 5, "invited already", "pf org resend-invite passed-on@example.com")
    assert settled.json("org", "resend-invite", "passed-on@example.com")["status"] == "pending"
    assert settled.run("org", "revoke-invite", "passed-on@example.com").returncode == 2
    settled.pf("org", "revoke-invite", "passed-on@example.com", "-y")
    refused(settled.run("org", "revoke-invite", "passed-on@example.com", "-y"), 5, "taken back")
    refused(settled.run("org", "resend-invite", "nobody@example.com"), 3, "pf org invitations")


def test_wrong_address_is_said_before_anything_is_sent(settled: Shell) -> None:
    done = settled.run("org", "invite", "no address")
    assert done.returncode == 2
    assert "no address is not an email address" in done.stderr


def test_code_is_asked_for_and_wrong_ones_are_refused(
    settled: Shell, people: tuple[Person, Person]
) -> None:
    _, eve = people
    silent = eve.run("org", "accept-invite")
    assert silent.returncode == 2 and "--code CODE" in silent.stderr
    refused(eve.run("org", "accept-invite", "--code", "0000-0000-0000-0000"), 2, "newest mail")
    settled.pf("org", "invite", "somebody-else@example.com")
    mail = max((settled.home / "server" / "outbox").glob("*.eml"))
    code = re.search(r"X-PeriFlow-Code: (\S+)", mail.read_text())
    assert code is not None
    refused(eve.run("org", "accept-invite", "--code", code[1]), 4, "another address", "pf login")
    assert eve.json("org", "list") == []


def test_newcomer_signs_up_with_the_invitation(settled: Shell, tmp_path: Path) -> None:
    newcomer = Person(settled, tmp_path, "newcomer")
    settled.pf("org", "invite", newcomer.email)
    words = ("signup", "--invite", newcomer.code(), "--username", "newcomer", "--name", "New")
    done = newcomer.run(*words, "--password-stdin", stdin=PASSWORD)
    assert done.returncode == 0, done.stderr
    (joined,) = newcomer.json("org", "list")
    assert (joined["name"], joined["role"]) == ("analytical", "member")
    assert newcomer.json("whoami")["email"] == newcomer.email
    newcomer.pf("org", "leave", "analytical", "-y")
    assert newcomer.json("org", "list") == []


def test_accepting_makes_the_organization_the_current_one(
    people: tuple[Person, Person],
) -> None:
    grace, _ = people
    assert grace.pf("org", "current") == "analytical\n"


def test_developer_is_refused_in_one_line_what_only_others_may(
    people: tuple[Person, Person],
) -> None:
    grace, _ = people
    for words, who in (
        (("org", "invite", "x@example.com"), "an owner"),
        (("org", "delete", "analytical", "-y"), "an owner"),
        (("project", "create", "mine"), "an owner"),
        (("project", "add-user", "ada", "guest"), "an admin"),
        (("set-role", "grace", "admin"), "an admin"),
        (("project", "delete", "engines", "-y"), "an owner"),
    ):
        done = grace.run(*words)
        assert done.returncode == 4, (words, done.stderr)
        assert f"Hint: Ask {who}" in done.stderr, (words, done.stderr)
        assert "does not allow you to" in done.stderr


def test_outsider_is_told_nothing_of_a_project(
    settled: Shell, people: tuple[Person, Person]
) -> None:
    _, eve = people
    organization = settled.json("org", "current")["id"]
    project = settled.json("project", "current")["id"]
    place = {"organization": organization, "project": project}
    config = {noun: {"id": name, "name": "guessed"} for noun, name in place.items()}
    home = Path(eve._env["PERIFLOW_HOME"])
    (home / "config.json").write_text(json.dumps({"server": eve._env["PERIFLOW_URL"], **config}))
    try:
        refused(eve.run("job", "list"), 3, "no such project")
        refused(eve.run("project", "members"), 3, "no such project")
        refused(eve.run("org", "members"), 3, "no such organization")
        refused(eve.run("project", "delete", "engines", "-y"), 3, "no such organization")
    finally:
        (home / "config.json").unlink()


def test_people_outside_the_organization_are_refused_with_pf_org_invite(
    settled: Shell, people: tuple[Person, Person]
) -> None:
    for name in ("eve", "nobody"):
        done = settled.run("project", "add-user", name, "developer")
        refused(done, 3, f"{name} is not in organization analytical", "pf org invite EMAIL")


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (("set-role", "grace", "king"), 2, "admin, maintainer, developer and guest"),
        (("project", "set-role", "nobody", "guest"), 3, "pf project add-user nobody ROLE"),
        (("project", "add-user", "grace", "admin"), 5, "pf project set-role grace admin"),
        (("set-role", "ada", "guest"), 5, "pf org set-role ada member"),
        (("org", "set-role", "grace", "admin"), 2, "owner and member"),
        (("org", "leave", "-y"), 5, "last owner"),
        (("org", "delete", "analitical", "-y"), 3, "Did you mean analytical?"),
        (("project", "delete", "engine", "-y"), 3, "Did you mean engines?"),
        (("org", "usage", "--month", "May"), 2, "2024-05"),
        (("org", "invite", "grace@example.com"), 5, "pf org members"),
        (("org", "create", "analytical"), 5, "another name"),
    ],
)
def test_bad_input_is_answered_with_the_next_step(
    settled: Shell,
    people: tuple[Person, Person],
    words: tuple[str, ...],
    code: int,
    shown: str,
) -> None:
    refused(settled.run(*words), code, shown)


def test_what_is_no_username_is_a_usage_error(settled: Shell) -> None:
    for words in (("set-role", "", "guest"), ("org", "remove-user", "a/b", "-y")):
        done = settled.run(*words)
        assert done.returncode == 2
        assert "is no username" in done.stderr


def test_roles_are_given_and_shown(settled: Shell, people: tuple[Person, Person]) -> None:
    grace, _ = people
    assert settled.pf("set-role", "grace", "MAINTAIN") == "grace is Maintainer in engines now.\n"
    assert grace.json("project", "list")[0]["role"] == "maintainer"
    assert settled.json("project", "set-role", "grace", "develop")["role"] == "developer"
    rows = [line.split("\t") for line in settled.pf("project", "members").splitlines()]
    assert rows[0] == ["Username", "Name", "Email", "Role"]
    roles = {row[0]: row[3] for row in rows[1:]}
    assert roles == {"ada": "Admin (owner)", "grace": "Developer"}
    members = {each["username"]: each["role"] for each in grace.json("org", "members")}
    assert members == {"ada": "owner", "grace": "member"}


def test_removed_from_the_project_is_removed_at_once(
    settled: Shell, people: tuple[Person, Person]
) -> None:
    grace, _ = people
    assert grace.run("job", "list").returncode == 0
    assert settled.run("project", "remove-user", "grace").returncode == 2
    assert settled.pf("project", "remove-user", "grace", "-y") == "Removed grace from engines.\n"
    refused(grace.run("job", "list"), 3, "pf project list")
    settled.pf("project", "add-user", "grace", "Developer")
    assert grace.run("job", "list").returncode == 0


def test_table_of_roles_is_shown_by_pf(settled: Shell) -> None:
    header, *rows = (line.split("\t") for line in settled.pf("project", "roles").splitlines())
    assert header == ["Who may", "Guest", "Developer", "Maintainer", "Admin", "Owner"]
    table = {row[0]: row[1:] for row in rows}
    assert table["run jobs"] == ["-", "yes", "yes", "yes", "yes"]
    assert table["add and remove people, give roles"] == ["-", "-", "-", "yes", "yes"]
    assert table["delete the project"] == ["-", "-", "-", "-", "yes"]
    header, *rows = (line.split("\t") for line in settled.pf("org", "roles").splitlines())
    assert header == ["Who may", "Member", "Owner"]
    assert ["invite people", "-", "yes"] in rows
    assert {each["scope"] for each in settled.json("project", "roles")} == {"project"}


def test_usage_is_a_table_csv_or_json(settled: Shell) -> None:
    number = settled.run_job("true")
    settled.wait_for_job(number)
    (row,) = settled.json("org", "usage")
    assert (row["project"], row["user"], row["jobs"]) == ("engines", "ada", 1)
    assert row["device_hours"] > 0
    table = list(csv.DictReader(io.StringIO(settled.pf("org", "usage", "--csv"))))
    assert [each["user"] for each in table] == ["ada"]
    assert list(table[0]) == ["month", "project", "user", "device_hours", "jobs"]
    assert settled.pf("org", "usage").splitlines()[0].split("\t")[3] == "Device Hours"
    assert settled.json("org", "usage", "--since", row["month"], "--until", row["month"]) == [row]
    assert settled.json("org", "usage", "--until", "2020-01") == []
    assert settled.run("org", "usage", "--csv", "--json").returncode == 2
    assert settled.run("org", "usage", "--month", "2020-01", "--since", "2020-01").returncode == 2


def test_deleted_project_and_organization_are_asked_for_and_forgotten(shell: Shell) -> None:
    shell.settle()
    done = shell.run("project", "delete", "engines")
    assert done.returncode == 2 and "--yes" in done.stderr
    assert "engines: with all its jobs" in shell.pf("project", "delete", "engines", "--dry-run")
    assert "analytical: with all" in shell.pf("org", "delete", "analytical", "--dry-run")
    assert shell.pf("project", "delete", "engines", "-y") == "Deleted project engines.\n"
    refused(shell.run("project", "current"), 2, "pf project switch")
    assert shell.json("project", "list") == []
    shell.pf("project", "create", "engines")
    shell.pf("org", "create", "second")
    terminal = shell.on_terminal("org", "delete", "analytical", "second")
    terminal.expect("Delete analytical, second?")
    terminal.sendline("n")
    terminal.expect("Nothing was changed")
    assert len(shell.json("org", "list")) == 2
    shell.pf("org", "delete", "analytical", "second", "-y")
    assert shell.json("org", "list") == []
    refused(shell.run("org", "current"), 2, "pf org create")


def test_project_with_a_running_job_is_not_deleted(shell: Shell) -> None:
    shell.settle()
    number = shell.run_job("sleep 60")
    refused(shell.run("project", "delete", "engines", "-y"), 5, f"pf job stop {number}")
    refused(shell.run("org", "delete", "analytical", "-y"), 5, f"pf job stop {number}")
    shell.pf("job", "stop", number, "--now", "-y")
    shell.wait_for_job(number)
    shell.pf("org", "delete", "analytical", "-y")
