"""A team lead and a student, from the invitation to the job; and where their secrets went."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mailserver import PASSWORD, MailServer, found
from receiver import Receiver, Reply
from team import Person

REGISTRY_PASSWORD = "the-password-of-the-lead's-registry"
SLACK_TOKEN = "xoxb-1111-the-token-of-the-team"
HOOK_PATH = "/hooks/a-path-that-is-a-secret"
KEY = "a-key-that-no-database-has-ever-seen"
pytestmark = pytest.mark.timeout(600)

PEEK = """\
env; cat "$PERIFLOW_TOKEN_FILE" > token.txt; python - <<'END'
import json, os, urllib.request
token = open(os.environ["PERIFLOW_TOKEN_FILE"]).read().strip()
request = urllib.request.Request(
    os.environ["PERIFLOW_URL"] + "/api/v1/agent/credentials",
    headers={"Authorization": "Bearer " + token},
)
try:
    print("CREDENTIALS", urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print("REFUSED", json.load(error)["code"])
END
rm token.txt
"""


@dataclass
class Story:
    """What happened; ``secrets`` are all that were used, by what they are."""

    servers: list[Any]
    mail: MailServer
    slack: Receiver
    hook: Receiver
    lead: Person
    student: Person
    secrets: dict[str, str] = field(default_factory=dict)
    job: Any = None
    log: str = ""
    lead_job: int = 0

    def administer(self, *words: str) -> None:
        """Run `pf-server admin` on the first server's machine."""
        server = self.servers[0]
        with Path(os.devnull).open("w") as nothing:
            assert server.run("admin", *words, output=nothing.fileno()).wait(100) == 0


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def story(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server_class: Any
) -> Iterator[Story]:
    """The whole run: on one server with SQLite, or on two with one PostgreSQL."""
    folder = tmp_path_factory.mktemp("team")
    names = ["one"]
    variables = {}
    if request.param == "postgresql":
        names = ["one", "two"]
        cluster = request.getfixturevalue("postgresql")
        variables = {
            "PERIFLOW_SERVER_DATABASE_URL": cluster.create(),
            "PERIFLOW_SERVER_STORAGE_URL": f"file://{folder / 'store'}",
        }
    mail, slack, hook = MailServer(folder), Receiver(Reply(body=b'{"ok": true}')), Receiver()
    variables |= {
        **mail.variables,
        "PERIFLOW_SERVER_SECRET_KEY": KEY,
        "PERIFLOW_SERVER_EXECUTOR": "local",
        "PERIFLOW_SERVER_SLACK_URL": f"{slack.url}/api",
        "PERIFLOW_SERVER_PRIVATE_ADDRESSES": "true",
    }
    servers = [server_class(folder / name, variables, is_embedded=False) for name in names]
    try:
        for server in servers:
            server.start()
        lead = Person(folder / "lead", servers[0].url, "lea")
        student = Person(folder / "student", servers[-1].url, "sam")
        story = Story(servers, mail, slack, hook, lead, student)
        tell(story)
        yield story
    finally:
        for server in servers:
            server.close()
        for receiver in (mail, slack, hook):
            receiver.close()


def tell(story: Story) -> None:
    """Run the story as its people would type it."""
    lead, student = story.lead, story.student
    set_up_team(story)
    invite_student(story)
    lead.pf("project", "add-user", "sam", "Developer")
    student.pf("project", "switch", "vision")
    story.lead_job = lead.json("job", "run", "-f", lead.write_job("sleep 600"))["number"]
    docker = "    credential_id: registry\n"
    extra = "plugin:\n  slack: {credential_id: team-slack, channel: '#train'}\n"
    file = student.write_job(PEEK, extra, docker)
    number = student.json("job", "run", "-f", file)["number"]
    story.job = student.wait_for_job(number)
    key = student.json("key", "create", "nightly", "--role", "guest")["key"]
    assert student.json("job", "list", PERIFLOW_API_KEY=key)
    story.secrets["API key of the student"] = key
    story.log = student.pf("job", "log", number, "-n", 10000)
    story.hook.wait_for(1)
    story.slack.wait_for(2)
    for person in (lead, student):
        story.secrets[f"password of {person.username}"] = person.password
        for kind, token in zip(("access", "refresh"), person.tokens(), strict=True):
            story.secrets[f"{kind} token of {person.username}"] = token


def set_up_team(story: Story) -> None:
    lead = story.lead
    lead.sign_up(story.mail)
    lead.pf("org", "create", "lab")
    early = lead.run("project", "create", "vision")
    assert early.returncode != 0 and "approve" in early.stderr, early.stderr
    story.administer("approve-org", "lab")
    lead.pf("project", "create", "vision")
    words = ("docker", "-n", "registry", "--username", "lea", "--password-stdin", "--no-verify")
    lead.pf("credential", "create", *words, stdin=REGISTRY_PASSWORD)
    lead.pf("credential", "create", "slack", "-n", "team-slack", "--token-stdin", stdin=SLACK_TOKEN)
    address = f"{story.hook.url}{HOOK_PATH}\n"
    words = ("notify", "add", "webhook", "--url-stdin", "--on", "success", "--json")
    rule = json.loads(lead.run(*words, stdin=address).stdout)
    story.secrets |= {
        "key of the server": KEY,
        "password of the registry": REGISTRY_PASSWORD,
        "token for Slack": SLACK_TOKEN,
        "address of the webhook": HOOK_PATH,
        "secret of the webhook": rule["secret"].removeprefix("whsec_"),
        "password of the mail server": PASSWORD,
    }


def invite_student(story: Story) -> None:
    lead, student = story.lead, story.student
    lead.pf("org", "invite", student.email)
    text = story.mail.newest(student.email, "invites you to lab")
    code = found(r"--code (\S+)", text)
    words = ("--username", student.username, "--name", "Sam", "--password-stdin")
    student.pf("signup", "--invite", code, *words, stdin=student.password)
    story.secrets["code of the invitation"] = code


def test_student_is_a_member_by_the_invitation_alone(story: Story) -> None:
    (organization,) = story.student.json("org", "list")
    assert (organization["name"], organization["role"]) == ("lab", "member")
    members = {each["username"]: each["role"] for each in story.lead.json("project", "members")}
    assert members["sam"] == "developer"


def test_job_that_names_the_lead_s_credentials_succeeds_and_slack_is_told(story: Story) -> None:
    assert story.job["status"] == "success", story.job
    assert story.job["created_by"] == "sam"
    messages = [event["message"] for event in story.job["events"]]
    assert any("Took the credentials registry (for docker)" in each for each in messages)
    post = story.slack.posts[-1]
    assert post.headers["authorization"] == f"Bearer {SLACK_TOKEN}"
    assert f"Job {story.job['number']}" in post.document["text"]


def test_student_sees_no_value_of_a_credential_he_uses(story: Story) -> None:
    student = story.student
    listed = student.json("credential", "list")
    assert {each["name"] for each in listed} == {"registry", "team-slack"}
    student.pf("credential", "view", "registry")
    assert "REFUSED credentials_closed" in story.log
    for secret in (REGISTRY_PASSWORD, SLACK_TOKEN):
        assert secret not in student.seen + story.log


FORBIDDEN = (
    "org invite eve@example.com",
    "org set-role sam owner",
    "org remove-user lea -y",
    "org usage",
    "org delete lab -y",
    "project create mine",
    "project add-user lea Guest",
    "project set-role sam Admin",
    "set-role sam Admin",
    "project remove-user lea -y",
    "project delete vision -y",
    "credential delete registry -y",
    "credential update registry -n mine",
    "notify add email",
    "notify delete {rule} -y",
    "key create mine --role maintainer",
    "job stop {job} -y",
)


def test_what_a_developer_may_not_do_is_refused_in_one_clear_line(story: Story) -> None:
    (rule,) = story.student.json("notify", "list")
    wrong = {}
    for command in FORBIDDEN:
        words = command.format(rule=rule["id"], job=story.lead_job).split()
        done = story.student.run(*words)
        said = [line.partition(": ")[0] for line in done.stderr.splitlines()]
        if (done.returncode, done.stdout, said[-2:]) != (4, "", ["Error", "Hint"]):
            wrong[command] = (done.returncode, done.stdout, done.stderr)
    assert wrong == {}
    assert story.lead.json("job", "view", story.lead_job)["status"] == "running"
    assert [each["id"] for each in story.lead.json("notify", "list")] == [rule["id"]]


def test_no_secret_of_the_run_is_in_the_database_the_logs_or_the_outbox(story: Story) -> None:
    job_tokens = {
        f"token of {path.parent}": path.read_text().strip()
        for server in story.servers
        for path in server.data_dir.glob("jobs/*/*/*/token")
    }
    assert job_tokens
    places = dict(kept_files(story))
    places |= {"database": rows_of(story.servers[0].database_url)}
    places["the job's log"] = story.log.encode()
    assert sum("server-output.log" in place for place in places) == len(story.servers)
    assert where({**story.secrets, **job_tokens}, places) == []


def test_pf_prints_a_secret_once_where_it_is_made_and_nowhere_else(story: Story) -> None:
    places = {each.username: each.seen.encode() for each in (story.lead, story.student)}
    assert sorted(where(story.secrets, places)) == [
        "API key of the student in sam",
        "secret of the webhook in lea",
    ]
    for secret, person in (
        ("API key of the student", story.student),
        ("secret of the webhook", story.lead),
    ):
        assert person.seen.count(story.secrets[secret]) == 1


def where(secrets: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """Which secrets are in which places."""
    return [
        f"{secret} in {place}"
        for place, text in places.items()
        for secret, value in secrets.items()
        if value.encode() in text
    ]


def kept_files(story: Story) -> Iterator[tuple[str, bytes]]:
    """Everything that the servers and the agents wrote, but the tokens that agents need."""
    for server in story.servers:
        for path in Path(server.home).rglob("*"):
            if path.is_file() and path.name not in ("token", "key"):
                yield str(path), path.read_bytes()


def rows_of(url: str) -> bytes:
    """Every value of every table."""
    from sqlalchemy import MetaData, select

    from periflow_server.db.base import Database

    database = Database(url)
    try:
        tables = MetaData()
        tables.reflect(database.engine)
        with database.read() as session:
            rows = [row for table in tables.sorted_tables for row in session.execute(select(table))]
        assert len(rows) > 50
        return repr(rows).encode()
    finally:
        database.close()
