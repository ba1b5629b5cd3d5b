"""Bring a database to the schema of this version.

Alembic is imported only where there is something to migrate: it would cost the start of every
server half a second.
"""

from __future__ import annotations

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, String, Table, inspect, select
from sqlalchemy.exc import OperationalError

from periflow_sdk.errors import PeriFlowError, UsageError
from periflow_server.db.base import Base, Database
from periflow_server.migrations import HEAD, REVISIONS

_VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def prepare_schema(database: Database) -> None:
    """Make the tables of a new database, migrate an old one, leave a current one alone.

    Raises:
        UsageError: a newer version, or something else, has written this database.
        PeriFlowError: it does not answer (``database_unreachable``).
    """
    try:
        if current_revision(database) == HEAD:
            return
    except OperationalError as error:
        raise _unreachable(database, error) from error
    with database.preparation():
        _prepare(database, current_revision(database))


def _prepare(database: Database, revision: str | None) -> None:
    if revision == HEAD:
        return  # another server was faster
    if revision is None:
        _create(database)
    elif revision in REVISIONS:
        migrate(database)
    else:
        raise _foreign(f"has the schema {revision}, which this version does not know")


def current_revision(database: Database) -> str | None:
    """The revision of the schema that the database has, or None when it has no tables at all."""
    with database.engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        if not tables:
            return None
        if _VERSION.name not in tables:
            raise _foreign("has tables of something else")
        revision: str | None = connection.scalar(select(_VERSION.c.version_num))
        if revision is None:
            raise _foreign("does not say which schema it has")
        return revision


def migrate(database: Database) -> None:
    """Run all migrations that the database lacks, all or none."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "periflow_server:migrations")
    with database.migration() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def import_tables() -> None:
    """Import every module of tables, so that ``Base.metadata`` is whole."""
    from importlib import import_module
    from pkgutil import iter_modules

    from periflow_server import db

    for module in iter_modules(db.__path__):
        import_module(f"{db.__name__}.{module.name}")


def _create(database: Database) -> None:
    # A test holds that this gives what all migrations give, which take longer.
    import_tables()
    with database.write() as session:
        connection = session.connection()
        Base.metadata.create_all(connection)
        _VERSION.create(connection)
        connection.execute(_VERSION.insert().values(version_num=HEAD))


def _unreachable(database: Database, error: OperationalError) -> PeriFlowError:
    reason = str(error.orig).strip().splitlines()[-1]
    return PeriFlowError(
        f"The database {database.engine.url.render_as_string()} does not answer: {reason}",
        code="database_unreachable",
        hint="Check PERIFLOW_SERVER_DATABASE_URL, and whether the database runs.",
    )


def _foreign(fault: str) -> UsageError:
    return UsageError(
        f"The database {fault}.",
        hint="Install the newest PeriFlow, or give the server another database.",
    )
