"""The outbox: without a mail server each message is a file in a folder."""

from __future__ import annotations

import os
import time
from email.message import EmailMessage
from pathlib import Path

from periflow_server.db.base import new_id


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
