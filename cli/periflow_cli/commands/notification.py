"""`pf notify add|list|view|test|secret|delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option, yes_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from periflow_cli.output import Output
    from periflow_sdk.api import models as m

_OCCASIONS = ("failed", "success", "stopped", "preempted", "node-lost", "running")
_DEFAULT = "failed,success,preempted"
_SHOWN = 20
_TEST_SECONDS = 20.0


def _occasions(ctx: click.Context, _: click.Parameter, value: str) -> list[str]:
    words = [word.strip().lower() for word in value.split(",") if word.strip()]
    for word in words:
        if word not in _OCCASIONS:
            known = ", ".join(_OCCASIONS)
            raise click.BadParameter(f"{word!r} is nothing to tell of. There is: {known}.")
    if not words:
        raise click.BadParameter("Say what to tell of.")
    return words


def _on_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--on",
        default=_DEFAULT,
        show_default=True,
        metavar="LIST",
        callback=_occasions,
        help=f"What to tell of, by commas: {', '.join(_OCCASIONS)}.",
    )(function)


@click.group("notify", cls=Group)
def group() -> None:
    """Notifications: tell Slack, a webhook or a member what happens to the project's jobs."""


@group.group("add", cls=Group)
def add() -> None:
    """Tell somebody of what happens to the jobs of the project."""


@add.command("slack")
@click.option("--credential", required=True, metavar="NAME", help="A slack credential.")
@click.option("--channel", required=True, metavar="CHANNEL", help="Channel: '#train' or its id.")
@_on_option
@json_option
@click.pass_obj
def add_slack(
    invocation: Invocation, /, credential: str, channel: str, on: list[str], as_json: bool
) -> None:
    """Tell a Slack channel."""
    from periflow_sdk.api.models import SlackNotificationCreate

    body = SlackNotificationCreate.model_validate(
        {"credential": credential, "channel": channel, "on": on}
    )
    _add(invocation, body, as_json)


@add.command("webhook")
@click.argument("url", required=False)
@click.option("--url-stdin", is_flag=True, help="Read the address from stdin: `ps` shows others.")
@_on_option
@json_option
@click.pass_obj
def add_webhook(
    invocation: Invocation, /, url: str | None, url_stdin: bool, on: list[str], as_json: bool
) -> None:
    """Post to an address of yours; messages are signed, and the secret is shown this once."""
    import sys

    from periflow_sdk.api.models import WebhookNotificationCreate

    if url_stdin:
        url = sys.stdin.readline().strip()
    url = url or invocation.output.ask("Address", "URL or --url-stdin")
    _add(invocation, WebhookNotificationCreate.model_validate({"url": url, "on": on}), as_json)


@add.command("email")
@click.option("--to", metavar="USERNAME", help="A member of the project, instead of you.")
@_on_option
@json_option
@click.pass_obj
def add_email(invocation: Invocation, /, to: str | None, on: list[str], as_json: bool) -> None:
    """Write to a member of the project."""
    from periflow_sdk.api.models import EmailNotificationCreate

    _add(invocation, EmailNotificationCreate.model_validate({"username": to, "on": on}), as_json)


def _add(
    invocation: Invocation,
    body: m.SlackNotificationCreate | m.WebhookNotificationCreate | m.EmailNotificationCreate,
    as_json: bool,
) -> None:
    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    rule = client.create_notification(project, body)
    secret = None
    if rule.kind == "webhook":
        secret = client.renew_notification_secret(project, rule.id).secret
    if as_json:
        output.json({**rule.model_dump(mode="json"), **({"secret": secret} if secret else {})})
    else:
        output.line(f"{rule.target} is told of {', '.join(rule.on)} ({rule.kind} {rule.id}).")
        if secret:
            output.line(f"Secret: {secret}")
            output.note("Keep the secret where the messages arrive: it is shown this once.")
    output.hint(f"pf notify test {rule.id}")


@group.command("list")
@json_option
@click.pass_obj
def list_notifications(invocation: Invocation, /, as_json: bool) -> None:
    """List who is told of what, and what became of the last message."""
    output = invocation.output
    connection = invocation.connect()
    rules = connection.client.notifications(connection.project.id)
    if as_json:
        output.json(rules)
        return
    rows = [
        (each.id, each.kind, each.target, ", ".join(each.on), _last(each.last), each.created_by)
        for each in rules
    ]
    columns = ("ID", "Kind", "Target", "On", "Last", "Created by")
    output.table(columns, rows, spare=("Created by",))
    output.hint("pf notify view ID" if rules else "pf notify add slack|webhook|email")


