"""Six digits from a mail: tried a few times, for a short time, once."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Protocol

from periflow_sdk.errors import InvalidRequestError
from periflow_server.db.base import utcnow
from periflow_server.settings import Settings


class Coded(Protocol):
    """A row that waits for its code."""

    code_hash: str
    attempts_left: int
    expires_at: datetime


def digest(settings: Settings, purpose: str, whose: str, code: str) -> str:
    """What is kept of a code.

    Six digits are soon tried through; with the server's key a stolen database does not help.
    """
    text = f"periflow-{purpose}:{whose}:{code}".encode("utf-8", "surrogatepass")
    return hmac.new(settings.key, text, hashlib.sha256).hexdigest()


def is_right(row: Coded, given: str) -> bool:
    """Use up a try: whether this is the row's code, in time.

    Args:
        given: The digest of what was typed.
    """
    row.attempts_left -= 1
    in_time = row.expires_at > utcnow() and row.attempts_left >= 0
    return hmac.compare_digest(given, row.code_hash) and in_time


def wrong_code(command: str) -> InvalidRequestError:
    """The answer to a code that does not work, whatever the reason.

    Args:
        command: Gets a new one.
    """
    return InvalidRequestError(
        "This code is wrong or no longer works.",
        code="wrong_code",
        hint=f"Check the newest mail, or run `{command}` again for a new code.",
    )
