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
        f"or type, once you have an account at {url}:\n\n"
        f"pf org accept-invite --code {code}\n\n"
        f"The invitation is for {to} only and works once, for {days} "
        f"{'day' if days == 1 else 'days'}. If you do not know {inviter}, ignore this mail.\n",
        code,
    )


def _message(to: str, subject: str, text: str, code: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["To"] = to
    message["Subject"] = subject
    if code is not None:
        message[CODE_HEADER] = code
    message.set_content(text)
    return message
