"""Where an agent finds the control plane, and with what it speaks to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.folder import NodeFolder, read_json

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient


_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Endpoint:
    """An address, the file of the job token, and that of an embedded server's key (or None)."""

    url: str
    token_file: Path
    key_file: Path | None = None

    def connect(self, *, timeout_seconds: float = 30.0, tries: int = 4) -> ApiClient:
        """A client with the job token; see ``ApiClient`` for the arguments."""
        from periflow_sdk.api.client import ApiClient

        return ApiClient(
            self.url,
            self.token_file.read_text(encoding="utf-8").strip(),
            timeout_seconds=timeout_seconds,
            tries=tries,
            key_file=self.key_file,
        )


@dataclass(frozen=True)
class GrantedEndpoint:
    """That of an attached run: its agent asks for it, for as long as that takes."""

    folder: NodeFolder

    def connect(self) -> ApiClient:
        """A client with the job token, as soon as there is one."""
        while True:
            grant = read_json(self.folder / "assignment.json") or {}
            token = self.folder / "token"
            if grant.get("url") and token.is_file():
                return Endpoint(grant["url"], token).connect()
            time.sleep(_PAUSE_SECONDS)
