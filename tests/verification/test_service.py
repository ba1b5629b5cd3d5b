"""Keys of Weights & Biases and of Slack, whose protocols a local endpoint speaks."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_server.settings import Settings
from periflow_server.verification import check

if TYPE_CHECKING:
    from cloud import Endpoint

SECRET = "kept-from-everybody"


def verify(type: str, endpoint: Endpoint, *, ask: bool = True, **values: str) -> bool:
    body = m.CREDENTIAL_BODIES[type].model_validate({"name": "key", **values})  # type: ignore[index]
    urls = {
        "wandb_url": endpoint.url,
        "slack_url": f"{endpoint.url}/api",
        "slack_hooks_url": f"{endpoint.url}/services/",
    }
    return check(body, Settings.read(**urls), ask=ask)


def refusal(type: str, endpoint: Endpoint, **values: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        verify(type, endpoint, **values)
    told = f"{caught.value.message} {caught.value.hint} {caught.value.data}"
    assert not any(value in told for value in values.values() if isinstance(value, str))
    return caught.value.code


def test_wandb_is_asked_who_owns_the_key(endpoint: Endpoint) -> None:
    endpoint.answer = lambda _: (200, {"data": {"viewer": {"id": "1"}}})
    assert verify("wandb", endpoint, api_key=SECRET)
    (asked,) = endpoint.asked
    assert asked.path == "/graphql"
    assert asked.authorization == f"Basic {base64.b64encode(f'api:{SECRET}'.encode()).decode()}"
    assert "viewer" in json.loads(asked.body)["query"]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, {"errors": []}), "credential_refused"),
        ((200, {"data": {"viewer": None}}), "credential_refused"),
        ((502, b"<html>"), "verification_unavailable"),
        ((200, b"<html>"), "verification_unavailable"),
        ((302, {}), "verification_unavailable"),
    ],
)
def test_wandb_key_that_is_not_known_is_refused(
    endpoint: Endpoint, answer: tuple[int, Any], code: str
) -> None:
    endpoint.answer = lambda _: answer
    assert refusal("wandb", endpoint, api_key=SECRET) == code
    assert len(endpoint.asked) == 1, "a redirect was followed"


def test_slack_is_asked_whose_token_it_is(endpoint: Endpoint) -> None:
    endpoint.answer = lambda _: (200, {"ok": True})
    assert verify("slack", endpoint, token=SECRET)
    assert endpoint.asked[0].path == "/api/auth.test"
    assert endpoint.asked[0].authorization == f"Bearer {SECRET}"
    endpoint.answer = lambda _: (200, {"ok": False, "error": "invalid_auth"})
    assert refusal("slack", endpoint, token=SECRET) == "credential_refused"
    endpoint.answer = lambda _: (200, {"ok": False, "error": "ratelimited"})
    assert refusal("slack", endpoint, token=SECRET) == "verification_unavailable"


def test_webhook_is_looked_for_without_posting_a_message(endpoint: Endpoint) -> None:
    webhook = f"{endpoint.url}/services/T0/B0/{SECRET}"
    endpoint.answer = lambda _: (400, b"no_text")
    assert verify("slack", endpoint, webhook_url=webhook)
    assert json.loads(endpoint.asked[0].body) == {}
    endpoint.answer = lambda _: (404, b"no_service")
    assert refusal("slack", endpoint, webhook_url=webhook) == "credential_refused"


def test_webhook_elsewhere_is_refused_even_unasked(endpoint: Endpoint) -> None:
    for elsewhere in ("http://127.0.0.1:1/services/x", f"{endpoint.url}.example.com/services/x"):
        code = refusal("slack", endpoint, webhook_url=elsewhere, ask=False)
        assert code == "invalid_webhook_url"
    assert endpoint.asked == []


def test_nobody_is_asked_about_a_registry_or_without_a_wish(endpoint: Endpoint) -> None:
    assert not verify("docker", endpoint, username="ada", password=SECRET)
    assert not verify("wandb", endpoint, api_key=SECRET, ask=False)
    assert endpoint.asked == []
