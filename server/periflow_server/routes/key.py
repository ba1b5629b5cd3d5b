"""API keys of a project."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentReader,
    CurrentUser,
    Cursor,
    Db,
    Limit,
    Page,
    project_access,
)
from periflow_server.services import access as accesses
from periflow_server.services import key as service
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX, tags=["keys"])

Access = Annotated[ProjectAccess, project_access(Action.KEY_MANAGE)]


@router.post("/projects/{project}/keys", status_code=201)
def create_key(
    access: Access, user: CurrentUser, body: m.ApiKeyCreate, database: Db
) -> m.ApiKeySecret:
    """Make an API key for machines; its text is in this answer and nowhere else."""
    with database.write() as session:
        return service.create(session, access, body)


@router.get("/projects/{project}/keys")
def list_keys(
    access: Access, database: Db, cursor: Cursor = None, limit: Limit = 100
) -> Page[m.ApiKey]:
    """The caller's API keys in the project; an admin sees everybody's."""
    with database.read() as session:
        items, following = service.keys(session, access, cursor, limit)
    return Page(items=items, next_cursor=following)


@router.delete("/projects/{project}/keys/{key}", status_code=204)
def delete_key(access: Access, user: CurrentUser, key: str, database: Db) -> None:
    """End an API key, by its name or id; it stops working at once."""
    with database.write() as session:
        service.delete(session, access, key)


@router.get("/keys/current")
def current_key(reader: CurrentReader, database: Db) -> m.CurrentApiKey:
    """The API key that this request is made with, and where it works."""
    if reader.key is None:
        raise NotFoundError(
            "This is a login, not an API key.", code="key_not_found", hint="Run `pf key list`."
        )
    with database.read() as session:
        found = accesses.key_access(session, reader.key.project_id, reader.key, Action.PROJECT_READ)
        return service.current(session, reader.key, found.role)
