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


def _message(to: str, subject: str, text: str, code: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["To"] = to
    message["Subject"] = subject
    if code is not None:
        message[CODE_HEADER] = code
    message.set_content(text)
    return message
