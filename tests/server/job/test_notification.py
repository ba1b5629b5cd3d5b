"""People are told of what happens to jobs: once, and until it has arrived."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterator
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


def test_webhook_messages_carry_a_signature_over_id_time_and_body(
    desk: Any, receiver: Receiver
) -> None:
    rule = add_webhook(desk, receiver, "failed")
    secret = desk.api.renew_notification_secret(desk.project, rule.id).secret
    _, agent = desk.running()
    agent.finish(exit_code=3)
    (post,) = receiver.wait_for(1)
    name, moment = post.headers["webhook-id"], post.headers["webhook-timestamp"]
    assert abs(time.time() - int(moment)) < 60
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{name}.{moment}.".encode() + post.body
    digest = hmac.new(key, signed, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
