"""Requests for which this server asks another service, or its own store, and waits for the answer.

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

# Of the forty threads that answer requests; and twenty connections to the database, of which those
# who ask the store may hold one.
_AT_ONCE = 12
_OF_ONE_CALLER = 6
# With the time that an answer may take this is less than clients wait.
_PATIENCE_SECONDS = 8.0
_RETRY_SECONDS = 5


class BusyError(ApiError):
    """The turn did not come in time; later it may."""

    default_code = "busy"
    status: ClassVar[int] = 503

    def __init__(self, whose: str) -> None:
        super().__init__(
            f"The server waits for too many answers of {whose} just now.",
            hint="Run the same command again in a minute; a service may be slow or down.",
            data={"retry_after_seconds": _RETRY_SECONDS},
        )


class Turnstile:
    """Lets so many through at once, and so many of each caller.

    Args:
        whose: Answers are waited for, in words.
    """

    def __init__(self, whose: str, of_one_caller: int = _OF_ONE_CALLER) -> None:
        self._whose = whose
        self._of_one_caller = of_one_caller
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @classmethod
    def of_services(cls) -> Turnstile:
        """Before what belongs to others: one that is slow is slow for who uses it."""
        return cls("storage and other services")

    @classmethod
    def of_store(cls) -> Turnstile:
        """Before the server's own store, which is slow for all."""
        return cls("its store", of_one_caller=_AT_ONCE)

    @asynccontextmanager
    async def turn(self, caller: str = "") -> AsyncIterator[None]:
        """One's turn, for the length of the block.

        Raises:
            BusyError: it did not come in time.
        """
        own = self._own.setdefault(caller, asyncio.Semaphore(self._of_one_caller))
        deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        async with self._acquired(own, deadline), self._acquired(self._all, deadline):
            yield

    @asynccontextmanager
    async def _acquired(self, places: asyncio.Semaphore, deadline: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline):
                await places.acquire()
        except TimeoutError:
            raise BusyError(self._whose) from None
        try:
            yield
        finally:
            places.release()


async def _turn(request: Request, bearer: Bearer) -> AsyncIterator[None]:
    turnstile: Turnstile = request.app.state.turnstile
    async with turnstile.turn(bearer):
        yield


async def _store_turn(request: Request) -> AsyncIterator[None]:
    turnstile: Turnstile = request.app.state.store_turnstile
    async with turnstile.turn():
        yield


# It is over before the answer is sent, which a client may take its time to read.
Turn = Annotated[None, Depends(_turn, scope="function")]
"""Name it last: who may not ask for this has no turn."""
StoreTurn = Annotated[None, Depends(_store_turn, scope="function")]
"""The same before the server's own store."""
