"""How requests get to the control plane: connections, tokens, tries, pages, proof."""

from __future__ import annotations

import platform
import ssl
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter

from periflow_sdk import __version__
from periflow_sdk.api.proof import is_proof, new_nonce, read_key
from periflow_sdk.errors import (
    LoginRequiredError,
    ServerUnreachableError,
    UsageError,
    error_from_problem,
)

T = TypeVar("T", bound=BaseModel)
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 5.0
"""Who asks for more patience than this gets no more tries: the caller is told instead."""


class Transport:
    """Sends requests and reads answers; see ``ApiClient``."""

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str | None] | None = None,
        *,
        timeout_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        tries: int = 4,
        on_unauthorized: Callable[[], bool] | None = None,
        key_file: Path | None = None,
    ) -> None:
        if "@" in urlsplit(url).netloc:
            raise UsageError(
                "The address of a control plane has no user name and no password in it.",
                hint="Leave out what is before the @, and log in with `pf login`.",
            )
        self.url = url.rstrip("/")
        self._token = token if callable(token) else lambda: token
        self._tries = max(1, tries)
        self._on_unauthorized = on_unauthorized
        self._key_file = key_file
        self._is_proven = key_file is None
        is_here = self.url.startswith(("http://127.0.0.1", "http://localhost"))
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            headers={"User-Agent": _user_agent()},
            timeout=httpx.Timeout(timeout_seconds, connect=min(connect_seconds, timeout_seconds)),
            trust_env=not is_here,
            # Reading the authorities' certificates takes longer than the rest; this trusts none.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_here else True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, model: type[T], params: Mapping[str, Any] | None = None) -> T:
        return model.model_validate_json(self._request("GET", path, params=params).content)

    def _post(self, path: str, model: type[T], body: BaseModel | None) -> T:
        payload = body.model_dump(mode="json") if body is not None else None
        # One key for all tries of this call: a repeated delivery creates nothing twice.
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        response = self._request("POST", path, json=payload, headers=headers)
        return model.model_validate_json(response.content)

    def _patch(self, path: str, model: type[T], body: BaseModel) -> T:
        payload = body.model_dump(mode="json", exclude_unset=True)
        return model.model_validate_json(self._request("PATCH", path, json=payload).content)

    def _delete(self, path: str) -> None:
        self._request("DELETE", path)

    def _list(
        self,
        path: str,
        model: type[T],
        params: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> list[T]:
        """All pages (``{"items": [...], "next_cursor": ...}``), or the first ``limit`` items."""
        items: list[T] = []
        query = dict(params or {})
        adapter = TypeAdapter(list[model])  # type: ignore[valid-type]
        while True:
            if limit is not None:
                query["limit"] = min(limit - len(items), 500)
            page = self._request("GET", path, params=query).json()
            items.extend(adapter.validate_python(page["items"]))
            cursor = page.get("next_cursor")
            if not cursor or (limit is not None and len(items) >= limit):
                return items
            query["cursor"] = cursor

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        refreshed = False
        tried = 0
        while True:
            tried += 1
            try:
                response = self._send(method, path, options)
            except httpx.TransportError as error:
                self._is_proven = self._key_file is None
                if tried >= self._tries:
                    raise self._unreachable(error) from error
                time.sleep(min(0.2 * 2**tried, 5.0))
                continue
            if response.status_code in _RETRIED_STATUSES and tried < self._tries:
                asked = _retry_after(response)
                if asked <= _LONGEST_WAIT_SECONDS:
                    time.sleep(max(asked, min(0.2 * 2**tried, 5.0)))
                    continue
            if response.status_code == 401 and self._on_unauthorized and not refreshed:
                refreshed = True
                if self._on_unauthorized():
                    continue
            if response.is_success:
                return response
            raise error_from_problem(response.status_code, _problem(response))

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        headers = dict(options.get("headers") or {})
        if not self._is_proven:
            self._ask_for_proof()
        if token := self._token():
            if not (token.isascii() and token.isprintable()) or " " in token:
                # The error of the HTTP library would show it.
                raise LoginRequiredError(
                    "The token has a character that no token has.",
                    code="malformed_token",
                    hint="Run `pf login`, or set PERIFLOW_API_KEY to the key alone.",
                )
            headers["Authorization"] = f"Bearer {token}"
        return self._http.request(method, path, **{**options, "headers": headers})

    def _ask_for_proof(self) -> None:
        assert self._key_file is not None
        nonce = new_nonce()
        response = self._http.request("GET", "server", params={"nonce": nonce})
        key, port = read_key(self._key_file), urlsplit(self.url).port
        if not is_proof(_document(response).get("proof"), key, nonce, port):
            raise ServerUnreachableError(
                f"What answers at {self.url} is not this machine's PeriFlow server.",
                data={"url": self.url},
            )
        self._is_proven = True

    def _unreachable(self, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"No answer from {self.url} after {self._tries} tries: {error or 'no reason'}",
            hint="Check PERIFLOW_URL and your network, or run `pf server status`.",
            data={"url": self.url},
        )


def _user_agent() -> str:
    """What `pf session list` shows of this machine's logins."""
    host = platform.node().encode("ascii", "ignore").decode()
    return f"PeriFlow/{__version__} ({host or 'unknown'})"


def _retry_after(response: httpx.Response) -> float:
    """The seconds that an answer asks to wait; 0 if it asks for nothing that can be read."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return 0.0


def _problem(response: httpx.Response) -> dict[str, Any]:
    title = f"{response.request.url} answered {response.status_code}"
    return _document(response) or {"title": title}


def _document(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if it has none."""
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def path_segment(reference: int | str) -> str:
    """A name as one part of a path, whatever characters it has."""
    return quote(str(reference), safe="")
