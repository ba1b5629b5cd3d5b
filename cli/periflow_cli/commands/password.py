"""`pf passwd`: another password, or a new one for a forgotten one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.commands.account import piped_line
from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.output import Output


@click.command("passwd", cls=Command)
@click.option("--reset", is_flag=True, help="You forgot it: have a code mailed, or use it.")
@click.option("--username", metavar="NAME", help="With --reset: username or email address.")
@click.option("--code", metavar="CODE", help="With --reset: the mailed code.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the current and the new password, a line each (with --reset: the new one).",
)
@json_option
@click.pass_obj
def change_password(
    invocation: Invocation,
    /,
    reset: bool,
    username: str | None,
    code: str | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Change your password, or set a new one when you forgot it.

    All your other logins end. API keys go on: `pf key list` shows them.
    """
    if reset:
        _reset(invocation, username, code, password_stdin, as_json)
    elif username or code:
        raise click.UsageError("--username and --code belong to --reset.")
    else:
        _change(invocation, password_stdin, as_json)


def _change(invocation: Invocation, password_stdin: bool, as_json: bool) -> None:
    from periflow_sdk.api.models import PasswordChange

    output = invocation.output
    connection = invocation.connect()
    if password_stdin:
        current, new = piped_line(), piped_line()
    else:
        current = output.ask_secret("Current password", "--password-stdin")
        new = _ask_new(output)
    connection.client.change_password(PasswordChange(password=current, new_password=new))
    if as_json:
        output.json({"username": connection.username})
    else:
        output.line("Your password was changed; your other logins have ended.")
    output.hint("pf session list")


def _reset(
    invocation: Invocation,
    username: str | None,
    code: str | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    from periflow_cli.mailcode import MailedCode
    from periflow_sdk.api.models import PasswordResetConfirmation, PasswordResetRequest

    output = invocation.output
    username = username or output.ask("Username or email", "--username NAME")
    connection = invocation.connect(login=False)
    with connection.open_anonymous_client() as client:
        if code is None:
            mailed = MailedCode(connection, output, "code for a new password")
            client.request_password_reset(PasswordResetRequest(username=username))
            command = f"pf passwd --reset --username {username} --code CODE --password-stdin"
            code = mailed.find(username, command)
        new = piped_line() if password_stdin else _ask_new(output)
        body = PasswordResetConfirmation(username=username, code=code, password=new)
        session = client.confirm_password_reset(body)
    connection.log_in(session)
    if as_json:
        output.json(session.user)
    else:
        output.line(f"Your password was changed. Logged in as {session.user.username}.")
    output.hint("pf job list")


def _ask_new(output: Output) -> str:
    from periflow_cli.field import complaints
    from periflow_sdk.api.models import PasswordChange

    return output.ask(
        "New password",
        "--password-stdin",
        hidden=True,
        complaint=lambda answer: " ".join(complaints(PasswordChange, {"new_password": answer})),
    )
