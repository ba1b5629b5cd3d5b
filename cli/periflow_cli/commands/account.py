"""`pf signup`, `login`, `logout`, `whoami`."""

from __future__ import annotations

import sys

import click

from periflow_cli.group import Command, Invocation, json_option

_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input."
)


@click.command("signup", cls=Command)
@click.option("--username", metavar="NAME", help="Name to log in with.")
@click.option("--name", metavar="TEXT", help="Your name as others see it.")
@click.option("--email", metavar="ADDRESS", help="Where the code is mailed to.")
@_password_option
@click.option("--code", metavar="CODE", help="The mailed code: finishes an earlier signup.")
@click.option(
    "--invite", metavar="CODE", help="The code, or the link, of an invitation: also joins."
)
@json_option
@click.pass_obj
def sign_up(
    invocation: Invocation,
    /,
    username: str | None,
    name: str | None,
    email: str | None,
    password_stdin: bool,
    code: str | None,
    invite: str | None,
    as_json: bool,
) -> None:
    """Create an account and log in.

    A code is mailed to the address. With the local server, which sends no mail, pf reads it from
    the server's outbox, shows it and goes on. With --invite the address is that of the invitation,
    and no other mail is needed.
    """
    from periflow_cli.signup import Signup, complete
    from periflow_sdk.api.models import SignupRequest

    output = invocation.output
    if invite is not None:
        if email or code:
            raise click.UsageError("--invite brings the address and its proof: leave them out.")
        _sign_up_invited(invocation, invite, username, name, password_stdin, as_json)
        return
    if code is None:
        password = piped_line() if password_stdin else None
        given = {"username": username, "name": name, "email": email, "password": password}
        body = complete(output, SignupRequest, given)
        signup = Signup(invocation.connect(login=False), output)
        signup.request(body)
        username, code = body.username, signup.code()
    else:
        username = username or output.ask("Username", "--username NAME")
        signup = Signup(invocation.connect(login=False), output)
    user = signup.confirm(username, code)
    if as_json:
        output.json(user)
    else:
        output.line(f"Signed up and logged in as {user.username} ({user.email}).")
    output.hint("pf org create NAME")


def _sign_up_invited(
    invocation: Invocation,
    invite: str,
    username: str | None,
    name: str | None,
    password_stdin: bool,
    as_json: bool,
) -> None:
    from periflow_cli.place import next_step, settle
    from periflow_cli.signup import Signup, complete
    from periflow_sdk.api.models import InvitedSignup

    output = invocation.output
    password = piped_line() if password_stdin else None
    given = {"username": username, "name": name, "password": password}
    body = complete(output, InvitedSignup, given, code=invite)
    connection = invocation.connect(login=False)
    user = Signup(connection, output).confirm_invited(body)
    if as_json:
        output.json(user)
    else:
        output.line(f"Signed up and logged in as {user.username} ({user.email}).")
    if chosen := settle(connection):
        output.note(f"Working in {chosen}.")
    output.hint(next_step(connection.profile, connection.key))


@click.command("login", cls=Command)
@click.option("--username", metavar="NAME", help="Username or email address.")
@_password_option
@json_option
@click.pass_obj
def log_in(
    invocation: Invocation, /, username: str | None, password_stdin: bool, as_json: bool
) -> None:
    """Log in."""
    output = invocation.output
    username = username or output.ask("Username", "--username NAME")
    password = piped_line() if password_stdin else output.ask_password()

    from periflow_cli.place import next_step, settle
    from periflow_sdk.api.models import LoginRequest

    connection = invocation.connect(login=False)
    with connection.open_anonymous_client() as client:
        session = client.log_in(LoginRequest(username=username, password=password))
    connection.log_in(session)
    if as_json:
        output.json(session.user)
    else:
        output.line(f"Logged in as {session.user.username}.")
    if chosen := settle(connection):
        output.note(f"Working in {chosen}.")
    output.hint(next_step(connection.profile, connection.key))


@click.command("logout", cls=Command)
@click.option("--all", "everywhere", is_flag=True, help="End your logins on all machines.")
@json_option
@click.pass_obj
def log_out(invocation: Invocation, /, everywhere: bool, as_json: bool) -> None:
    """End the login of this machine, or all of them. API keys stay: `pf key list`."""
    from periflow_sdk.errors import LoginRequiredError, ServerUnreachableError

    output = invocation.output
    connection = invocation.connect()
    username = connection.username
    try:
        if everywhere:
            connection.client.log_out_everywhere()
        else:
            connection.client.log_out()
    except LoginRequiredError:
        if everywhere:
            raise  # what runs elsewhere goes on
    except ServerUnreachableError:
        if everywhere:
            raise
        output.note("The server was not reached: the tokens were deleted here only.")
    connection.forget_login()
    if as_json:
        output.json({"username": username})
    else:
        output.line(f"Logged out {username}." if username else "Logged out.")
    output.hint("pf login")


@click.command("whoami", cls=Command)
@json_option
@click.pass_obj
def who_am_i(invocation: Invocation, /, as_json: bool) -> None:
    """Show who is logged in."""
    from periflow_cli.section import Fields

    output = invocation.output
    user = invocation.connect().client.me()
    if as_json:
        output.json(user)
    else:
        pairs = [("Name", user.name), ("Username", user.username), ("Email", user.email)]
        output.sections(Fields("My Info", pairs))


def piped_line() -> str:
    """The next line of standard input."""
    return sys.stdin.readline().rstrip("\r\n")
