"""The files of PERIFLOW_HOME that `pf` keeps: config.json and session.json."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from periflow_sdk.environment import home
from periflow_sdk.errors import PeriFlowError, UsageError

FOLDER_FILE = ".periflow.toml"


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
    """What flags, environment and the folder's file say; None where they say nothing.

    ``origins`` names, for each of them that is said, where.
    """

    url: str | None = None
    api_key: str | None = None
    organization: str | None = None
    project: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def settings(
    *,
    url: str | None = None,
    organization: str | None = None,
    project: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Settings:
    """Flags before the environment before the file ``.periflow.toml`` of the folder.

    The file names an organization and a project and nothing else: who unpacks the files of others
    does not want his requests to go where they say.

    Args:
        variables: The environment; ``os.environ`` if None.

    Raises:
        UsageError: the file cannot be read.
    """
    env = os.environ if variables is None else variables
    folder = _folder_file(Path(FOLDER_FILE))
    said = {
        "url": (("--url", url), ("PERIFLOW_URL", env.get("PERIFLOW_URL"))),
        "api_key": (("PERIFLOW_API_KEY", (env.get("PERIFLOW_API_KEY") or "").strip()),),
        "organization": (
            ("--org", organization),
            ("PERIFLOW_ORG", env.get("PERIFLOW_ORG")),
            (FOLDER_FILE, folder.get("organization")),
        ),
        "project": (
            ("--project", project),
            ("PERIFLOW_PROJECT", env.get("PERIFLOW_PROJECT")),
            (FOLDER_FILE, folder.get("project")),
        ),
    }
    chosen = {
        name: next(((origin, value) for origin, value in ways if value), None)
        for name, ways in said.items()
    }
    values = {name: found[1] for name, found in chosen.items() if found}
    origins = {name: found[0] for name, found in chosen.items() if found}
    return Settings(**values, origins=origins)


def _folder_file(path: Path) -> dict[str, str]:
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    import tomllib

    try:
        document = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise UsageError(
            f"{path} is not TOML: {error}.", hint=f"Correct or delete {path}."
        ) from None
    unknown = sorted(set(document) - {"organization", "project"})
    if unknown or not all(isinstance(value, str) for value in document.values()):
        raise UsageError(
            f"{path} may have the names of an organization and a project, and nothing else"
            f"{': ' + ', '.join(unknown) if unknown else ''}.",
            hint=f"Correct or delete {path}.",
        )
    return {name: str(value) for name, value in document.items()}


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

    def choose_server(self, url: str | None) -> None:
        """Have config.json name a control plane (None: the local one)."""
        with self._locked():
            config = self._read("config.json")
            config.pop("url", None)
            if url is not None:
                config["url"] = url
            self._write("config.json", config)

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
