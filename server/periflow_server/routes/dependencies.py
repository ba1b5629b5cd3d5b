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

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

from periflow_sdk.errors import InvalidRequestError, LoginRequiredError
from periflow_server.db.base import Database, Session
from periflow_server.permissions import Action
from periflow_server.services import access, idempotency, token
from periflow_server.services.access import ProjectAccess
from periflow_server.services.organization import OrganizationAccess, member_access
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
    """A user who is logged in, and the login it is."""

    id: str
    username: str
    family: str


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


def _current_user(bearer: Bearer, database: Db) -> Caller:
    with database.read() as session:
        user, family = token.authenticate(session, bearer)
        return Caller(user.id, user.username, family)


def _current_attempt(bearer: Bearer, database: Db) -> AttemptIdentity:
    with database.read() as session:
        return token.authenticate_job(session, bearer)


CurrentUser = Annotated[Caller, Depends(_current_user)]
CurrentAttempt = Annotated[AttemptIdentity, Depends(_current_attempt)]


def project_access(action: Action) -> Any:
    """The dependency that lets in who may do ``action`` in the project of the path."""

    def _access(project: str, bearer: Bearer, database: Db) -> ProjectAccess:
        with database.read() as session:
            if token.is_job_token(bearer):
                identity = token.authenticate_job(session, bearer)
                return access.job_access(session, project, identity, action)
            user, _ = token.authenticate(session, bearer)
            return access.user_access(session, project, user.id, action)

    _access.action = action  # type: ignore[attr-defined]
    return Depends(_access)


def organization_access(action: Action) -> Any:
    """The dependency that lets in who may do ``action`` in the organization of the path."""

    def _access(organization: str, user: CurrentUser, database: Db) -> OrganizationAccess:
        with database.read() as session:
            return member_access(session, organization, user.id, action)

    _access.action = action  # type: ignore[attr-defined]
    return Depends(_access)


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
