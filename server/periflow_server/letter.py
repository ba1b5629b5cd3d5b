"""The texts of mails: plain, short, with what to type next."""

from __future__ import annotations

from email.message import EmailMessage

CODE_HEADER = "X-PeriFlow-Code"


def code_message(to: str, name: str, code: str, minutes: int) -> EmailMessage:
    """The mail that proves an address."""
    return _message(
        to,
        f"{code} is your PeriFlow code",
        f"Hello {name},\n\nyour code for PeriFlow is {code}. It works for {minutes} minutes.\n\n"
        "If you did not sign up, you can ignore this mail.\n",
        code,
    )


def invitation_message(
    to: str, organization: str, inviter: str, *, code: str, link: str, url: str, days: int
) -> EmailMessage:
    """The mail that invites into an organization.

    Args:
        inviter: The name of who invites.
        link: The page where the invitation can be accepted.
        url: The server's address.
        days: How long the invitation works.
    """
    return _message(
        to,
        f"{inviter} invites you to {organization} on PeriFlow",
        f"Hello,\n\n{inviter} invites you to the organization {organization} on PeriFlow.\n\n"
        f"Open this link to accept, with or without an account:\n\n{link}\n\n"
        f"or type, without an account there:\n\n"
        f"export PERIFLOW_URL={url}\npf signup --invite {code}\n\n"
        f"and with one:\n\n"
        f"export PERIFLOW_URL={url}\npf org accept-invite --code {code}\n\n"
        f"The invitation is for {to} only and works once, for {days} "
        f"{'day' if days == 1 else 'days'}. If you do not know {inviter}, ignore this mail.\n",
        code,
    )


def approval_message(to: str, name: str, organization: str) -> EmailMessage:
    """The word to an owner that his organization can be used."""
    return _message(
        to,
        f"Your PeriFlow organization {organization} is active",
        f"Hello {name},\n\nan administrator has approved your organization {organization}. "
        f"To begin:\n\npf org switch {organization}\npf project create NAME\n"
        "pf org invite EMAIL\n",
    )


def refusal_message(to: str, name: str, organization: str, reason: str | None) -> EmailMessage:
    """The word to an owner that his organization was refused."""
    why = f"\n\nThe reason: {reason}" if reason else ""
    return _message(
        to,
        f"Your PeriFlow organization {organization} was refused",
        f"Hello {name},\n\nan administrator has refused your organization {organization}.{why}\n\n"
        f"You can remove it with `pf org delete {organization}`.\n",
    )


def known_address_message(to: str, name: str, username: str) -> EmailMessage:
    """The answer to a signup with an address that has an account."""
    return _message(
        to,
        "You have a PeriFlow account already",
        f"Hello {name},\n\nsomebody, perhaps you, tried to sign up for PeriFlow with this address. "
        f"It has an account already: {username}.\n\nLog in with `pf login --username {username}`, "
        "or set a new password with `pf passwd --reset`. If that was not you, you can ignore this "
        "mail.\n",
    )


def reset_message(to: str, name: str, code: str, minutes: int) -> EmailMessage:
    """The mail that lets a new password be set."""
    return _message(
        to,
        f"{code} is your PeriFlow code for a new password",
        f"Hello {name},\n\nyour code for a new password is {code}. It works for {minutes} minutes:"
        f"\n\n    pf passwd --reset --code {code}\n\n"
        "If you did not ask for it, you can ignore this mail: your password stays as it is.\n",
        code,
    )


def password_changed_message(to: str, name: str) -> EmailMessage:
    """The word to a user that his password is another one."""
    return _message(
        to,
        "Your PeriFlow password was changed",
        f"Hello {name},\n\nyour password for PeriFlow was changed just now, and your other logins "
        "were ended. If that was not you, set a new one with `pf passwd --reset`, look through "
        "`pf key list`, and tell the administrator.\n",
    )


def _message(to: str, subject: str, text: str, code: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["To"] = to
    message["Subject"] = subject
    if code is not None:
        message[CODE_HEADER] = code
    message.set_content(text)
    return message
