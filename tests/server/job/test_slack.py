"""Slack channels and members are told, each with what they need and nothing of it shown."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from receiver import Receiver, Reply

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.credential import CredentialPlace
from periflow_sdk.errors import InvalidRequestError, NotFoundError

TOKEN = "xoxb-7777-a-token-of-a-team"
FINE = Reply(body=b'{"ok": true}')


@pytest.fixture(scope="module")
def slack() -> Iterator[Receiver]:
    """What speaks Slack's API here."""
    receiver = Receiver(FINE)
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def manual_server(
    tmp_path_factory: pytest.TempPathFactory,
    server_type: Any,
    new_database: Callable[[], Any],
    slack: Receiver,
) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("manual") / "home"
    variables = {
        "PERIFLOW_SERVER_EXECUTOR": "none",
        "PERIFLOW_SERVER_NOTIFY_BACKOFF_SECONDS": "0.1",
        "PERIFLOW_SERVER_SLACK_URL": f"{slack.url}/api",
        "PERIFLOW_SERVER_SLACK_HOOKS_URL": slack.url,
    }
    process = server_type(home, {**new_database(), **variables})
    process.start()
    yield process
    process.close()


@pytest.fixture(autouse=True)
def _fresh(slack: Receiver) -> None:
    slack.posts.clear()
    slack.replies.clear()


@pytest.fixture
def credential(desk: Any) -> m.Credential:
    body = m.SlackCredentialCreate(name="team", token=TOKEN)
    place = CredentialPlace.of_project(desk.project)
    created: m.Credential = desk.api.create_credential(place, body, verify=False)
    return created


def add_slack(desk: Any, channel: str = "#train", *on: Any) -> m.Notification:
    body = m.SlackNotificationCreate(credential="team", channel=channel, on=list(on) or ["failed"])
    rule: m.Notification = desk.api.create_notification(desk.project, body)
    return rule


def settled(desk: Any, rule: m.Notification) -> list[m.Delivery]:
    """The messages of a rule as soon as none is under way."""

    def look() -> list[m.Delivery] | None:
        found: list[m.Delivery] = desk.api.deliveries(desk.project, rule.id)
        under_way = any(each.status in ("waiting", "sending") for each in found)
        return None if under_way or not found else found

    found: list[m.Delivery] = desk.wait_for(look)
    return found


def plugin(credential: m.Credential, channel: str = "#train") -> dict[str, Any]:
    return {"slack": {"credential_id": credential.name, "channel": channel}}


def test_job_that_names_a_channel_tells_it_of_its_end(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    job, agent = desk.running(name="a<b&c", plugin=plugin(credential))
    agent.finish()
    (post,) = slack.wait_for(1)
    assert post.path == "/api/chat.postMessage"
    assert post.headers["authorization"] == f"Bearer {TOKEN}"
    assert post.document["channel"] == "#train"
    text = post.document["text"]
    assert text.startswith(f"Job {job.number} (a&lt;b&amp;c) of {desk.api.username}-org/project")
    assert "has succeeded" in text


def test_channel_that_a_job_and_a_rule_name_is_told_once(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    rule = add_slack(desk, "Train", "failed", "success")
    _, agent = desk.running(plugin=plugin(credential))
    agent.finish(exit_code=1)
    (message,) = settled(desk, rule)
    assert (message.event, message.status, len(slack.posts)) == ("failed", "sent", 1)


def test_slack_that_has_no_time_is_asked_again(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    slack.replies = [
        Reply(429, b'{"ok": false, "error": "ratelimited"}', {"Retry-After": "0"}),
        Reply(body=b'{"ok": false, "error": "internal_error"}'),
    ]
    rule = add_slack(desk)
    desk.api.test_notification(desk.project, rule.id)
    (message,) = settled(desk, rule)
    assert (message.status, message.tries, len(slack.posts)) == ("sent", 3, 3)


def test_slack_that_may_have_posted_is_not_asked_again(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    slack.replies = [Reply(body=b'{"ok": false, "error": "fatal_error"}')]
    rule = add_slack(desk)
    desk.api.test_notification(desk.project, rule.id)
    (message,) = settled(desk, rule)
    assert (message.status, len(slack.posts)) == ("unknown", 1)


def test_channel_that_does_not_exist_is_said_in_the_job_s_history(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    slack.replies = [Reply(body=b'{"ok": false, "error": "channel_not_found"}')]
    job, agent = desk.running(plugin=plugin(credential, "#nowhere"))
    agent.finish()

    def warned() -> str | None:
        found = [each.message for each in desk.job(job.number).events if each.kind == "warning"]
        return found[0] if found else None

    assert "#nowhere was not told of success: Slack answered channel_not_found" in desk.wait_for(
        warned
    )


def test_slack_webhook_of_a_credential_is_posted_to(desk: Any, slack: Receiver) -> None:
    body = m.SlackCredentialCreate(name="team", webhook_url=f"{slack.url}/services/T/B/X")
    place = CredentialPlace.of_project(desk.project)
    desk.api.create_credential(place, body, verify=False)
    rule = add_slack(desk)
    desk.api.test_notification(desk.project, rule.id)
    (post,) = slack.wait_for(1)
    assert post.path == "/services/T/B/X" and "authorization" not in post.headers
    assert [each.status for each in settled(desk, rule)] == ["sent"]


def test_rule_whose_credential_is_gone_fails_and_says_so(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    rule = add_slack(desk)
    place = CredentialPlace.of_project(desk.project)
    desk.api.delete_credential(place, credential.id, force=True)
    desk.api.test_notification(desk.project, rule.id)
    (message,) = settled(desk, rule)
    assert (message.status, slack.posts) == ("failed", [])
    assert "was deleted" in (message.error or "")


def test_credential_for_something_else_is_refused(desk: Any) -> None:
    place = CredentialPlace.of_project(desk.project)
    body = m.WandbCredentialCreate(name="team", api_key="0" * 40)
    desk.api.create_credential(place, body, verify=False)
    with pytest.raises(InvalidRequestError) as caught:
        add_slack(desk)
    assert caught.value.code == "credential_type"


def test_token_is_in_no_log_and_no_history(
    desk: Any, slack: Receiver, credential: m.Credential
) -> None:
    job, agent = desk.running(plugin=plugin(credential))
    agent.finish(exit_code=1)
    slack.wait_for(1)
    assert TOKEN not in desk.server.log()
    assert TOKEN not in json.dumps(desk.job(job.number).model_dump(mode="json"))


def test_email_goes_to_members_of_the_project_only(desk: Any) -> None:
    outsider = desk.server.client()
    for username in (outsider.username, f"{outsider.username}@example.com", "nobody"):
        with pytest.raises(NotFoundError) as caught:
            body = m.EmailNotificationCreate(username=username)
            desk.api.create_notification(desk.project, body)
        assert caught.value.code == "user_not_found"
    rule = desk.api.create_notification(desk.project, m.EmailNotificationCreate(on=["failed"]))
    _, agent = desk.running()
    agent.finish(exit_code=1)
    assert [each.status for each in settled(desk, rule)] == ["sent"]

    def mailed() -> list[str]:
        outbox = desk.server.data_dir / "outbox"
        with contextlib.suppress(FileNotFoundError):
            texts = [path.read_text() for path in outbox.glob("*.eml")]
            return [text for text in texts if "has failed" in text]
        return []

    (text,) = desk.wait_for(mailed)
    assert f"To: {desk.api.username}@example.com" in text
