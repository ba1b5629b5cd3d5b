"""Signed webhooks, in the form of Standard Webhooks, which receivers have libraries for."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any

from periflow_server.services.vault import Vault

_PREFIX = "whsec_"


def new_secret() -> str:
    """A secret to sign with: ``whsec_`` and 32 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signed(
    secret: str, message_id: str, moment: int, content: Mapping[str, Any]
) -> tuple[dict[str, str], bytes]:
    """A message as it goes out.

    Args:
        message_id: The same at every try; receivers tell repeats by it.
        moment: When it is sent, in unix seconds.

    Returns:
        Its headers and body. The signature is the HMAC-SHA256 of ``id.moment.body``.
    """
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    digest = hmac.digest(key, f"{message_id}.{moment}.".encode() + body, "sha256")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "PeriFlow",
        "Webhook-Id": message_id,
        "Webhook-Timestamp": str(moment),
        "Webhook-Signature": f"v1,{base64.b64encode(digest).decode()}",
    }
    return headers, body


def seal_address(vault: Vault, notification_id: str, url: str, secret: str) -> str:
    """An address and its secret as they are kept."""
    return vault.seal(notification_id, json.dumps({"url": url, "secret": secret}).encode())


def open_address(vault: Vault, notification_id: str, sealed: str) -> tuple[str, str]:
    """The address and the secret of a webhook."""
    document = json.loads(vault.open(notification_id, sealed))
    return document["url"], document["secret"]
