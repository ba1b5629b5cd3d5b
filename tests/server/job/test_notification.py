"""People are told of what happens to jobs: once, and until it has arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver, Reply

from periflow_sdk.api import models as m
from periflow_sdk.errors import ConflictError, InvalidRequestError, NotFoundError


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


_SETTINGS = {
    "PERIFLOW_SERVER_EXECUTOR": "none",
    "PERIFLOW_SERVER_NOTIFY_BACKOFF_SECONDS": "0.1",
}


@pytest.fixture(scope="module")
def manual_server(
    tmp_path_factory: pytest.TempPathFactory, server_type: Any, new_database: Callable[[], Any]
) -> Iterator[Any]:
    """A server that starts no agents, and tries again soon."""
    home = tmp_path_factory.mktemp("manual") / "home"
    process = server_type(home, {**new_database(), **_SETTINGS})
    process.start()
    yield process
    process.close()


@pytest.fixture
def own_desk(start_server: Callable[..., Any], desk: Any) -> Any:
    """A desk on a server of its own, which the test may kill."""
    server = start_server(**_SETTINGS)
    return type(desk)(server, server.client())


@pytest.fixture(scope="module")
def strict_server(
    tmp_path_factory: pytest.TempPathFactory, server_type: Any, new_database: Callable[[], Any]
) -> Iterator[Any]:
    """A server as others reach it, which calls no private addresses."""
    variables = {**new_database(), "PERIFLOW_SERVER_ORG_APPROVAL": "auto"}
    process = server_type(tmp_path_factory.mktemp("strict"), variables, is_embedded=False)
    process.start()
    yield process
    process.close()


@pytest.fixture
def strict_desk(strict_server: Any, desk: Any) -> Any:
    return type(desk)(strict_server, strict_server.client())


def add_webhook(desk: Any, receiver: Receiver, *on: Any, path: str = "/hook") -> m.Notification:
    body = m.WebhookNotificationCreate(url=f"{receiver.url}{path}", on=list(on) or ["failed"])
    rule: m.Notification = desk.api.create_notification(desk.project, body)
    return rule


def settled(desk: Any, rule: m.Notification) -> list[m.Delivery]:
    """The messages of a rule as soon as none is under way, oldest first."""

    def look() -> list[m.Delivery] | None:
        found: list[m.Delivery] = desk.api.deliveries(desk.project, rule.id)
        under_way = [each for each in found if each.status in ("waiting", "sending")]
        return None if under_way or not found else found

    found: list[m.Delivery] = desk.wait_for(look)
    return found[::-1]


def test_webhook_is_told_once_of_each_change_it_was_added_for(
    desk: Any, receiver: Receiver
) -> None:
    rule = add_webhook(desk, receiver, "success", "preempted", "failed")
    job, agent = desk.running(restart={"backoff_seconds": 0})
    agent.finish("preempted")
    second = desk.agent(job, 2)
    second.register()
    second.beat()
    second.finish()
    posts = receiver.wait_for(2)
    assert [post.document["type"] for post in posts] == ["job.preempted", "job.success"]
    assert [each.event for each in settled(desk, rule)] == ["preempted", "success"]
    data = posts[1].document["data"]
    assert (data["job"]["number"], data["job"]["name"], data["attempt"]) == (job.number, "train", 2)
    assert data["project"]["id"] == desk.project
    assert len(receiver.posts) == 2


def documented_check() -> Callable[[str, dict[str, str], bytes], bool]:
    """`is_genuine` as docs/notifications.md has it."""
    text = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text()
    (code,) = (part for part in text.split("```") if part.startswith("python\n"))
    names: dict[str, Any] = {}
    exec(code.removeprefix("python\n"), names)
    check: Callable[[str, dict[str, str], bytes], bool] = names["is_genuine"]
    return check


def test_documented_check_tells_our_messages_from_others(desk: Any, receiver: Receiver) -> None:
    rule = add_webhook(desk, receiver, "failed")
    secret = desk.api.renew_notification_secret(desk.project, rule.id).secret
    _, agent = desk.running()
    agent.finish(exit_code=3)
    (post,) = receiver.wait_for(1)
    headers = {name.title(): value for name, value in post.headers.items()}
    is_genuine = documented_check()
    assert is_genuine(secret, headers, post.body)
    assert not is_genuine(secret, headers, post.body + b" ")
    assert not is_genuine(secret, {**headers, "Webhook-Id": "another"}, post.body)
    assert not is_genuine("whsec_" + "A" * 43 + "=", headers, post.body)
    late = str(int(headers["Webhook-Timestamp"]) - 1000)
    assert not is_genuine(secret, {**headers, "Webhook-Timestamp": late}, post.body)


def test_message_is_sent_again_until_it_is_taken(desk: Any, receiver: Receiver) -> None:
    receiver.replies = [Reply(503), Reply(500), Reply(429, headers={"Retry-After": "0"})]
    rule = add_webhook(desk, receiver)
    _, agent = desk.running()
    agent.finish(exit_code=1)
    (message,) = settled(desk, rule)
    assert (message.status, message.tries) == ("sent", 4)
    posts = receiver.posts
    assert len(posts) == 4
    assert len({post.headers["webhook-id"] for post in posts}) == 1
    assert len({post.body for post in posts}) == 1


@pytest.mark.sqlite
@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_message_that_is_refused_is_not_sent_again(
    desk: Any, receiver: Receiver, status: int
) -> None:
    trap = Receiver()
    receiver.usual = Reply(status, headers={"Location": f"{trap.url}/elsewhere"})
    rule = add_webhook(desk, receiver)
    desk.api.test_notification(desk.project, rule.id)
    (message,) = settled(desk, rule)
    assert (message.status, message.tries) == ("failed", 1)
    assert str(status) in (message.error or "")
    trap.close()
    assert trap.posts == []


def test_receiver_that_never_answers_holds_up_nobody_elses_messages(
    own_desk: Any, receiver: Receiver
) -> None:
    other = type(own_desk)(own_desk.server, own_desk.server.client())
    silent = Receiver(Reply(hangs=True))
    slow, fast = add_webhook(own_desk, silent), add_webhook(other, receiver)
    for _ in range(3):
        own_desk.api.test_notification(own_desk.project, slow.id)
    silent.wait_for(1)
    other.api.test_notification(other.project, fast.id)
    receiver.wait_for(1)
    assert len(silent.posts) == 1
    silent.close()


def test_message_of_a_killed_server_arrives_once_after_its_restart(
    start_server: Callable[..., Any], desk_at: Any, receiver: Receiver
) -> None:
    # Long enough that it is killed between two tries: in the midst of one, who knows what arrived?
    settings = {**_SETTINGS, "PERIFLOW_SERVER_NOTIFY_BACKOFF_SECONDS": "3"}
    server = start_server(**settings)
    own_desk = desk_at(server, server.client())
    rule = add_webhook(own_desk, receiver, "running", "failed", "success")
    receiver.close()
    _, agent = own_desk.running()
    agent.finish(exit_code=1)

    def failed_once() -> bool:
        found = own_desk.api.deliveries(own_desk.project, rule.id)
        return bool(found) and all(each.error and each.status == "waiting" for each in found)

    own_desk.wait_for(failed_once)
    own_desk.server.kill()
    receiver.open()
    own_desk.server.start()
    own_desk.reconnect()
    assert [each.status for each in settled(own_desk, rule)] == ["sent", "sent"]
    kinds = sorted(post.document["type"] for post in receiver.posts)
    assert kinds == ["job.failed", "job.running"]


@pytest.mark.postgresql
def test_two_servers_send_each_message_once(
    tmp_path: Path,
    server_class: Any,
    desk_at: Any,
    production: dict[str, str],
    receiver: Receiver,
) -> None:
    variables = {**production, "PERIFLOW_SERVER_PRIVATE_ADDRESSES": "true"}
    servers = [server_class(tmp_path / n, variables, is_embedded=False) for n in ("one", "two")]
    try:
        for server in servers:
            server.outboxes = [each.data_dir / "outbox" for each in servers]
            server.start()
        desks = [desk_at(server, server.client()) for server in servers for _ in range(2)]
        rules = [add_webhook(desk, receiver, path=f"/{desk.project}") for desk in desks]
        for desk, rule in zip(desks, rules, strict=True):
            for _ in range(10):
                desk.api.test_notification(desk.project, rule.id)
        for desk, rule in zip(desks, rules, strict=True):
            assert [each.status for each in settled(desk, rule)] == ["sent"] * 10
        assert len({post.headers["webhook-id"] for post in receiver.posts}) == 40
        assert len(receiver.posts) == 40
    finally:
        for server in servers:
            server.close()


@pytest.mark.sqlite
def test_message_that_may_have_arrived_when_the_server_died_is_not_sent_twice(
    own_desk: Any, receiver: Receiver
) -> None:
    receiver.replies = [Reply(hangs=True)]
    rule = add_webhook(own_desk, receiver)
    _, agent = own_desk.running()
    agent.finish(exit_code=1)
    receiver.wait_for(1)
    own_desk.server.kill()
    own_desk.server.start()
    own_desk.reconnect()
    (message,) = settled(own_desk, rule)
    assert (message.status, len(receiver.posts)) == ("unknown", 1)
    assert "server ended" in (message.error or "")


def test_receiver_has_one_rule_in_a_project(desk: Any, receiver: Receiver) -> None:
    add_webhook(desk, receiver, "failed")
    with pytest.raises(ConflictError) as caught:
        add_webhook(desk, receiver, "success", "failed")
    assert caught.value.code == "notification_exists"
    add_webhook(desk, receiver, "failed", path="/other")
    assert len(desk.api.notifications(desk.project)) == 2


def test_deleted_notification_sends_nothing_any_more(desk: Any, receiver: Receiver) -> None:
    receiver.usual = Reply(503)
    rule = add_webhook(desk, receiver)
    desk.api.test_notification(desk.project, rule.id)
    receiver.wait_for(1)
    desk.api.delete_notification(desk.project, rule.id[:12])
    assert desk.api.notifications(desk.project) == []
    with pytest.raises(NotFoundError):
        desk.api.deliveries(desk.project, rule.id)
    kept = add_webhook(desk, receiver, path="/kept")
    seen = len(receiver.posts)
    receiver.usual = Reply()
    desk.api.test_notification(desk.project, kept.id)
    settled(desk, kept)
    assert {post.path for post in receiver.posts[seen:]} <= {"/kept"}


def test_address_and_secret_of_a_webhook_are_shown_to_nobody(
    desk: Any, receiver: Receiver, database_kind: str
) -> None:
    rule = add_webhook(desk, receiver, path="/T0K3N-in-the-path?key=T0K3N")
    secret = desk.api.renew_notification_secret(desk.project, rule.id).secret
    desk.api.test_notification(desk.project, rule.id)
    settled(desk, rule)
    shown = desk.api.notification(desk.project, rule.id)
    assert shown.target == f"{receiver.url}/…"
    assert "T0K3N" not in shown.model_dump_json() + rule.model_dump_json()
    assert "T0K3N" not in desk.server.log() and secret not in desk.server.log()
    if database_kind == "sqlite":
        files = list(desk.server.data_dir.glob("periflow.db*"))
        kept = b"".join(path.read_bytes() for path in files)
        assert b"T0K3N" not in kept and secret.encode() not in kept and rule.id.encode() in kept


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/",
        "http://10.0.0.1/",
        "http://100.100.100.200/",
    ],
)
def test_server_for_others_calls_no_address_of_its_own_network(
    strict_desk: Any, receiver: Receiver, url: str
) -> None:
    body = m.WebhookNotificationCreate(url=url.format(port=receiver.port))
    with pytest.raises(InvalidRequestError) as caught:
        strict_desk.api.create_notification(strict_desk.project, body)
    assert caught.value.code == "address_refused"
    assert receiver.posts == []


def test_rule_from_before_private_addresses_were_refused_is_not_obeyed(
    own_desk: Any, receiver: Receiver
) -> None:
    rule = add_webhook(own_desk, receiver)
    own_desk.server.variables["PERIFLOW_SERVER_PRIVATE_ADDRESSES"] = "false"
    own_desk.server.restart()
    own_desk.reconnect()
    own_desk.api.test_notification(own_desk.project, rule.id)
    (message,) = settled(own_desk, rule)
    assert (message.status, receiver.posts) == ("failed", [])
    assert "private" in (message.error or "")


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "url", ["ftp://host/", "https://", "http://me:secret@host/", "http://host/#part", "host/path"]
)
def test_what_is_no_address_is_refused_without_being_repeated(desk: Any, url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        desk.api.create_notification(desk.project, m.WebhookNotificationCreate(url=url))
    assert caught.value.code == "invalid_webhook_url"
    assert "secret" not in caught.value.message
