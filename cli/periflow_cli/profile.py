"""The files of PERIFLOW_HOME that `pf` keeps: config.json and session.json."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from periflow_sdk.environment import home
from periflow_sdk.errors import PeriFlowError


@dataclass(frozen=True)
class Place:
    """An organization or a project: id and name."""

    id: str
    name: str


@dataclass(frozen=True)
class Login:
    """Tokens of one login at one control plane."""

    access_token: str
    refresh_token: str
    expires_at: str
    username: str


@dataclass(frozen=True)
class Settings:
    """What flags and environment say; None where they say nothing."""

    url: str | None = None
    api_key: str | None = None
    organization: str | None = None
    project: str | None = None


def settings(
    *,
    url: str | None = None,
    organization: str | None = None,
    project: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Settings:
    """Flags before the environment.

    Args:
        variables: The environment; ``os.environ`` if None.
    """
    env = os.environ if variables is None else variables
    return Settings(
        url=url or env.get("PERIFLOW_URL") or None,
        api_key=env.get("PERIFLOW_API_KEY") or None,
        organization=organization or env.get("PERIFLOW_ORG") or None,
        project=project or env.get("PERIFLOW_PROJECT") or None,
    )


class Profile:
    """Reads and writes the two files; every write is whole or not there at all.

    Args:
        folder: The home; PERIFLOW_HOME or ~/.periflow if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home()

    @property
    def url(self) -> str | None:
        """The control plane that config.json names."""
        return self._read("config.json").get("url") or None

    def place(self, noun: str, server: str) -> Place | None:
        """The current ``organization`` or ``project`` at a server, if one was chosen."""
        config = self._read("config.json")
        entry = config.get(noun)
        if not isinstance(entry, dict) or config.get("server", server) != server:
            return None
        return Place(str(entry["id"]), str(entry["name"]))

    def choose(self, server: str, organization: Place | None, project: Place | None) -> None:
        """Make an organization and a project the current ones (None: none)."""
        with self._locked():
            config = self._read("config.json")
            config["server"] = server
            for noun, place in (("organization", organization), ("project", project)):
                config.pop(noun, None)
                if place is not None:
                    config[noun] = {"id": place.id, "name": place.name}
            self._write("config.json", config)

    def login(self, server: str) -> Login | None:
        """The login at a server, if there is one."""
        entry = self._read("session.json").get(server)
        if not isinstance(entry, dict):
            return None
        return Login(**{name: str(entry.get(name, "")) for name in Login.__dataclass_fields__})

    def save_login(self, server: str, login: Login | None) -> None:
        """Keep a login (None: forget it)."""
        with self._locked():
            self._put_login(server, login)

    @contextmanager
    def refreshing(self, server: str) -> Iterator[Refresh]:
        """One process at a time: refresh tokens change at use, and two users of one lose it."""
        with self._locked():
            yield Refresh(self, server)

    def _put_login(self, server: str, login: Login | None) -> None:
        sessions = self._read("session.json")
        sessions.pop(server, None)
        if login is not None:
            sessions[server] = dict(vars(login))
        self._write("session.json", sessions)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "profile.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise PeriFlowError(
                f"{path} is not JSON: {error}.", hint=f"Delete {path} and log in again."
            ) from error
        return value if isinstance(value, dict) else {}

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        temporary = self.folder / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(value, file, indent=2)
            temporary.replace(self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


class Refresh:
    """The login as it is now, while no other `pf` can change it."""

    def __init__(self, profile: Profile, server: str) -> None:
        self._profile = profile
        self._server = server
        self.login = profile.login(server)

    def save(self, login: Login | None) -> None:
        """Keep the refreshed login (None: it is over)."""
        self._profile._put_login(self._server, login)
