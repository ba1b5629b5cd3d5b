"""How a process reaches the control plane: with its job's token, or with a login."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.embedded import embedded_url
from periflow_sdk.api.login import Login
from periflow_sdk.environment import DataEnvironment, home
from periflow_sdk.errors import NotFoundError, UsageError

_TRIES = 4
_KEY_PREFIX = "pf_key_"
_FOLDER_FILE = Path(".periflow.toml")


@dataclass(frozen=True)
class JobConnection:
    """A job's process; the token can do only what the job needs."""

    url: str
    token_file: Path

    def __call__(self) -> ApiClient:
        """A new client."""
        return ApiClient(self.url, self.token_file.read_text(encoding="utf-8").strip())


@dataclass(frozen=True)
class LoginConnection:
    """Somebody who is logged in, or has an API key; ``url`` is None for the local server."""

    url: str | None
    home: Path
    api_key: str | None = field(repr=False)

    def __call__(self) -> ApiClient:
        """A new client."""
        login = Login(self.home, self.url or "local", self.api_key)
        return login.client(self.url or embedded_url(self.home), tries=_TRIES)


def login_connection(environment: DataEnvironment) -> LoginConnection:
    """The login that `pf` would use here.

    Raises:
        UsageError: there is none.
    """
    folder = home()
    url = environment.url or _document(folder / "config.json").get("url") or None
    server = str(url).rstrip("/") if url else None
    sessions = _document(folder / "session.json")
    if not environment.api_key and not isinstance(sessions.get(server or "local"), dict):
        raise UsageError(
            f"reading a dataset needs a login, and there is none to {url or 'the local server'}",
            hint="pf login, or set PERIFLOW_API_KEY",
        )
    return LoginConnection(server, folder, environment.api_key)


def current_project(
    client: ApiClient, connection: LoginConnection, environment: DataEnvironment
) -> str:
    """The id of the project that `pf` would use here.

    Raises:
        UsageError: none is chosen.
        NotFoundError: it is not there.
    """
    if (connection.api_key or "").startswith(_KEY_PREFIX):
        return client.current_key().project_id  # a key belongs to one project
    config = _document(connection.home / "config.json")
    server = connection.url or "local"
    is_current = config.get("server", server) == server
    said = _folder_file()
    places: dict[str, dict[str, Any]] = {}
    for noun, name in (
        ("organization", environment.organization or said.get("organization")),
        ("project", environment.project or said.get("project")),
    ):
        place = {"name": name} if name else config.get(noun) if is_current else None
        if not isinstance(place, dict):
            raise UsageError(
                f"reading a dataset needs a current {noun}, and none is chosen",
                hint=f"pf {'org' if noun == 'organization' else noun} switch NAME",
            )
        places[noun] = place
    if identifier := places["project"].get("id"):
        return str(identifier)
    return _project_named(client, places["organization"]["name"], places["project"]["name"])


def _project_named(client: ApiClient, organization: str, project: str) -> str:
    for each in client.organizations():
        if each.name == organization:
            for found in client.projects(each.id):
                if found.name == project:
                    return found.id
    raise NotFoundError(
        f"There is no project {project} in organization {organization}.",
        code="project_not_found",
        hint="pf project list",
    )


def _folder_file() -> dict[str, str]:
    """The organization and project that a file in the working directory names."""
    try:
        document = tomllib.loads(_FOLDER_FILE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in document.items() if isinstance(value, str)}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
