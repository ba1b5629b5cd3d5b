"""Sealed texts, wherever they are: a table that has some has an ``id`` and a column ``sealed``."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Table, select, update
from sqlalchemy.orm import Session

from periflow_server.db.base import Base


def sealed_tables() -> list[Table]:
    """The tables with sealed texts; all modules of tables are imported before."""
    tables = Base.metadata.sorted_tables
    return [table for table in tables if {"id", "sealed"} <= set(table.columns.keys())]


def sealed_texts(session: Session, table: Table) -> Iterator[tuple[str, str]]:
    """The ids and sealed texts of a table; nobody else changes them until the end."""
    query = select(table.c.id, table.c.sealed).where(table.c.sealed.is_not(None))
    for row in session.execute(query.order_by(table.c.id).with_for_update()).all():
        yield row[0], row[1]


def replace_sealed(session: Session, table: Table, id: str, sealed: str) -> None:
    """Put another sealed text into a row."""
    session.execute(update(table).where(table.c.id == id).values(sealed=sealed))
