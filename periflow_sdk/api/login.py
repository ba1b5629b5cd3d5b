"""The login that `pf` keeps in PERIFLOW_HOME, as a script or an agent beside it uses it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import LoginRequiredError


class Login:
    """The tokens of one control plane; refreshed under the lock that `pf` takes for it, too.

    Args:
        home: PERIFLOW_HOME.
        server: The control plane's key in session.json: its address, or ``local``.
        api_key: Takes the place of the file's tokens.
    """

    def __init__(self, home: Path, server: str, api_key: str | None = None) -> None:
        self._home = home
        self._server = server
        self._api_key = api_key
        self._entry = self._read()

    def client(self, url: str, *, tries: int = 1) -> ApiClient:
        """A client with this login.

        Args:
            tries: How often each call is tried that could not be delivered.
        """
        return ApiClient(
            url,
            self._token,
            timeout_seconds=20,
            tries=tries,
            on_unauthorized=None if self._api_key else lambda: self._refresh(url),
        )

    def _token(self) -> str | None:
        return self._api_key or self._entry.get("access_token")

    def _refresh(self, url: str) -> bool:
        with self._locked():
            current = self._read()
            if current.get("access_token") == self._entry.get("access_token"):
                current = self._exchange(url, current)
            self._entry = current
        return bool(current)

    def _exchange(self, url: str, entry: dict[str, str]) -> dict[str, str]:
        if not entry:
            return {}
        try:
            with ApiClient(url, timeout_seconds=20, tries=1) as client:
                session = client.refresh(entry["refresh_token"])
        except LoginRequiredError:
            return {}
        fresh = {
            "access_token": session.access_token,
            "refresh_token": session.refresh_token,
            "expires_at": session.expires_at.isoformat(),
            "username": session.user.username,
        }
        self._save(fresh)
        return fresh

    def _read(self) -> dict[str, str]:
        entry = self._sessions().get(self._server)
        return entry if isinstance(entry, dict) else {}

    def _sessions(self) -> dict[str, Any]:
        try:
            document = json.loads((self._home / "session.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    def _save(self, entry: dict[str, str]) -> None:
        document = {**self._sessions(), self._server: entry}
        temporary = self._home / f".session.json.{secrets.token_hex(4)}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
        temporary.replace(self._home / "session.json")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._home / "profile.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
