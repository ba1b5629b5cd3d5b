"""Mail: through a real mail server with STARTTLS and a login; late or never, but not lost."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mailserver import PASSWORD, MailServer
from nursery import run
from sqlalchemy import select
from waiting import wait_until

from periflow_sdk.api import models as m
from periflow_server.db.base import Database, utcnow
from periflow_server.db.mail import Mail
from periflow_server.db.schema import import_tables
from periflow_server.services import mail

if TYPE_CHECKING:
    from conftest import Client, ServerProcess

SECONDS = 90


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    found = MailServer(tmp_path_factory.mktemp("post"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def mailing(
    tmp_path_factory: pytest.TempPathFactory,
    server_class: Any,
    new_database: Callable[[], dict[str, str]],
    post: MailServer,
) -> Iterator[ServerProcess]:
    """A server as others reach it, with a mail server."""
    variables = {
        **new_database(),
        **post.variables,
        "PERIFLOW_SERVER_ORG_APPROVAL": "auto",
        "PERIFLOW_SERVER_MAIL_BACKOFF_SECONDS": "0.1",
        "PERIFLOW_SERVER_MAIL_FROM": "PeriFlow <pf@example.org>",
    }
    process = server_class(tmp_path_factory.mktemp("mailing"), variables, is_embedded=False)
    process.start()
    yield read_codes_at(post, process)
    process.close()


@pytest.fixture(autouse=True)
def usual(post: MailServer) -> None:
    post.refusal = lambda _: None


@pytest.fixture
def owner(mailing: ServerProcess, usual: None) -> Client:
    """A user with an organization, whose code came by mail."""
    return mailing.client()


def read_codes_at(post: MailServer, server: ServerProcess) -> ServerProcess:
    """Who signs up at the server finds the code at the mail server."""

    def mailed_code(email: str) -> str:
        code = re.search(r"\d{6}", post.newest(email, "is your PeriFlow code"))
        assert code is not None
        return code[0]

    server.mailed_code = mailed_code  # type: ignore[method-assign]
    return server


def mail_of(client: Client, email: str) -> m.MailState:
    """What the inviter sees of the mail to an address."""
    found = [each for each in client.invitations(client.organization) if each.email == email]
    assert found[0].mail is not None
    return found[0].mail


def settled(client: Client, email: str) -> m.MailState:
    wait_until(lambda: mail_of(client, email).status in ("sent", "failed"), SECONDS)
    return mail_of(client, email)


def rows(server: ServerProcess) -> list[Mail]:
    import_tables()
    database = Database(server.database_url)
    with database.read() as session:
        found = list(session.scalars(select(Mail)))
    database.close()
    return found


def test_code_comes_by_mail_over_tls_after_a_login(
    mailing: ServerProcess, post: MailServer, owner: Client
) -> None:
    assert owner.me().username == owner.username
    came = next(each for each in post.mails if each["To"] == owner.session.user.email)
    assert came["From"] == "PeriFlow <pf@example.org>"
    assert re.fullmatch(r"<[0-9a-f-]{36}@example\.org>", came["Message-ID"])
    assert came.get_content_type() == "text/plain"
    assert came["Date"] is not None
    # The mail server takes no password without TLS, and no mail without the password.
    assert post.login_attempts > 0
    assert PASSWORD not in mailing.log()


def test_mail_goes_to_its_address_alone(post: MailServer, owner: Client) -> None:
    before = len(post.recipients)
    owner.invite(owner.organization, "o'neill+pf@mail.example.com")
    settled(owner, "o'neill+pf@mail.example.com")
    assert post.recipients[before:] == ["o'neill+pf@mail.example.com"]


def test_text_of_a_mail_is_kept_sealed_and_only_until_it_was_sent(
    mailing: ServerProcess, post: MailServer, owner: Client
) -> None:
    post.refusal = lambda _: "451 later"
    owner.invite(owner.organization, "waiting@example.com")
    wait_until(lambda: mail_of(owner, "waiting@example.com").error, SECONDS)
    (kept,) = [each for each in rows(mailing) if each.recipient == "waiting@example.com"]
    assert kept.sealed is not None
    assert kept.sealed.startswith("v1.")
    post.refusal = lambda _: None
    settled(owner, "waiting@example.com")
    assert [each.sealed for each in rows(mailing) if each.status == "sent"]
    assert {each.sealed for each in rows(mailing) if each.status == "sent"} == {None}


def test_mail_that_is_put_off_is_sent_again(post: MailServer, owner: Client) -> None:
    answers = ["451 too busy", "421 bye", "450 mailbox in use"]
    post.refusal = lambda _: answers.pop(0) if answers else None
    before = len(post.mails)
    owner.invite(owner.organization, "late@example.com")
    state = settled(owner, "late@example.com")
    assert (state.status, state.tries, state.error) == ("sent", 4, None)
    assert [each["To"] for each in post.mails[before:]] == ["late@example.com"]


def test_mail_that_is_refused_for_good_has_failed_and_the_inviter_sees_why(
    post: MailServer, owner: Client
) -> None:
    post.refusal = lambda _: "550 no such mailbox"
    owner.invite(owner.organization, "gone@example.com")
    state = settled(owner, "gone@example.com")
    assert (state.status, state.tries) == ("failed", 1)
    assert "550 no such mailbox" in (state.error or "")
    post.refusal = lambda _: None
    owner.resend_invitation(owner.organization, "gone@example.com")
    assert settled(owner, "gone@example.com").status == "sent"


def test_mail_waits_for_a_mail_server_that_is_down(post: MailServer, owner: Client) -> None:
    post.close()
    try:
        owner.invite(owner.organization, "patient@example.com")
        wait_until(lambda: mail_of(owner, "patient@example.com").tries > 1, SECONDS)
        state = mail_of(owner, "patient@example.com")
        assert "cannot be used" in (state.error or "")
    finally:
        post.open()
    assert settled(owner, "patient@example.com").status == "sent"


@pytest.mark.sqlite
def test_mail_that_was_not_sent_when_the_server_was_killed_is_sent_later(
    mailing: ServerProcess, post: MailServer, owner: Client
) -> None:
    post.close()
    try:
        owner.invite(owner.organization, "survivor@example.com")
        mailing.kill()
    finally:
        post.open()
    mailing.start()
    again = owner.at(mailing)
    assert settled(again, "survivor@example.com").status == "sent"
    assert [each["To"] for each in post.mails].count("survivor@example.com") == 1


def test_mail_that_a_dead_server_had_taken_is_sent_by_another_after_a_while(
    mailing: ServerProcess, post: MailServer, owner: Client
) -> None:
    post.refusal = lambda _: "451 later"
    owner.invite(owner.organization, "taken@example.com")
    wait_until(lambda: mail_of(owner, "taken@example.com").error, SECONDS)
    import_tables()
    database = Database(mailing.database_url)
    with database.write() as session:
        row = session.scalars(select(Mail).where(Mail.recipient == "taken@example.com")).one()
        row.status, row.claimed_at = "sending", utcnow() - timedelta(minutes=2)
        session.flush()
        mail.tidy(session)
        assert row.status == "sending"
        row.claimed_at = utcnow() - timedelta(minutes=4)
        session.flush()
        post.refusal = lambda _: None
        mail.tidy(session)
    database.close()
    assert settled(owner, "taken@example.com").status == "sent"


@pytest.mark.postgresql
def test_two_servers_send_each_mail_once(
    start_server: Callable[..., ServerProcess], production: dict[str, str], post: MailServer
) -> None:
    variables = {**production, **post.variables}
    servers = [start_server(name, is_embedded=False, **variables) for name in ("one", "two")]
    owner = read_codes_at(post, servers[0]).client()
    clients = [owner.at(server) for server in servers]
    addresses = [f"twin{number}@example.com" for number in range(12)]
    for number, address in enumerate(addresses):
        clients[number % 2].invite(owner.organization, address)
    for address in addresses:
        settled(owner, address)
    assert sorted(each for each in post.recipients if each in addresses) == sorted(addresses)


@pytest.mark.sqlite
def test_no_password_and_no_mail_goes_to_a_server_whose_certificate_nobody_trusts(
    start_server: Callable[..., ServerProcess], post: MailServer, tmp_path: Path
) -> None:
    stranger = MailServer(tmp_path)
    variables = {**stranger.variables, "SSL_CERT_FILE": post.variables["SSL_CERT_FILE"]}
    server = start_server(is_embedded=False, **variables)
    ask_for_code(server)
    wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in server.log(), SECONDS, server.log)
    assert (stranger.login_attempts, stranger.offered) == (0, 0)
    stranger.close()


@pytest.mark.sqlite
def test_no_password_goes_to_another_machine_in_the_clear(
    start_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    open_post = MailServer(tmp_path, offers_tls=False)
    url = open_post.variables["PERIFLOW_SERVER_SMTP_URL"].replace("127.0.0.1", "127.1")
    server = start_server(is_embedded=False, PERIFLOW_SERVER_SMTP_URL=url)
    ask_for_code(server)
    wait_until(lambda: "offers no STARTTLS" in server.log(), SECONDS, server.log)
    assert (open_post.login_attempts, open_post.offered) == (0, 0)
    server.variables["PERIFLOW_SERVER_SMTP_URL"] = f"{url}?tls=none"
    server.restart()
    open_post.newest("clear@example.com", "PeriFlow")
    open_post.close()


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url",
    ["mail.example.com", "http://pf:s3cret@host", "smtp://pf:s3cret@host:port", "smtp://:s3cret@"],
)
def test_wrong_smtp_url_ends_the_start_without_repeating_the_password(
    own_server: ServerProcess, url: str
) -> None:
    own_server.stop()
    variables = {**os.environ, **own_server.variables, "PERIFLOW_SERVER_SMTP_URL": url}
    ended = run("periflow_server", own_server.command()[3:], variables)
    assert ended.returncode == 2
    assert "PERIFLOW_SERVER_SMTP_URL" in ended.stderr
    assert "s3cret" not in ended.stderr


@pytest.mark.sqlite
def test_without_a_mail_server_the_mail_is_in_the_outbox_when_the_answer_comes(
    server: ServerProcess,
) -> None:
    outbox = server.data_dir / "outbox"
    for number in range(5):
        address = f"prompt{number}@example.com"
        ask_for_code(server, f"prompt{number}", address)
        assert any(address in path.read_text() for path in outbox.glob("*.eml"))


@pytest.mark.sqlite
def test_outbox_that_cannot_be_written_loses_no_mail(
    start_server: Callable[..., ServerProcess],
) -> None:
    server = start_server(PERIFLOW_SERVER_MAIL_BACKOFF_SECONDS="0.1")
    outbox = server.data_dir / "outbox"
    outbox.write_text("in the way")
    ask_for_code(server, "clear", "clear@example.com")
    outbox.unlink()
    assert server.mailed_code("clear@example.com")


def ask_for_code(
    server: ServerProcess, name: str = "clear", email: str = "clear@example.com"
) -> None:
    body = m.SignupRequest(username=name, name="Test", email=email, password=server.password)
    with server.anonymous() as anonymous:
        anonymous.sign_up(body)
