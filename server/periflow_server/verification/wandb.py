"""Weights & Biases."""

from __future__ import annotations

import httpx

from periflow_sdk.api.models import WandbCredentialCreate
from periflow_server.verification.verdict import open_client, reason_of, refused, unavailable

_SERVICE = "Weights & Biases"
_QUERY = "query Viewer { viewer { id } }"


def check(body: WandbCredentialCreate, url: str) -> None:
    """Ask who the owner of the key is.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    with open_client() as http:
        try:
            answer = http.post(
                f"{url.rstrip('/')}/graphql",
                json={"query": _QUERY},
                auth=("api", body.api_key.get_secret_value()),
            )
        except httpx.HTTPError as error:
            raise unavailable(_SERVICE, reason_of(error)) from None
    if answer.status_code in (401, 403):
        raise refused(_SERVICE, "the key is not known")
    if answer.status_code != 200:
        raise unavailable(_SERVICE, f"it answered {answer.status_code}")
    try:
        viewer = answer.json()["data"]["viewer"]
    except (ValueError, KeyError, TypeError):
        raise unavailable(_SERVICE, "its answer was not understood") from None
    if not viewer:
        raise refused(_SERVICE, "the key is not known")
