"""Connections to the two databases, prepared so that both behave the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Engine,
    Select,
    String,
    bindparam,
    create_engine,
    event,
    func,
    select,
    text,
)
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Session

from periflow_sdk.errors import UsageError

WRITE = "periflow_write"
"""The execution option of connections that will write."""
LOCK_SECONDS = 15
"""How long a statement waits for the lock of another before it gives up."""
_IDLE_SECONDS = 60
"""A transaction that does nothing for so long is that of a server that hangs: it is ended."""
_POSTGRESQL_NAMES = ("postgres", "postgresql", "postgresql+psycopg")


def parse_url(text: str) -> URL:
    """The address of a database, with the driver that we use.

    Raises:
        UsageError: it is no address, or that of a database of another kind.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(
            "The address of the database cannot be read.",
            hint="Set PERIFLOW_SERVER_DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME.",
        ) from None
    if url.drivername in _POSTGRESQL_NAMES:
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite":
        raise UsageError(
            f"PeriFlow keeps its data in PostgreSQL or SQLite, not in {url.drivername}.",
            hint="Set PERIFLOW_SERVER_DATABASE_URL=postgresql://USER:PASSWORD@HOST/NAME.",
        )
    return url


def sqlite_engine(url: URL) -> Engine:
    """An engine whose transactions begin when and as they are told to."""
    engine = create_engine(
        url,
        pool_size=8,
        max_overflow=40,
        connect_args={"check_same_thread": False, "timeout": LOCK_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def postgresql_engine(url: URL, connections: int) -> Engine:
    """An engine with at most so many connections.

    Raises:
        UsageError: the driver is not installed.
    """
    try:
        engine = create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True)
    except ImportError as error:
        raise UsageError(
            "The driver of PostgreSQL is missing.",
            hint="Run `pip install 'periflow-server[postgresql]'`.",
        ) from error
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def insert(session: Session, table: type[DeclarativeBase]) -> Any:
    """An INSERT that knows ON CONFLICT, as both databases have it in their own way."""
    # Imported here: the start of every server would pay for both.
    if session.get_bind().dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def texts(session: Session, values: Collection[str]) -> Select[str]:
    """A query for these texts, for `column.in_(...)`; they are sent as one value.

    PostgreSQL looks through a list of parameters for each row, unless statistics of the table make
    it use the index.
    """
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(list(values))).table_valued("value")
        return select(each.c.value)
    return select(func.unnest(bindparam(None, list(values), type_=ARRAY(String))))


def numbered(session: Session, values: Mapping[str, int]) -> Select[str, int]:
    """A query for these texts and the number of each, for an INSERT of them in their order.

    They are sent as one value or two, however many: rows beside a statement take PostgreSQL a
    message each.
    """
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(list(values.items()))).table_valued("value")
        value = each.c.value
        query = select(func.json_extract(value, "$[0]"), func.json_extract(value, "$[1]"))
        return query.where(text("true"))  # else ON CONFLICT would be read as a part of a join
    names = bindparam(None, list(values), type_=ARRAY(String))
    numbers = bindparam(None, list(values.values()), type_=ARRAY(BigInteger))
    return select(func.unnest(names), func.unnest(numbers))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late and deferred; ours begins itself.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        f"busy_timeout = {LOCK_SECONDS * 1000}",
        "journal_size_limit = 67108864",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns to writing late can fail at once with "database is locked".
    immediate = connection.get_execution_options().get(WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.adapters.register_dumper(str, _text_dumper())
    with connection.cursor() as cursor:
        # Not in the address: some poolers refuse options there.
        cursor.execute(
            f"SET lock_timeout = '{LOCK_SECONDS}s';"
            f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"
        )
    connection.commit()


@lru_cache(maxsize=1)
def _text_dumper() -> Any:
    from psycopg.types.string import StrDumperUnknown

    class TextDumper(StrDumperUnknown):
        """PostgreSQL has no NUL in texts; what programs print and people paste may have."""

        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

    return TextDumper
