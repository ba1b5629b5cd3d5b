"""What routes ask for: the database, the store, who calls, and what he may do.

    @router.get("/projects/{project}/things")
    def list_things(
        access: Annotated[ProjectAccess, project_access(Action.JOB_READ)], database: Db
    ) -> Page[m.Thing]:
        with database.read() as session:
            return thing.list_things(session, access.project_id)

    @router.post("/projects/{project}/things", status_code=201, response_model=m.Thing)
    def create_thing(access: ..., body: m.ThingCreate, once: Once) -> Response:
        return once(access.user_id, lambda session: thing.create(session, access, body))

Routes are plain ``def`` (they run in the thread pool) and keep sessions short. ``project_access``
expects the path parameter ``project``. It takes the token of a member, or the token of a job of
this project for the actions of ``Role.JOB``. Routes below ``/agent`` take a ``CurrentAttempt``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

from periflow_sdk.errors import InvalidRequestError, LoginRequiredError
from periflow_server.db.base import Database, Session
from periflow_server.db.key import ApiKey
from periflow_server.permissions import Action
from periflow_server.services import access, idempotency, key, throttle, token
from periflow_server.services.access import ProjectAccess
from periflow_server.services.login import Client
from periflow_server.services.organization import (
    OrganizationAccess,
    key_member_access,
    member_access,
)
from periflow_server.services.throttle import Limited
from periflow_server.services.token import AttemptIdentity
from periflow_server.services.vault import Vault
from periflow_server.settings import Settings
from periflow_server.storage.store import Store

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A list's answer; ``next_cursor`` asks for what follows."""

    items: list[T]
    next_cursor: str | None = None


Limit = Annotated[int, Query(ge=1, le=500)]
Cursor = Annotated[str | None, Query(max_length=200)]


@dataclass(frozen=True)
class Caller:
    """A user, and how he shows that it is he: by the login ``family``, or by an API ``key``."""

    id: str
    username: str
    family: str
    key: ApiKey | None = None


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _vault(request: Request) -> Vault:
    vault: Vault = request.app.state.vault
    return vault


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _base_url(request: Request) -> str:
    """The server's address as this client knows it."""
    settings: Settings = request.app.state.settings
    return settings.public_url or str(request.base_url)


async def _body(request: Request) -> bytes:
    return await request.body()


RawBody = Annotated[bytes, Depends(_body)]
"""The body as it came, of any content type; name it after the access, which is then asked first."""
Db = Annotated[Database, Depends(_database)]
CurrentStore = Annotated[Store, Depends(_store)]
CurrentVault = Annotated[Vault, Depends(_vault)]
BaseUrl = Annotated[str, Depends(_base_url)]
CurrentSettings = Annotated[Settings, Depends(_settings)]


async def _bearer(request: Request) -> str:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise LoginRequiredError("Log in first.", hint="Run `pf login`.")
    return text.strip()


Bearer = Annotated[str, Depends(_bearer)]


def _note_use(found: ApiKey | None, database: Database) -> None:
    if found is not None and key.is_use_to_note(found):
        with database.write() as session:
            key.note_use(session, found)


def _current_reader(bearer: Bearer, database: Db) -> Caller:
    with database.read() as session:
        found = token.authenticate(session, bearer)
    _note_use(found.key, database)
    return Caller(found.user.id, found.user.username, found.login or "", found.key)


def _current_user(reader: Annotated[Caller, Depends(_current_reader)]) -> Caller:
    if reader.key is not None:
        raise access.login_needed(reader.key.name)
    return reader


def _current_attempt(bearer: Bearer, database: Db) -> AttemptIdentity:
    with database.read() as session:
        return token.authenticate_job(session, bearer)


CurrentReader = Annotated[Caller, Depends(_current_reader)]
"""Who calls, with a login or with an API key; of a key only what it is for may be answered."""
CurrentUser = Annotated[Caller, Depends(_current_user)]
"""Who calls with a login: a key is refused."""
CurrentAttempt = Annotated[AttemptIdentity, Depends(_current_attempt)]


