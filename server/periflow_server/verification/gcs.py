"""Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from periflow_sdk.api.models.credential import GcsCredentialCreate, service_account
from periflow_server.verification.verdict import open_client, reason_of, refused, unavailable

_SERVICE = "Google Cloud Storage"
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


def check(body: GcsCredentialCreate, url: str, token_url: str) -> None:
    """Sign in as the service account, and list one bucket.

    A service account that is signed in and may not list buckets is right all the same.

    Args:
        token_url: Where it signs in. What the key file says of that is not followed: it could
            name any address.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    document = service_account(body.service_account_key.get_secret_value())
    with open_client() as http:
        try:
            token = sign_in(http, {**document, "token_uri": token_url})
            answer = http.get(
                f"{url.rstrip('/')}/storage/v1/b",
                params={"project": document["project_id"], "maxResults": 1},
                headers={"Authorization": f"Bearer {token}"},
            )
        except httpx.HTTPError as error:
            raise unavailable(_SERVICE, reason_of(error)) from None
    if answer.status_code == 401:
        raise refused(_SERVICE, "the token was refused")
    if answer.status_code >= 500:
        raise unavailable(_SERVICE, f"it answered {answer.status_code}")


def sign_in(http: httpx.Client, document: dict[str, Any], scope: str = _SCOPE) -> str:
    """A token of a service account.

    Args:
        document: Its key file; ``token_uri`` is where it signs in.

    Raises:
        InvalidRequestError: see ``verification.check``; ``data`` has the service's ``reason`` and
            ``detail``.
    """
    from google.auth.exceptions import RefreshError, TransportError

    account = account_of(document, scope)
    try:
        account.refresh(_Transport(http))
    except TransportError as error:
        raise unavailable(_SERVICE, "no answer") from error
    except RefreshError as error:
        if error.retryable:
            raise unavailable(_SERVICE, "no answer") from None
        reason, detail = _grant_error(error)
        refusal = refused(_SERVICE, reason)
        refusal.data.update(reason=reason, detail=detail)
        raise refusal from None
    return str(account.token)


def account_of(document: dict[str, Any], scope: str = _SCOPE) -> Any:
    """The service account of a key file, as google-auth has it.

    Raises:
        InvalidRequestError: its key cannot be read (``credential_refused``).
    """
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2.service_account import Credentials

    try:
        return Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            document, scopes=[scope]
        )
    except (ValueError, GoogleAuthError):
        raise refused(_SERVICE, "the private key cannot be read") from None


def _grant_error(error: Exception) -> tuple[str, str]:
    detail = error.args[1] if len(error.args) > 1 else None
    if not isinstance(detail, dict):
        return "", ""
    return str(detail.get("error", "")), str(detail.get("error_description", ""))[:200]


class _Transport:
    """The client in the form that google-auth asks for."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> _Response:
        return _Response(self._http.request(method, url, content=body, headers=headers))


class _Response:
    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        self.headers = dict(answer.headers)
        self.data = answer.content
