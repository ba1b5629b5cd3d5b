"""What comes of asking: the errors, and a connection that does not hang."""

from __future__ import annotations

import re

import httpx

from periflow_sdk.errors import InvalidRequestError

SECONDS = 8.0
"""How long a service may take to answer."""
_CODE = re.compile(r"[A-Za-z0-9 _.:-]{1,80}")


def open_client() -> httpx.Client:
    """A client that follows no redirects: a credential goes where it belongs only."""
    return httpx.Client(timeout=httpx.Timeout(SECONDS, connect=4.0), follow_redirects=False)


def refused(service: str, reason: str) -> InvalidRequestError:
    """The service does not take the credential.

    Args:
        reason: The service's own word for it; left out where it could be anything.
    """
    word = f": {reason}" if _CODE.fullmatch(reason) else ""
    return InvalidRequestError(
        f"{service} does not take this credential{word}.",
        code="credential_refused",
        hint="Check the values. --no-verify stores them all the same.",
    )


def unavailable(service: str, why: str) -> InvalidRequestError:
    """Whether the service takes the credential cannot be told."""
    return InvalidRequestError(
        f"{service} could not be asked whether it takes this credential: {why}.",
        code="verification_unavailable",
        hint="Try again later, or store it unseen with --no-verify.",
    )


def reason_of(error: httpx.HTTPError) -> str:
    """Why there was no answer, in words without addresses or values."""
    return "timed out" if isinstance(error, httpx.TimeoutException) else "no answer"
