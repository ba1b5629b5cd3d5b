"""What is wrong with a link, in one line with a code of its own.

credential_refused    the service does not know the key, and never did
credential_revoked    it does not take a key that it took before
access_denied         the key is right and may not read this bucket
bucket_not_found      there is no such bucket
wrong_region          the bucket is in another region
clock_skew            the server's clock is too far off for signatures
storage_busy          the service asks for patience, or fails
storage_unreachable   no answer, or none that can be understood
"""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from periflow_sdk.errors import InvalidRequestError, PeriFlowError
from periflow_server.bucket.place import Place
from periflow_server.db.base import utcnow
from periflow_server.outbound import Answer

_NAMES = {"s3": "S3", "azure-blob": "Azure Blob Storage", "gcs": "Google Cloud Storage"}
_BUCKETS = {"s3": "bucket", "azure-blob": "container", "gcs": "bucket"}
_WORD = re.compile(r"[A-Za-z0-9 _.:-]{1,80}")
_MOST_SKEW_SECONDS = 240
"""Services allow 5 to 15 minutes."""

_UNKNOWN_KEY = frozenset(
    (
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "TokenRefreshRequired",
        "InvalidClientTokenId",
        "AuthenticationFailed",
        "NoAuthenticationInformation",
        "InvalidAuthenticationInfo",
    )
)
_DENIED = frozenset(
    (
        "AccessDenied",
        "AllAccessDisabled",
        "AccountProblem",
        "AuthorizationFailure",
        "AuthorizationPermissionMismatch",
        "InsufficientAccountPermissions",
        "AccountIsDisabled",
        "KeyBasedAuthenticationNotPermitted",
    )
)
_NO_BUCKET = frozenset(
    ("NoSuchBucket", "ContainerNotFound", "InvalidBucketName", "ResourceNotFound")
)
_OTHER_REGION = frozenset(
    (
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
    )
)


def refusal(place: Place, answer: Answer, code: str, region: str | None = None) -> PeriFlowError:
    """The error for an answer that says no.

    Args:
        code: The service's own word for it.
        region: The region that the bucket is in, if the service says so.
    """
    skew = _skew_seconds(answer.headers.get("date"))
    if code == "RequestTimeTooSkewed" or (
        answer.status in (400, 401, 403) and abs(skew) > _MOST_SKEW_SECONDS
    ):
        return clock_skew(place, skew)
    if code in _OTHER_REGION or region or answer.status in (301, 307):
        return wrong_region(place, region)
    if code in _NO_BUCKET or answer.status == 404:
        return no_bucket(place)
    if code in _UNKNOWN_KEY or answer.status == 401:
        return unknown_key(place, code)
    if code in _DENIED or answer.status == 403:
        return denied(place, code)
    return _error(
        "storage_unreachable",
        f"{_NAMES[place.cloud]} answered {answer.status}{_word(code)} for the "
        f"{_BUCKETS[place.cloud]} {place.storage_name}.",
        "Check the name, the region and the endpoint.",
    )


def unknown_key(place: Place, code: str = "") -> PeriFlowError:
    """The service does not take the credential."""
    hint = f"Give it a valid key: pf credential update {place.credential}"
    if place.verified_at is None:
        return _error(
            "credential_refused",
            f"{_NAMES[place.cloud]} does not take the credential {place.credential}{_word(code)}.",
            hint,
        )
    return _error(
        "credential_revoked",
        f"{_NAMES[place.cloud]} does not take the credential {place.credential} any "
        f"more{_word(code)}; it did on {place.verified_at:%Y-%m-%d}.",
        hint,
    )


def denied(place: Place, code: str = "") -> PeriFlowError:
    """The credential is right and may not read this."""
    return _error(
        "access_denied",
        f"The credential {place.credential} may not list and read the {_BUCKETS[place.cloud]} "
        f"{place.storage_name}{_word(code)}.",
        "Give its owner the right to list and to read there, or name another credential.",
    )


def no_bucket(place: Place) -> PeriFlowError:
    """There is no such bucket."""
    what = _BUCKETS[place.cloud]
    return _error(
        "bucket_not_found",
        f"{_NAMES[place.cloud]} has no {what} {place.storage_name}.",
        f"Check the name of the {what} (-s) and the account of the credential (-i).",
    )


def wrong_region(place: Place, region: str | None) -> PeriFlowError:
    """The bucket is elsewhere."""
    known = region if region and _WORD.fullmatch(region) else None
    where = f"is in {known}" if known else "is in another region"
    return _error(
        "wrong_region",
        f"The bucket {place.storage_name} {where}, not in {place.region or 'the one given'}.",
        f"Give -r {known or 'REGION'}.",
    )


def clock_skew(place: Place, seconds: float = 0.0) -> PeriFlowError:
    """The server's clock is off."""
    amount = f"by {abs(seconds) / 60:.0f} minutes " if abs(seconds) >= 60 else ""
    return _error(
        "clock_skew",
        f"The clock of the PeriFlow server differs {amount}from that of {_NAMES[place.cloud]}, "
        "which therefore refuses its signatures.",
        "Set the server's clock (NTP), then try again.",
    )


def busy(place: Place, status: int) -> PeriFlowError:
    """The service asks for patience, or fails."""
    return _error(
        "storage_busy",
        f"{_NAMES[place.cloud]} answered {status} several times.",
        "Try again in a minute.",
    )


def unreachable(place: Place, error: PeriFlowError) -> PeriFlowError:
    """There was no answer."""
    if error.code == "address_refused":
        return _error(error.code, error.message, error.hint)
    return _error(
        "storage_unreachable",
        f"{_NAMES[place.cloud]} gives the PeriFlow server no answer"
        f"{f' at {place.endpoint_url}' if place.endpoint_url else ''}: {error.message}.",
        "Check the region and the endpoint, and the network of the server.",
    )


def not_understood(place: Place) -> PeriFlowError:
    """What answered is no such service."""
    return _error(
        "storage_unreachable",
        f"What answers"
        f"{f' at {place.endpoint_url}' if place.endpoint_url else ''} does not speak the language "
        f"of {_NAMES[place.cloud]}.",
        "Check the endpoint.",
    )


def _error(code: str, message: str, hint: str | None) -> InvalidRequestError:
    return InvalidRequestError(message, code=code, hint=hint)


def _word(code: str) -> str:
    return f" ({code})" if code and _WORD.fullmatch(code) else ""


def _skew_seconds(date: str | None) -> float:
    """How far our clock is ahead of the service's; 0 if it does not say its time."""
    try:
        theirs: datetime = parsedate_to_datetime(date or "")
        return (utcnow() - theirs).total_seconds()
    except (ValueError, TypeError):
        return 0.0
