"""Bring a database to the schema of this version."""

from __future__ import annotations

from periflow_server.db.base import Base, Database


def prepare_schema(database: Database) -> None:
    """Make the tables of an empty database; leave a current one alone."""
    import_tables()
    Base.metadata.create_all(database.engine)


def import_tables() -> None:
    """Import every module of tables, so that ``Base.metadata`` is whole."""
    from importlib import import_module
    from pkgutil import iter_modules

    from periflow_server import db

    for module in iter_modules(db.__path__):
        import_module(f"{db.__name__}.{module.name}")