@group.command("view")
@click.argument("notification", metavar="ID")
@json_option
@click.pass_obj
def view_notification(invocation: Invocation, /, notification: str, as_json: bool) -> None:
    """Show a notification and its newest messages."""
    from periflow_cli.moment import local_time
    from periflow_cli.section import Fields

    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    rule = client.notification(project, notification)
    sent = client.deliveries(project, rule.id, limit=_SHOWN)
    if as_json:
        messages = [each.model_dump(mode="json") for each in sent]
        output.json({**rule.model_dump(mode="json"), "deliveries": messages})
        return
    pairs = [
        ("ID", rule.id),
        ("Kind", rule.kind),
        ("Target", rule.target),
        ("On", ", ".join(rule.on)),
        ("Created by", rule.created_by),
        ("Created at", local_time(rule.created_at)),
    ]
    output.sections(Fields("Overview", pairs))
    rows = [
        (
            local_time(each.created_at),
            "-" if each.job is None else str(each.job),
            each.event,
            each.status,
            str(each.tries),
            each.error or "-",
        )
        for each in sent
    ]
    output.table(("Time", "Job", "Event", "Status", "Tries", "Error"), rows, "Messages")


@group.command("test")
@click.argument("notification", metavar="ID")
@json_option
@click.pass_obj
def test_notification(invocation: Invocation, /, notification: str, as_json: bool) -> None:
    """Send a test message, and wait until it has arrived."""
    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    rule = client.notification(project, notification)
    message = _settled(
        client.test_notification(project, rule.id),
        lambda: client.deliveries(project, rule.id, limit=_SHOWN),
    )
    if as_json:
        output.json(message)
    _report(output, rule, message, as_json)


def _settled(message: m.Delivery, look: Callable[[], list[m.Delivery]]) -> m.Delivery:
    """The message once something became of it, or as it is when that takes too long."""
    import time

    deadline = time.monotonic() + _TEST_SECONDS
    while time.monotonic() < deadline:
        message = next((each for each in look() if each.id == message.id), message)
        if message.status in ("sent", "failed", "unknown") or message.error:
            break
        time.sleep(0.2)
    return message


def _report(output: Output, rule: m.Notification, message: m.Delivery, as_json: bool) -> None:
    from periflow_sdk.errors import PeriFlowError, TimedOutError

    if message.status == "sent":
        if not as_json:
            what = "The test is in the mail queue" if rule.kind == "email" else "The test arrived"
            output.line(f"{what}: {rule.target}.")
        return
    hint = f"pf notify view {rule.id}"
    if message.status in ("failed", "unknown"):
        why = message.error or "no reason was given"
        sentence = f"The test to {rule.target} did not arrive: {why}."
        raise PeriFlowError(sentence, code="notification_failed", hint=hint)
    why = f": {message.error}" if message.error else ""
    sentence = f"The test to {rule.target} has not arrived yet{why}; it is tried again."
    raise TimedOutError(sentence, hint=hint)


@group.command("secret")
@click.argument("notification", metavar="ID")
@yes_option
@json_option
@click.pass_obj
def renew_secret(invocation: Invocation, /, notification: str, yes: bool, as_json: bool) -> None:
    """Give a webhook a new secret; the one before is not used any more."""
    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    rule = client.notification(project, notification)
    output.confirm(f"Replace the secret of {rule.target}?", yes=yes)
    renewed = client.renew_notification_secret(project, rule.id)
    if as_json:
        output.json(renewed)
    else:
        output.line(renewed.secret)
    output.note("It is shown this once.")


@group.command("delete")
@click.argument("notifications", nargs=-1, required=True, metavar="ID...")
@yes_option
@json_option
@click.pass_obj
def delete_notifications(
    invocation: Invocation, /, notifications: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Tell somebody no longer; messages that wait are dropped."""
    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    rules = [client.notification(project, each) for each in notifications]
    for rule in rules:
        output.note(f"{rule.kind} {rule.target}: {', '.join(rule.on)}")
    output.confirm(f"Delete {', '.join(rule.id for rule in rules)}?", yes=yes)
    for rule in rules:
        client.delete_notification(project, rule.id)
        if not as_json:
            output.line(f"{rule.target} is told no longer.")
    if as_json:
        output.json(rules)
    output.hint("pf notify list")


def _last(message: m.Delivery | None) -> str:
    from periflow_cli.moment import ago

    if message is None:
        return "-"
    when = ago(message.finished_at or message.created_at)
    why = f" ({message.error})" if message.error else ""
    return f"{message.status} {when}{why}"
