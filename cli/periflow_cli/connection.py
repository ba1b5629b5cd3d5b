"""A connection to the control plane: the address, the login, the organization and project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property

from periflow_cli.group import Invocation
from periflow_cli.localserver import LocalServer
from periflow_cli.names import unknown
from periflow_cli.profile import Login, Place, Profile, Settings, settings
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import CurrentApiKey, Organization, Project, Session
from periflow_sdk.errors import (
    ApiError,
    LoginRequiredError,
    PeriFlowError,
    ServerUnreachableError,
    UsageError,
)

LOCAL = "local"
_TRIES = 3
_KEY_PREFIX = "pf_key_"


class Connection:
    """What a command talks through.

    ``client`` carries the login. ``key`` names the control plane in the profile: its address, or
    ``local``. ``local`` is the embedded server, None for another one.
    """

    def __init__(
        self,
        url: str,
        key: str,
        profile: Profile,
        wanted: Settings,
        local: LocalServer | None,
    ) -> None:
        self.url = url
        self.key = key
        self.profile = profile
        self.local = local
        self._wanted = wanted
        self._login = profile.login(key)
        self.client = self.open_client()

    def open_client(self, tries: int = _TRIES) -> ApiClient:
        """A client with the login, which it refreshes when it has expired."""
        return ApiClient(
            self.url,
            self._token,
            tries=tries,
            connect_seconds=2.0,
            on_unauthorized=None if self._wanted.api_key else self._refresh,
        )

    def open_anonymous_client(self) -> ApiClient:
        """A client that carries no login."""
        return ApiClient(self.url, tries=_TRIES, connect_seconds=2.0)

    @property
    def has_login(self) -> bool:
        return self._token() is not None

    @property
    def username(self) -> str | None:
        """Who is logged in, as far as the profile knows."""
        return self._login.username if self._login else None

    def log_in(self, session: Session) -> None:
        """Keep a fresh login; the one before ends, what another user had chosen is forgotten."""
        previous = self._login
        self._login = _login_of(session)
        self.profile.save_login(self.key, self._login)
        if previous is None or previous.username != self._login.username:
            self.profile.choose(self.key, None, None)
        if previous is not None:
            self._end(previous)

    def _end(self, login: Login) -> None:
        """End a login whose tokens are kept nowhere any more; what already ended it is no news."""
        with suppress(PeriFlowError):
            with self.open_anonymous_client() as client:
                tokens = client.refresh(login.refresh_token)
            with ApiClient(self.url, lambda: tokens.access_token, tries=1) as client:
                client.log_out()

    def forget_login(self) -> None:
        """Drop the login and what was chosen with it."""
        self._login = None
        self.profile.save_login(self.key, None)
        self.profile.choose(self.key, None, None)

    @cached_property
    def api_key(self) -> CurrentApiKey | None:
        """The API key of the environment, which belongs to one project; None for a login."""
        if not (self._wanted.api_key or "").startswith(_KEY_PREFIX):
            return None
        return self.client.current_key()

    @cached_property
    def organization(self) -> Place:
        """The organization to work in.

        Raises:
            UsageError: none was chosen.
            NotFoundError: the one that a flag or the environment names does not exist.
        """
        if self._wanted.organization:
            found = self.client.organizations()
            return _pick(found, self._wanted.organization, "organization")
        if (key := self.api_key) is not None:
            return Place(key.organization_id, key.organization_name)
        if place := self.profile.place("organization", self.key):
            return place
        raise UsageError(
            "No organization is chosen.",
            code="no_organization",
            hint="pf org switch NAME, or pf org create NAME",
        )

    @cached_property
    def project(self) -> Place:
        """The project to work in; raises as ``organization`` does."""
        organization = self.organization
        if self._wanted.project:
            found = self.client.projects(organization.id)
            return _pick(found, self._wanted.project, "project")
        if (key := self.api_key) is not None and key.organization_id == organization.id:
            return Place(key.project_id, key.project_name)
        place = self.profile.place("project", self.key)
        # A project chosen in one organization means nothing in another.
        if place and organization == self.profile.place("organization", self.key):
            return place
        raise UsageError(
            f"No project is chosen in organization {organization.name}.",
            code="no_project",
            hint="pf project switch NAME, or pf project create NAME",
        )

    def _token(self) -> str | None:
        if self._wanted.api_key:
            return self._wanted.api_key
        return self._login.access_token if self._login else None

    def _refresh(self) -> bool:
        used = self._login
        if used is None:
            return False
        with self.profile.refreshing(self.key) as refresh:
            if refresh.login and refresh.login.access_token != used.access_token:
                # Another pf was faster; the refresh token we know is used up.
                self._login = refresh.login
                return True
            try:
                with self.open_anonymous_client() as client:
                    self._login = _login_of(client.refresh(used.refresh_token))
            except LoginRequiredError:
                self._login = None
            refresh.save(self._login)
        return self._login is not None


def connect(invocation: Invocation, *, login: bool = True) -> Connection:
    """See ``Invocation.connect``."""
    wanted = settings(
        url=invocation.url, organization=invocation.organization, project=invocation.project
    )
    profile = Profile()
    url = wanted.url or profile.url
    if url:
        connection = _open_remote(url.rstrip("/"), profile, wanted)
        if login and not connection.has_login:
            raise _not_logged_in(connection.url)
        return connection
    if login and not wanted.api_key and profile.login(LOCAL) is None:
        raise _not_logged_in("the local server")
    if wanted.api_key and not (profile.folder / "server").exists():
        raise UsageError(
            "PERIFLOW_API_KEY is set, but not the server that the key is of.",
            code="no_url",
            hint="export PERIFLOW_URL=http://HOST:PORT (`pf key create` has shown it)",
        )
    return open_local(profile, wanted, invocation.output.note)


def _open_remote(url: str, profile: Profile, wanted: Settings) -> Connection:
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"{url!r} is no address of a control plane.",
            hint="Set PERIFLOW_URL to http://HOST:PORT or https://HOST, or unset it.",
        )
    connection = Connection(url, url, profile, wanted, None)
    if not connection.has_login:
        # An address that nobody answers at is the first thing to know.
        try:
            connection.client.server_info()
        except (ApiError, ValueError) as error:
            raise ServerUnreachableError(
                f"{url} answers, but not as a PeriFlow control plane.",
                hint="Check PERIFLOW_URL.",
                data={"url": url},
            ) from error
    return connection


def open_local(profile: Profile, wanted: Settings, note: Callable[[str], None]) -> Connection:
    """Connect to the embedded server, starting it if it does not run."""
    local = LocalServer(profile.folder)
    return Connection(local.ensure(note).url, LOCAL, profile, wanted, local)


def reopen(connection: Connection, note: Callable[[str], None]) -> Connection:
    """A connection in place of one that broke; a local server that is gone is started again."""
    if connection.local is None:
        return connection
    return open_local(connection.profile, connection._wanted, note)


def _pick(things: Sequence[Organization] | Sequence[Project], name: str, noun: str) -> Place:
    for thing in things:
        if name in (thing.name, thing.id):
            return Place(thing.id, thing.name)
    command = "pf org list" if noun == "organization" else "pf project list"
    raise unknown(noun, name, (thing.name for thing in things), command)


def _login_of(session: Session) -> Login:
    return Login(
        access_token=session.access_token,
        refresh_token=session.refresh_token,
        expires_at=session.expires_at.isoformat(),
        username=session.user.username,
    )


def _not_logged_in(where: str) -> LoginRequiredError:
    return LoginRequiredError(
        f"You are not logged in to {where}.", hint="pf login (or pf signup for a new account)"
    )
