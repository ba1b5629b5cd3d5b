"""Mail. Without a mail server each message is a file in the outbox folder."""

from __future__ import annotations

import os
import time
from email.message import EmailMessage
from pathlib import Path

from periflow_server.db.base import new_id, utcnow

CODE_HEADER = "X-PeriFlow-Code"


def code_message(to: str, name: str, code: str, minutes: int) -> EmailMessage:
    """The mail that proves an address."""
    message = EmailMessage()
    message["From"] = "PeriFlow <periflow@localhost>"
    message["To"] = to
    message["Subject"] = f"{code} is your PeriFlow code"
    message["Date"] = utcnow()
    message[CODE_HEADER] = code
    message.set_content(
        f"Hello {name},\n\nyour code for PeriFlow is {code}. It works for {minutes} minutes.\n\n"
        "If you did not sign up, you can ignore this mail.\n"
    )
    return message


def put_in_outbox(outbox: Path, message: EmailMessage) -> Path:
    """Write the message as an ``.eml`` file that only this user can read.

    Returns:
        The file. Names sort by time.
    """
    outbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = outbox / f"{time.time_ns():020d}-{new_id()[:8]}.eml"
    temporary = target.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(message.as_bytes())
    temporary.replace(target)
    return target
