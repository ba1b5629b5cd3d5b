"""`pf notify`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from receiver import Receiver, Reply


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_webhook_is_added_tested_listed_and_deleted(settled, receiver) -> None:
    done = settled.run("notify", "add", "webhook", f"{receiver.url}/hook", "--on", "failed,success")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "is told of failed, success" in first and second.startswith("Secret: whsec_")
    (rule,) = settled.json("notify", "list")
    assert f"Hint: pf notify test {rule['id']}" in done.stderr
    assert "The test arrived" in settled.pf("notify", "test", rule["id"][:8])
    assert receiver.posts[0].document["type"] == "test"
    table = settled.pf("notify", "list")
    assert "sent" in table and "/hook" not in table and "whsec_" not in table
    refused = settled.run("notify", "delete", rule["id"])
    assert refused.returncode == 2 and "--yes" in refused.stderr
    settled.pf("notify", "delete", rule["id"], "-y")
    assert settled.json("notify", "list") == []


def test_job_that_ends_is_told_of_with_its_number(settled, receiver) -> None:
    rule = settled.json("notify", "add", "webhook", receiver.url, "--on", "failed")
    assert rule["secret"].startswith("whsec_")
    number = settled.run_job("exit 3")
    settled.wait_for_job(number, "failed")
    (post,) = receiver.wait_for(1)
    assert post.document["data"]["job"]["number"] == number
    assert "exited with code 3" in post.document["data"]["message"]
    view = settled.json("notify", "view", rule["id"])
    assert [(each["job"], each["event"]) for each in view["deliveries"]] == [(number, "failed")]
    assert "secret" not in view
    settled.pf("notify", "delete", rule["id"], "-y")


def test_test_that_does_not_arrive_says_why(settled, receiver) -> None:
    receiver.usual = Reply(404)
    rule = settled.json("notify", "add", "webhook", receiver.url)
    done = settled.run("notify", "test", rule["id"])
    assert done.returncode == 1
    assert "it answered 404" in done.stderr and f"pf notify view {rule['id']}" in done.stderr
    settled.pf("notify", "delete", rule["id"], "-y")


def test_address_may_come_on_stdin_and_is_not_printed(settled, receiver) -> None:
    url = f"{receiver.url}/services/T0K3N"
    done = settled.run("notify", "add", "webhook", "--url-stdin", "--json", stdin=f"{url}\n")
    assert done.returncode == 0
    assert "T0K3N" not in done.stdout + done.stderr
    settled.pf("notify", "delete", json.loads(done.stdout)["id"], "-y")


def test_renewed_secret_is_another_one(settled, receiver) -> None:
    rule = settled.json("notify", "add", "webhook", receiver.url)
    assert settled.run("notify", "secret", rule["id"]).returncode == 2
    assert settled.pf("notify", "secret", rule["id"], "-y").strip() != rule["secret"]
    settled.pf("notify", "delete", rule["id"], "-y")


def test_email_is_written_to_the_one_who_asked(settled) -> None:
    rule = settled.json("notify", "add", "email")
    assert (rule["target"], rule["on"]) == ("ada", ["failed", "success", "preempted"])
    assert "mail queue" in settled.pf("notify", "test", rule["id"])
    outbox = settled.home / "server" / "outbox"
    mails = [path.read_text() for path in outbox.glob("*.eml")]
    assert any("ada tests this notification" in text for text in mails)
    settled.pf("notify", "delete", rule["id"], "-y")


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (("add", "webhook", "http://h/", "--on", "crashed"), 2, ("'crashed'", "failed, success")),
        (("add", "webhook", "http://h/", "--on", ","), 2, ("--on",)),
        (("add", "webhook", "ftp://h/"), 2, ("https://HOST/PATH",)),
        (("add", "webhook"), 2, ("--url-stdin",)),
        (("add", "email", "--to", "nobody"), 3, ("nobody is not in this project", "add-user")),
        (("add", "slack", "--credential", "gone", "--channel", "#c"), 3, ("pf credential list",)),
        (("add", "slack", "--channel", "#c"), 2, ("--credential",)),
        (("view", "gone"), 3, ("pf notify list",)),
        (("test", "gone"), 3, ("pf notify list",)),
        (("delete", "gone", "-y"), 3, ("pf notify list",)),
    ],
)
def test_wrong_input_is_one_line_and_the_next_step(settled, words, code, parts) -> None:
    done = settled.run("notify", *words)
    assert (done.returncode, done.stdout) == (code, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    for part in parts:
        assert part in done.stderr
