"""Run the application with uvicorn until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn

from periflow_server.app import create_app
from periflow_server.settings import Settings

_GRACE_SECONDS = 3


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def serve(settings: Settings, bound: socket.socket, on_ready: Callable[[], None]) -> int:
    """Answer on the socket until SIGTERM or SIGINT; requests under way get a few seconds.

    Args:
        on_ready: Called when the server really answers.

    Returns:
        The exit code: 0 after a signal, 1 when it could not start.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    # It logs addresses, and some that users give are secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(settings),
        http="httptools",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, on_ready)

    def end(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn listens for signals, and after: it raises them once more when it is done.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        server.run(sockets=[bound])
    except SystemExit:
        return 1
    return 0 if server.started else 1
