"""Requests for which this server asks somebody else's service, and waits for its answer.

Each waits in a thread. Only so many do at once, and fewer for one caller: those behind them stand
in line without a thread, so a bucket that never answers keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar
from weakref import WeakValueDictionary

from fastapi import Depends, Request

from periflow_sdk.errors import ApiError
from periflow_server.routes.dependencies import Bearer

# Of the forty threads that answer requests.
_AT_ONCE = 16
_OF_ONE_CALLER = 6
_PATIENCE_SECONDS = 20.0
_RETRY_SECONDS = 5


class BusyError(ApiError):
    """The turn did not come in time; later it may."""

    default_code = "busy"
    status: ClassVar[int] = 503

    def __init__(self) -> None:
        super().__init__(
            "The server waits for too many answers of storage and other services just now.",
            hint="Run the same command again in a minute; a service may be slow or down.",
            data={"retry_after_seconds": _RETRY_SECONDS},
        )


class Turnstile:
    """Lets so many through at once, and so many of each caller."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, caller: str) -> AsyncIterator[None]:
        """One's turn, for the length of the block.

        Raises:
            BusyError: it did not come in time.
        """
        own = self._own.setdefault(caller, asyncio.Semaphore(_OF_ONE_CALLER))
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        async with _acquired(own, deadline), _acquired(self._all, deadline):
            yield


@asynccontextmanager
async def _acquired(places: asyncio.Semaphore, deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            await places.acquire()
    except TimeoutError:
        raise BusyError from None
    try:
        yield
    finally:
        places.release()


async def _turn(request: Request, bearer: Bearer) -> AsyncIterator[None]:
    turnstile: Turnstile = request.app.state.turnstile
    async with turnstile.turn(bearer):
        yield


Turn = Annotated[None, Depends(_turn)]
"""Name it last: who may not ask for this has no turn."""
