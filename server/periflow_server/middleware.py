"""Around every request: an id, a bound on the body, and an answer when something breaks."""

from __future__ import annotations

import errno
import logging
import secrets
import sqlite3

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from periflow_server.problems import problem
from periflow_server.repetition import BEYOND, DISK_FULL

MIB = 1 << 20
_BODY_LIMIT = 2 * MIB
_STRANGERS_LIMIT = 64 * 1024
_FOR_STRANGERS = ("/api/v1/signups", "/api/v1/sessions", "/api/v1/password-resets", "/invite")
_LIMIT_BY_SUFFIX = {"/snapshots": 64 * MIB, "/agent/journal": 32 * MIB, "/agent/log": 32 * MIB}

logger = logging.getLogger("periflow_server")


class RequestMiddleware:
    """Names the request, bounds its body and turns a crash into a problem document.

    Bodies of ``/blobs/`` are streamed and bounded by their route.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope["request_id"] = secrets.token_hex(8)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
                if not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, _bounded(scope, receive), send_with_id)
        except Exception as error:
            logger.exception("Request %s %s %r failed", request_id, scope["method"], scope["path"])
            if started:
                raise
            await _apology(error, request_id)(scope, receive, send_with_id)


def _apology(error: BaseException, request_id: str) -> Response:
    if _is_full(error):
        return problem(
            507,
            "server_disk_full",
            "The disk of the server is full.",
            hint="Make room where it keeps its data (`df -h`), then run it again.",
            request_id=request_id,
        )
    if _is_beyond(error):
        return problem(422, "invalid_request", BEYOND, request_id=request_id)
    return problem(
        500,
        "server_error",
        "The server failed to answer this request.",
        hint="Run `pf server logs` and look for the request id.",
        request_id=request_id,
    )


def _is_full(error: BaseException | None) -> bool:
    """Whether a disk took no more: one with files, or that of either database."""
    while error is not None:
        if (
            getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
            or getattr(error, "sqlstate", None) == DISK_FULL
        ):
            return True
        error = error.__cause__
    return False


def _is_beyond(error: BaseException | None) -> bool:
    """Whether SQLite was given what it cannot keep; PostgreSQL says so itself."""
    while error is not None:
        if isinstance(error, OverflowError | UnicodeEncodeError):
            return True
        error = error.__cause__
    return False


def _bounded(scope: Scope, receive: Receive) -> Receive:
    path: str = scope["path"]
    if "/blobs/" in path:
        return receive
    limit = next((n for end, n in _LIMIT_BY_SUFFIX.items() if path.endswith(end)), _BODY_LIMIT)
    if path.startswith(_FOR_STRANGERS):
        limit = _STRANGERS_LIMIT
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, f"The body is larger than {limit} bytes.")
        return message

    return receive_bounded
