"""`pf org invite|accept-invite|invitations|resend-invite|revoke-invite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option, yes_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Invitation, MailState


@click.command("invite", cls=Command)
@click.argument("email", metavar="EMAIL")
@json_option
@click.pass_obj
def invite(invocation: Invocation, /, email: str, as_json: bool) -> None:
    """Invite somebody into the current organization by mail. Only an owner can.

    The mail has a link and a code. Both work once, for this address only, with or without an
    account.
    """
    output = invocation.output
    connection = invocation.connect()
    organization = connection.organization
    invitation = connection.client.invite(organization.id, email)
    if as_json:
        output.json(invitation)
    else:
        output.line(f"Invited {invitation.email} to {organization.name}{_until(invitation)}.")
    _pass_on(output, connection, invitation)
    output.hint("pf org invitations shows whether the mail was sent, and who accepted")


@click.command("invitations", cls=Command)
@json_option
@click.pass_obj
def list_invitations(invocation: Invocation, /, as_json: bool) -> None:
    """List the invitations of the current organization, and what became of their mails."""
    from periflow_cli.moment import local_time

    output = invocation.output
    connection = invocation.connect()
    invitations = connection.client.invitations(connection.organization.id)
    if as_json:
        output.json(invitations)
        return
    rows = [
        (
            each.email,
            each.status.capitalize(),
            _mail_text(each.mail),
            each.invited_by,
            local_time(each.expires_at),
        )
        for each in invitations
    ]
    output.table(("Email", "Status", "Mail", "Invited by", "Expires"), rows)
    output.hint("pf org resend-invite EMAIL, pf org revoke-invite EMAIL")


@click.command("resend-invite", cls=Command)
@click.argument("email", metavar="EMAIL")
@json_option
@click.pass_obj
def resend_invitation(invocation: Invocation, /, email: str, as_json: bool) -> None:
    """Send an invitation anew; the code of the earlier mail stops working."""
    output = invocation.output
    connection = invocation.connect()
    invitation = connection.client.resend_invitation(connection.organization.id, _name(email))
    if as_json:
        output.json(invitation)
    else:
        output.line(f"Sent a new invitation to {invitation.email}{_until(invitation)}.")
    _pass_on(output, connection, invitation)
    output.hint("pf org invitations")


@click.command("revoke-invite", cls=Command)
@click.argument("emails", nargs=-1, required=True, metavar="EMAIL...")
@yes_option
@json_option
@click.pass_obj
def revoke_invitations(
    invocation: Invocation, /, emails: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Take invitations back: their links and codes stop working."""
    output = invocation.output
    connection = invocation.connect()
    output.confirm(f"Take back the invitation of {', '.join(emails)}?", yes=yes)
    for email in emails:
        connection.client.revoke_invitation(connection.organization.id, _name(email))
        if not as_json:
            output.line(f"The invitation of {email} does not work any more.")
    if as_json:
        output.json([{"email": email} for email in emails])
    output.hint("pf org invitations")


@click.command("accept-invite", cls=Command)
@click.option("--code", metavar="CODE", help="The code, or the link, from the mail.")
@json_option
@click.pass_obj
def accept_invitation(invocation: Invocation, /, code: str | None, as_json: bool) -> None:
    """Join an organization by the code or the link that was mailed to you."""
    from periflow_cli.profile import Place

    output = invocation.output
    code = code or output.ask("Code or link from the mail", "--code CODE")
    connection = _connect_where(invocation, code)
    organization = connection.client.accept_invitation(code)
    if connection.profile.place("organization", connection.key) is None:
        connection.profile.choose(connection.key, Place(organization.id, organization.name), None)
    if as_json:
        output.json(organization)
    else:
        role = organization.role.capitalize()
        output.line(f"You are in organization {organization.name} now, as {role}.")
    output.hint(f"pf org switch {organization.name}, then pf project list")


def _connect_where(invocation: Invocation, code: str) -> Connection:
    """The connection to the server of the invitation, which a link names.

    Raises:
        LoginRequiredError: Not logged in; says how to come to that server.
    """
    from periflow_sdk.errors import LoginRequiredError

    server, has_link, _ = code.partition("/invite?token=")
    try:
        return invocation.connect()
    except LoginRequiredError as error:
        if not has_link:
            raise
        raise LoginRequiredError(
            f"The invitation is one of {server}, and you are not logged in there.",
            hint=f"export PERIFLOW_URL={server}; then pf signup --invite CODE, or pf login "
            "and this command again",
        ) from error


def _pass_on(output: Output, connection: Connection, invitation: Invitation) -> None:
    """Show what this machine's server, which sends no mail, wrote instead of sending."""
    local = connection.local
    found = local.outbox_code(invitation.email) if local else None
    if found is None:
        return
    code, mail = found
    link = f"{connection.url}/invite?token={code}"
    output.note(f"This server sends no mail ({mail.parent}). Pass on: {link}")
    output.note(f"or: export PERIFLOW_URL={connection.url}; pf signup --invite {code}")
    output.note("Both work on this machine only: the local server listens on loopback.")


def _until(invitation: Invitation) -> str:
    from periflow_cli.moment import local_time

    return f"; the invitation works until {local_time(invitation.expires_at)}"


def _mail_text(mail: MailState | None) -> str:
    if mail is None:
        return "-"
    tries = f" after {mail.tries} tries" if mail.tries > 1 else ""
    error = f": {mail.error}" if mail.error else ""
    return f"{mail.status}{tries}{error}"


def _name(email: str) -> str:
    """An address (or id) that can be part of a path."""
    name = email.strip()
    if not name.strip("./") or "/" in name:
        raise click.UsageError(f"{email!r} is no address that was invited.")
    return name


COMMANDS = (invite, accept_invitation, list_invitations, resend_invitation, revoke_invitations)
