"""The database: declarative base, column types, and short read and write transactions.

Each noun has a module here with its tables and its queries (functions that take a ``Session``).
Services open no transactions themselves: they are given a session by a route or a thread that did

    with database.read() as session: ...
    with database.write() as session: ...      # commits at exit, rolls back on an error

Objects stay readable after the block, but nothing is loaded lazily then.

Code is written for both databases: what a decision rests on is locked first (``lock``), work that
several servers look for is claimed (``claim``); SQLite, with one writer, needs neither. Who loses
a race all the same (a name taken meanwhile, a deadlock) is run again: see ``repetition.py``.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import DateTime, Dialect, MetaData, Select, func, inspect, select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from periflow_server.db.engine import WRITE, parse_url, postgresql_engine, sqlite_engine

__all__ = [
    "Base",
    "Database",
    "Session",
    "UtcDateTime",
    "after_commit",
    "claim",
    "lock",
    "new_id",
    "utcnow",
]

_SCHEMA_LOCK = 0x7066_0001
R = TypeVar("R", bound="Base")
Ts = TypeVarTuple("Ts")


def new_id() -> str:
    """A random identity, as text."""
    return str(uuid.uuid4())


def utcnow() -> datetime:
    """Now, aware of its time zone."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware going in, aware in UTC coming out, on databases with and without zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A datetime without a time zone was given to the database")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of all tables. Constraints have predictable names, so that migrations can alter them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime}  # noqa: RUF012  SQLAlchemy reads it from the class


def lock(session: Session, row: R) -> R:
    """Wait until nobody else changes the row, and read it anew; it is ours until the end.

    Lock what a decision rests on before reading it: PostgreSQL lets other transactions write
    meanwhile, SQLite does not. Of several rows lock the larger thing first: organization,
    project, job.
    """
    table = type(row)
    identity = inspect(row).identity
    assert identity is not None, "only what is in the database can be locked"
    columns = inspect(table).primary_key
    query = select(table).where(*(c == v for c, v in zip(columns, identity, strict=True)))
    query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(query).one()


def claim(query: Select[*Ts], *, to_delete: bool = False) -> Select[*Ts]:
    """The query for the rows that no other transaction holds: they are ours until the end.

    Args:
        to_delete: Nor may others begin to refer to them.
    """
    held = query.with_for_update(skip_locked=True, key_share=not to_delete)
    return held.execution_options(populate_existing=True)


def after_commit(session: Session, call: Callable[[], None]) -> None:
    """Have something done once this transaction is committed, and never if it is not.

    Args:
        call: May open a transaction of its own; raises nothing.
    """
    session.info.setdefault("after_commit", []).append(call)


class Database:
    """One database, SQLite or PostgreSQL.

    Args:
        url: ``sqlite:////absolute/path`` or ``postgresql://user:password@host/name``.
        connections: How many PostgreSQL may have at once; who needs one more waits.

    Raises:
        UsageError: the address is wrong, or the driver is not installed.
    """

    def __init__(self, url: str, connections: int = 20) -> None:
        parsed = parse_url(url)
        self.url = url
        self.info: dict[str, Any] = {}
        """What every session of it carries along in its own ``info``."""
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.engine = (
            sqlite_engine(parsed) if self.is_sqlite else postgresql_engine(parsed, connections)
        )
        self._writing = self.engine.execution_options(**{WRITE: True})
        self._reading = self.engine
        if not self.is_sqlite:
            self._reading = self.engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        # SQLite has one writer; queueing here is fair and does not sleep as its busy handler does.
        self._turn = threading.Lock() if self.is_sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading: one consistent view, nothing is kept of what it changes."""
        with Session(self._reading, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed at exit, all or none.

        Keep it short: on SQLite nobody else writes meanwhile. On PostgreSQL others do: see
        :func:`lock`. Never open one inside another.
        """
        session = Session(self._writing, expire_on_commit=False, info=dict(self.info))
        with self._turn, session, session.begin():
            yield session
        for call in session.info.pop("after_commit", ()):
            call()

    @contextmanager
    def preparation(self) -> Iterator[None]:
        """Nobody else makes or changes tables until the block ends."""
        if self.is_sqlite:
            yield  # one server has it
            return
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            yield

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """A connection for changing tables, in one transaction.

        SQLite changes a table by making it anew, which must not take along what refers to it:
        its foreign keys are off meanwhile and checked at the end.
        """
        with self._turn, self._writing.connect() as connection:
            driver = connection.connection.driver_connection
            if self.is_sqlite and driver is not None:
                driver.execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
                    if self.is_sqlite:
                        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                        if broken:
                            raise RuntimeError(f"The migration broke references: {broken[:5]}")
            finally:
                if self.is_sqlite and driver is not None:
                    driver.execute("PRAGMA foreign_keys = ON")

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
