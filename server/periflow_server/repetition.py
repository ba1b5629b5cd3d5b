"""Requests whose transaction lost against another one are run again, unseen by who sent them.

On PostgreSQL two requests may want the same name at once, or wait for each other. One of them is
thrown out by the database; when it is run again, it sees what the other did and answers to that.
"""

from __future__ import annotations

import asyncio
import logging
import random

from sqlalchemy.exc import DataError, DBAPIError, NoResultFound, TimeoutError
from sqlalchemy.orm.exc import StaleDataError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from periflow_server.problems import problem

_TRIES = 4
_PAUSE_SECONDS = 0.05
_LOST_RACES = frozenset(
    {
        "23503",  # what it refers to was removed
        "23505",  # another has the name
        "40001",
        "40P01",  # a deadlock
    }
)
BEYOND = "A number or a text of this request is outside of what can be kept."
DISK_FULL = "53100"
_UNAVAILABLE = frozenset({"08", "53", "55", "57"})

logger = logging.getLogger("periflow_server")


class RepeatMiddleware:
    """Runs a request again while it loses, and answers for a database that is not there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "/blobs/" in scope["path"]:
            await self._app(scope, receive, send)
            return
        delivery = _Delivery(receive, send)
        for tried in range(1, _TRIES + 1):
            delivery.rewind()
            try:
                await self._app(dict(scope), delivery.receive, delivery.send)
                return
            except (DBAPIError, NoResultFound, StaleDataError, TimeoutError) as error:
                if delivery.is_answered:
                    raise
                if tried < _TRIES and _is_lost_race(error):
                    await asyncio.sleep(_PAUSE_SECONDS * tried * random.random())
                    continue
                await _refuse(error, scope, receive, send)
                return


class _Delivery:
    """A request that can be heard from its beginning again."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.is_answered = False
        self._receive = receive
        self._send = send
        self._heard: list[Message] = []
        self._next = 0

    def rewind(self) -> None:
        self._next = 0

    async def receive(self) -> Message:
        if self._next == len(self._heard):
            self._heard.append(await self._receive())
        self._next += 1
        return self._heard[self._next - 1]

    async def send(self, message: Message) -> None:
        self.is_answered = True
        await self._send(message)


def _state(error: Exception) -> str | None:
    """The SQLSTATE of an error; empty when the connection broke, None when it has none."""
    if not isinstance(error, DBAPIError):
        return None
    return getattr(error.orig, "sqlstate", None) or ("" if _is_disconnect(error) else None)


def _is_disconnect(error: DBAPIError) -> bool:
    return error.connection_invalidated or type(error.orig).__name__ == "OperationalError"


def _is_lost_race(error: Exception) -> bool:
    return isinstance(error, NoResultFound | StaleDataError) or _state(error) in _LOST_RACES


async def _refuse(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer for what the database said, or raise it again."""
    state = _state(error)
    request_id = scope.get("request_id")
    if isinstance(error, DataError):
        answer = problem(422, "invalid_request", BEYOND, request_id=request_id)
    elif state != DISK_FULL and (
        isinstance(error, TimeoutError) or state == "" or (state or "")[:2] in _UNAVAILABLE
    ):
        logger.error("Request %s: the database does not answer: %s", request_id, error)
        answer = problem(
            503,
            "database_unavailable",
            "The database does not answer in time.",
            hint="Try again in a moment.",
            request_id=request_id,
            headers={"Retry-After": "1"},
        )
    else:
        raise error
    await answer(scope, receive, send)
