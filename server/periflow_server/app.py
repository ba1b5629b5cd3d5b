"""The control plane as an ASGI application.

A module of ``routes/`` has a ``router``; name it in ``_ROUTES``. What routes and threads share is
on ``app.state``: ``settings``, ``database``, ``store``, ``vault``, ``turnstile`` and
``store_turnstile`` (what asks other services or the store passes it), ``wake`` (an Event the
scheduler waits on: set it when there is work), ``tidy`` (the same for the collector) and
``closing`` (an Event: set when the server ends; long waits return).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import APIRouter, FastAPI

from periflow_server import __version__, openapi, problems
from periflow_server.collector import Collector
from periflow_server.db.base import Database
from periflow_server.db.schema import prepare_schema
from periflow_server.mailer import Mailer
from periflow_server.middleware import RequestMiddleware
from periflow_server.notifier import Notifier
from periflow_server.pruner import Pruner
from periflow_server.repetition import RepeatMiddleware
from periflow_server.routes import invite
from periflow_server.routes.outgoing import Turnstile
from periflow_server.scheduler import Scheduler
from periflow_server.services import installation
from periflow_server.services.vault import Vault
from periflow_server.settings import Settings
from periflow_server.storage.opening import open_store

_ROUTES = (
    "server",
    "account",
    "session",
    "key",
    "organization",
    "invitation",
    "project",
    "snapshot",
    "blob",
    "credential",
    "dataset",
    "vm",
    "job",
    "log",
    "metric",
    "checkpoint",
    "notification",
    "agent",
)


def create_app(settings: Settings) -> FastAPI:
    """The application, on a database of its schema; its lifespan runs the scheduler.

    Raises:
        UsageError: the database is that of a newer version, of something else, or of servers
            with another key or store.
    """
    database = Database(settings.database, settings.database_connections)
    prepare_schema(database)
    store = open_store(settings)
    if not database.is_sqlite:
        installation.join(database, store, settings)
    app = FastAPI(
        title="PeriFlow",
        version=__version__,
        lifespan=_lifespan,
        openapi_url="/api/v1/openapi.json",
        docs_url="/api/v1/docs",
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.store = store
    app.state.vault = Vault.of(settings)
    app.state.mailer = Mailer(database, settings, app.state.vault)
    app.state.turnstile = Turnstile.of_services()
    app.state.store_turnstile = Turnstile.of_store()
    app.state.wake = threading.Event()
    app.state.tidy = threading.Event()
    app.state.closing = threading.Event()
    problems.install(app)
    if not database.is_sqlite:
        app.add_middleware(RepeatMiddleware)
    app.add_middleware(RequestMiddleware)
    for router in (*routers(), invite.router):
        # Not by include_router(), which makes every route anew and finds it slowly.
        app.router.routes.extend(router.routes)
    openapi.describe(app, routers())
    return app


def routers() -> Iterator[APIRouter]:
    """The router of every noun."""
    for name in _ROUTES:
        yield import_module(f"periflow_server.routes.{name}").router


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state = app.state
    scheduler = Scheduler(state.database, state.store, state.settings)
    state.wake = scheduler.wake
    scheduler.start()
    collector = Collector(state.database, state.store, state.settings)
    state.tidy = collector.wake
    collector.start()
    notifier = Notifier(state.database, state.settings)
    notifier.start()
    pruner = Pruner(state.database)
    pruner.start()
    state.mailer.start()
    try:
        yield
    finally:
        state.closing.set()
        state.mailer.stop()
        pruner.stop()
        notifier.stop()
        collector.stop()
        scheduler.stop()
        state.database.close()
