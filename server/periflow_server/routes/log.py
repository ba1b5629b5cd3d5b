"""The log of a job."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from periflow_sdk.api import models as m
from periflow_server.db.base import Database
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import CurrentStore, Db, project_access
from periflow_server.services import job as jobs
from periflow_server.services.access import ProjectAccess, renew
from periflow_server.services.logpage import LogReader
from periflow_server.storage.store import Store

router = APIRouter(prefix=PREFIX + "/projects/{project}/jobs/{job}/log", tags=["logs"])

_LONGEST_WAIT_SECONDS = 30.0
_POLL_SECONDS = 0.15


@router.get("")
async def job_log(
    access: Annotated[ProjectAccess, project_access(Action.JOB_READ)],
    job: str,
    database: Db,
    store: CurrentStore,
    request: Request,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    tail: bool = False,
    wait: Annotated[float, Query(ge=0)] = 0,
) -> m.LogPage:
    """Some lines: after ``cursor``, or from the start, or the last ones with ``tail``.

    With ``wait`` (seconds) the answer is held until there is a line or the job has ended.
    """
    deadline = time.monotonic() + min(wait, _LONGEST_WAIT_SECONDS)
    while True:
        async with request.app.state.store_turnstile.turn():
            page = await run_in_threadpool(_read, database, store, access, job, cursor, limit, tail)
        if page.lines or page.complete or time.monotonic() >= deadline:
            return page
        if request.app.state.closing.is_set() or await request.is_disconnected():
            return page
        await asyncio.sleep(_POLL_SECONDS)


def _read(
    database: Database,
    store: Store,
    access: ProjectAccess,
    job: str,
    cursor: str | None,
    limit: int,
    tail: bool,
) -> m.LogPage:
    with database.read() as session:
        renew(session, access, Action.JOB_READ)
        row, _ = jobs.find(session, access.project_id, job)
        reader = LogReader(session, store, row)
        return reader.tail(limit) if tail and cursor is None else reader.page(cursor, limit)