def project_access(action: Action) -> Any:
    """The dependency that lets in who may do ``action`` in the project of the path."""

    def _access(project: str, bearer: Bearer, database: Db) -> ProjectAccess:
        with database.read() as session:
            if token.is_job_token(bearer):
                identity = token.authenticate_job(session, bearer)
                return access.job_access(session, project, identity, action)
            found = token.authenticate(session, bearer)
            if found.key is None:
                return access.user_access(session, project, found.user.id, action)
            granted = access.key_access(session, project, found.key, action)
        _note_use(found.key, database)
        return granted

    _access.action = action  # type: ignore[attr-defined]
    return Depends(_access)


def organization_access(action: Action, *, keys: bool = False) -> Any:
    """The dependency that lets in who may do ``action`` in the organization of the path.

    Args:
        keys: API keys too; the service looks at ``project_id`` then.
    """

    def _access(organization: str, user: CurrentReader, database: Db) -> OrganizationAccess:
        with database.read() as session:
            if user.key is not None:
                if not keys:
                    raise access.login_needed(user.key.name)
                return key_member_access(session, organization, user.key, action)
            return member_access(session, organization, user.id, action)

    _access.action = action  # type: ignore[attr-defined]
    return Depends(_access)


async def _client(request: Request, settings: CurrentSettings) -> Client:
    # All who reach an embedded server come from the same address.
    address = request.client.host if request.client and not settings.embedded else None
    return Client(request.headers.get("user-agent", ""), address)


CurrentClient = Annotated[Client, Depends(_client)]


class _Throttle:
    """Uses up one try of what is limited, before the work is done."""

    def __init__(self, database: Database, settings: Settings, client: Client) -> None:
        self._database = database
        self._factor = settings.rate_factor
        self._address = client.address

    def __call__(self, what: Limited, account: str) -> None:
        """Raises RateLimitedError when no try is left.

        Args:
            account: Whom it is about: a name as it was typed, an address, a user's id.
        """
        with self._database.write() as session:
            throttle.take(
                session, what, account=account, address=self._address, factor=self._factor
            )

    def give_back(self, what: Limited, account: str) -> None:
        """The account's owner was there: his earlier tries from here are forgotten."""
        with self._database.write() as session:
            throttle.give_back(session, what, account=account, address=self._address)


def _throttle(database: Db, settings: CurrentSettings, client: CurrentClient) -> _Throttle:
    return _Throttle(database, settings, client)


Throttle = Annotated[_Throttle, Depends(_throttle)]


class _Once:
    """Runs a creating transaction once per ``Idempotency-Key`` of a caller and path."""

    def __init__(self, request: Request, database: Database) -> None:
        self._request = request
        self._database = database

    def __call__(
        self,
        caller: str,
        create: Callable[[Session], BaseModel],
        *,
        status_code: int = 201,
    ) -> Response:
        """Answer with what ``create`` gives, or gave the first time.

        Args:
            caller: The user's, attempt's or other identity that keys belong to.
        """
        key = self._request.headers.get("idempotency-key")
        if key is not None and not 0 < len(key) <= 200:
            raise InvalidRequestError("An Idempotency-Key has 1 to 200 characters.")
        path = self._request.url.path
        answer = idempotency.create_once(self._database, caller, path, key, create)
        return Response(answer, status_code=status_code, media_type="application/json")


async def _once(request: Request, database: Db) -> _Once:
    return _Once(request, database)


Once = Annotated[_Once, Depends(_once)]


def needs_login(calls: Collection[Any]) -> bool:
    """Whether a route with these dependencies answers to a token only."""
    return _bearer in calls


def reads_body(calls: Collection[Any]) -> bool:
    """Whether a route with these dependencies takes a body of any type."""
    return _body in calls


def is_throttled(calls: Collection[Any]) -> bool:
    """Whether a route with these dependencies limits how often it is asked."""
    return _throttle in calls
