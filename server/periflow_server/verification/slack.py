"""Slack: tokens of bots, and incoming webhooks."""

from __future__ import annotations

import httpx

from periflow_sdk.api.models import SlackCredentialCreate
from periflow_sdk.errors import InvalidRequestError
from periflow_server.verification.verdict import open_client, reason_of, refused, unavailable

_SERVICE = "Slack"
# What a webhook that exists says to a message without a text, which it shows nobody.
_WELCOME = ("no_text", "missing_text_or_fallback_or_attachments", "invalid_payload")


def check(body: SlackCredentialCreate, url: str) -> None:
    """Ask whose token it is, or whether the webhook is there. Nothing is posted.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    with open_client() as http:
        try:
            if body.token is not None:
                _check_token(http, url, body.token.get_secret_value())
            elif body.webhook_url is not None:
                _check_webhook(http, body.webhook_url.get_secret_value())
        except httpx.HTTPError as error:
            raise unavailable(_SERVICE, reason_of(error)) from None


def require_webhook(body: SlackCredentialCreate, hooks_url: str) -> None:
    """Refuse a webhook elsewhere than at Slack.

    Raises:
        InvalidRequestError: ``invalid_webhook_url``.
    """
    start = f"{hooks_url.rstrip('/')}/"
    if body.webhook_url and not body.webhook_url.get_secret_value().startswith(start):
        raise InvalidRequestError(
            f"This is no incoming webhook of Slack: they start with {start}.",
            code="invalid_webhook_url",
            hint="Copy the address from the app's page, or use `pf notify add webhook URL`.",
            data={"field": "webhook_url"},
        )


def _check_token(http: httpx.Client, url: str, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = http.post(f"{url.rstrip('/')}/auth.test", headers=headers)
    if answer.status_code != 200:
        raise unavailable(_SERVICE, f"it answered {answer.status_code}")
    try:
        document = answer.json()
        is_ok, reason = document["ok"], str(document.get("error", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise unavailable(_SERVICE, "its answer was not understood") from None
    if not is_ok:
        if reason in ("ratelimited", "internal_error", "service_unavailable", "fatal_error"):
            raise unavailable(_SERVICE, reason)
        raise refused(_SERVICE, reason)


def _check_webhook(http: httpx.Client, webhook: str) -> None:
    answer = http.post(webhook, json={})
    if answer.status_code >= 500 or answer.status_code == 429:
        raise unavailable(_SERVICE, f"it answered {answer.status_code}")
    reason = answer.text[:80].strip()
    if not answer.is_success and reason not in _WELCOME:
        raise refused(_SERVICE, reason)
