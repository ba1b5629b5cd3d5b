"""What a store on a network says when it does not do what it was asked."""

from __future__ import annotations

import re
from typing import ClassVar

from periflow_sdk.errors import ApiError

_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_REGION = re.compile(r"<Region>\s*([a-z0-9-]{1,40})\s*</Region>")
_REDIRECTED = re.compile(r"(?i)redirect")
_LATE = re.compile(r"(?i)date header too old|short-lived token|TooSkewed")
_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_DENIED = frozenset({"AccessDenied", "AuthorizationFailure", "AuthorizationPermissionMismatch"})


class StoreError(ApiError):
    """The server cannot use its store: ``store_unavailable`` for now.

    For good: ``store_refused`` (the key), ``store_not_found``, ``store_region``, ``store_clock``.
    """

    default_code = "store_unavailable"
    status: ClassVar[int] = 503


def code_of(text: str) -> str:
    """The store's own word in its answer; empty where there is none."""
    found = _CODE.search(text)
    return found[1] if found else ""


def status_of(text: str) -> int:
    """The HTTP status that an error of the library speaks of; 0 where there was no answer."""
    found = _STATUS.search(text)
    return int(found[1]) if found else 0


def fault(store: str, status: int, code: str, text: str = "") -> StoreError:
    """The error for an answer that says no.

    Args:
        store: The store's address as the administrator wrote it.
        status: The HTTP status; 0 without an answer.
        code: The store's own word for it, if it said one.
        text: All that it said.
    """
    word = code or (f"status {status}" if status else "no answer")
    if _LATE.search(f"{code} {text}"):
        return StoreError(
            f"The clocks of the server and of the store {store} differ: {word}.",
            code="store_clock",
            hint="Set the server's clock (NTP).",
        )
    if code in _ELSEWHERE or (status in (0, 301, 307) and _REDIRECTED.search(text)):
        found = _REGION.search(text)
        return StoreError(
            f"The store {store} is in {f'the region {found[1]}' if found else 'another region'}.",
            code="store_region",
            hint=f"Set PERIFLOW_SERVER_STORAGE_REGION={found[1] if found else 'REGION'}.",
        )
    if code in _NO_BUCKET or (status == 404 and not code):
        return StoreError(
            f"The store {store} is not there: {word}.",
            code="store_not_found",
            hint="Make the bucket, or correct PERIFLOW_SERVER_STORAGE_URL.",
        )
    if code in _DENIED:
        return StoreError(
            f"The server's key may not use the store {store}: {word}.",
            code="store_refused",
            hint="Let it read, write, list and delete there (docs/storage.md).",
        )
    if status in (400, 401, 403):
        return StoreError(
            f"The store {store} does not take the server's key: {word}.",
            code="store_refused",
            hint="Give the server a valid key (docs/storage.md).",
        )
    return StoreError(
        f"The server cannot reach its store {store}: {word}.",
        hint="Try again later; the server's log has more.",
    )
